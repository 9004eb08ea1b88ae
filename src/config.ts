import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { issuerOf, unusedDomains } from './config-issuers.js'
import { type LedgerConfig, ledgerOf } from './config-ledger.js'
import { PolicyPart, policyOf, type Vocabulary, vocabularyOf } from './config-policy.js'
import { createReferences, type References } from './config-references.js'
import { ConfigFile, type EnvelopeFile, type ToolEntryFile } from './config-schema.js'
import { type ApprovalsConfig, approvalsOf, type ClassifierConfig, classifierOf } from './config-services.js'
import type { Limits, Reconciling } from './house.js'
import type { IdentityOptions, Match } from './identity/options.js'
import type { RiskRules } from './ledger/ledger.js'
import type { EngineOptions } from './policy/opa/options.js'
import { providers as modules } from './providers/index.js'
import type { ProviderModule } from './providers/provider.js'
import type { SealingKeys } from './sealing.js'
import type { EnvelopeEntry, Role, Tool, ToolEntry } from './types.js'

/** The configuration as the house uses it: read, checked, resolved and frozen. */
export interface Config {
  readonly instance: string
  readonly dataDir: string
  readonly listeners: ConfigFile['listeners']
  readonly ledger: LedgerConfig
  readonly signing?: { readonly issuer: string; readonly keys: { readonly keys: readonly object[] } }
  /** With which handles that are secrets are kept. */
  readonly sealing?: { readonly keys: SealingKeys }
  readonly identity: IdentityOptions
  readonly policy: EngineOptions
  readonly providers: readonly ProviderConfig[]
  readonly roles: readonly Role[]
  /** The catalogue. */
  readonly tools: readonly Tool[]
  readonly vocabulary: Vocabulary
  readonly classifier?: ClassifierConfig
  readonly limits: Limits & { readonly requestsPerSecond: number }
  readonly approvals: ApprovalsConfig
  /** How what agents do raises their risk; absent: it is not counted. */
  readonly risk?: RiskRules
  /** By names; the house has them as they are. */
  readonly drills: readonly {
    readonly role: string
    readonly agent: string
    readonly intent: string
    readonly environment: string
    readonly everyMs: number
  }[]
  readonly reconciling: Reconciling
  readonly sinks: readonly { readonly name: string; readonly path: string }[]
  readonly logLevel: ConfigFile['log']['level']
  /** Every file that was read: what to watch. */
  readonly files: readonly string[]
}
export interface ProviderConfig {
  readonly name: string
  readonly module: ProviderModule
  readonly options: unknown
  readonly concurrency: number
  readonly timeoutMs: number
}

/** Everything that is wrong, each with its path. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(
    readonly file: string,
    readonly problems: readonly string[],
  ) {
    super(`${file} cannot be used:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`)
  }
}

/** @throws ConfigError that names every problem by its path */
export async function loadConfig(path: string, env: Readonly<Record<string, string | undefined>>): Promise<Config> {
  const problems: string[] = []
  const refs = createReferences(dirname(resolve(path)), env, problems)
  const written = await readYaml(path, problems)
  problems.push(...secretsIn(written))
  const raw = await refs.resolve(written)
  if (problems.length > 0) throw new ConfigError(path, problems)
  const parsed = ConfigFile.safeParse(raw, { reportInput: true })
  if (!parsed.success)
    throw new ConfigError(
      path,
      parsed.error.issues.flatMap((issue) => sentences(issue)),
    )
  const config = await assemble(parsed.data, resolve(path), refs, problems)
  if (problems.length > 0) throw new ConfigError(path, problems)
  return deepFreeze(config)
}

/**
 * What the file says of policies, and nothing else of it: no secret is needed but the token for an OPA, and no upstream is looked at.
 * @throws ConfigError
 */
export async function loadPolicyOptions(path: string, env: Readonly<Record<string, string | undefined>>): Promise<EngineOptions> {
  const problems: string[] = []
  const refs = createReferences(dirname(resolve(path)), env, problems)
  const read = await readYaml(path, problems)
  problems.push(...secretsIn(read))
  const written = { ...Object(read), policies: await refs.resolve(Object(read).policies, ['policies']) }
  if (problems.length > 0) throw new ConfigError(path, problems)
  const parsed = PolicyPart.safeParse(written, { reportInput: true })
  if (!parsed.success)
    throw new ConfigError(
      path,
      parsed.error.issues.map((issue) => sentence(issue)),
    )
  const policy = await policyOf(parsed.data, refs, problems)
  if (problems.length > 0) throw new ConfigError(path, problems)
  return deepFreeze(policy)
}

/** JSON Schema of the file, for editors. */
export function configJsonSchema(): object {
  const schema = z.toJSONSchema(ConfigFile, { io: 'input', unrepresentable: 'any' })
  const common = { concurrency: { type: 'integer', minimum: 1, maximum: 256, default: 8 }, timeout: { type: 'string', default: '5s' } }
  const anyOf = modules.map((module) => {
    const own = z.toJSONSchema(module.options, { io: 'input', unrepresentable: 'any' })
    return {
      type: 'object',
      properties: { type: { const: module.type }, ...common, ...own.properties },
      required: ['type', ...(own.required ?? [])],
      additionalProperties: false,
    }
  })
  const properties = { ...schema.properties, providers: { type: 'object', additionalProperties: { anyOf } } }
  return { ...schema, title: 'Mayfly configuration', properties }
}

async function readYaml(path: string, problems: string[]): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError(path, [error.code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${error.code})`])
  })
  const document = parseDocument(text, { uniqueKeys: true, strict: true })
  problems.push(...document.errors.map((error) => error.message.split('\n')[0] ?? 'it is not YAML'))
  return document.toJS({ maxAliasCount: 0 }) as unknown
}

/** Secrets that stand in the file itself, where everybody who may read it, and its history, would find them. */
function secretsIn(written: unknown): string[] {
  const parsed = z
    .looseObject({
      providers: z.record(z.string(), z.looseObject({ type: z.string() })),
      policies: z.looseObject({ token: z.string() }).partial(),
      classifier: z.looseObject({ secret: z.string() }),
      approvals: z.looseObject({ webhooks: z.array(z.looseObject({ secret: z.string() })) }),
      ledger: z.looseObject({ redis: z.unknown() }),
    })
    .partial()
    .safeParse(written)
  if (!parsed.success) return []
  const secret = (value: unknown, path: string) =>
    typeof value === 'string' && !/^(env|file):/.test(value) ? [`${path}: is a secret; give it as env:NAME or file:PATH instead`] : []
  const keys = (['signing', 'sealing'] as const).flatMap((name) => secret(Object(parsed.data[name]).keys, `${name}.keys`))
  const options = Object.entries(parsed.data.providers ?? {}).flatMap(([name, options]) =>
    (modules.find(({ type }) => type === options.type)?.secrets ?? []).flatMap((field) => secret(options[field], `providers.${name}.${field}`)),
  )
  const hooks = (parsed.data.approvals?.webhooks ?? []).flatMap(({ secret: given }, index) => secret(given, `approvals.webhooks.${index}.secret`))
  const services = [...secret(parsed.data.policies?.token, 'policies.token'), ...secret(parsed.data.classifier?.secret, 'classifier.secret')]
  const redis = (['sentinel', 'cluster'] as const).flatMap((kind) =>
    ['password', 'sentinel_password'].flatMap((field) =>
      secret(Object(Object(parsed.data.ledger?.redis)[kind])[field], `ledger.redis.${kind}.${field}`),
    ),
  )
  return [...keys, ...options, ...hooks, ...services, ...redis]
}

async function assemble(file: ConfigFile, path: string, refs: References, problems: string[]): Promise<Config> {
  const at = (relative: string) => (isAbsolute(relative) ? relative : resolve(dirname(path), relative))
  const providers = providersOf(file, problems)
  const roles = rolesOf(file, new Map(providers.map((one) => [one.name, one])), problems)
  if (Object.keys(file.audit.sinks).length === 0) problems.push('audit.sinks: name at least one: what is not recorded is not issued')
  return {
    instance: file.instance,
    dataDir: at(file.data_dir),
    listeners: file.listeners,
    ledger: ledgerOf(file, problems),
    signing: file.signing,
    sealing: file.sealing,
    identity: identityOf(file, problems),
    policy: await policyOf(file, refs, problems),
    providers,
    roles,
    tools: Object.entries(file.tools).map(([name, tool]) => ({ name, ...tool })),
    vocabulary: vocabularyOf(file),
    classifier: classifierOf(file, problems),
    limits: {
      perAgentLive: file.limits.per_agent_live,
      perTaskLive: file.limits.per_task_live,
      perAgentTasks: file.limits.per_agent_tasks,
      maxTaskSeconds: file.limits.max_task,
      maxTaskDepth: file.limits.max_task_depth,
      withinTokenLife: file.limits.within_token_life,
      requestsPerSecond: file.limits.requests_per_second,
    },
    approvals: approvalsOf(file, problems),
    risk: riskOf(file),
    drills: drillsOf(file, problems),
    reconciling: reconcilingOf(file),
    sinks: Object.entries(file.audit.sinks).map(([name, sink]) => ({ name, path: at(sink.path) })),
    logLevel: file.log.level,
    files: [path, ...refs.files],
  }
}

const NEEDS = { signing: '"signing" (issuer and keys)', sealing: '"sealing" (keys): its handles are kept encrypted' } as const

function providersOf(file: ConfigFile, problems: string[]): ProviderConfig[] {
  return Object.entries(file.providers).flatMap(([name, { type, concurrency, timeout, ...rest }]) => {
    const module = modules.find((candidate) => candidate.type === type)
    if (!module) {
      problems.push(`providers.${name}.type: "${type}" is none of ${modules.map((one) => one.type).join(', ')}`)
      return []
    }
    for (const need of module.needs ?? []) if (!file[need]) problems.push(`providers.${name}: a ${type} provider needs ${NEEDS[need]}`)
    const options = module.options.safeParse(rest, { reportInput: true })
    if (!options.success) problems.push(...options.error.issues.map((issue) => sentence(issue, ['providers', name])))
    return options.success ? [{ name, module, options: options.data, concurrency, timeoutMs: timeout }] : []
  })
}

function rolesOf(file: ConfigFile, providers: ReadonlyMap<string, ProviderConfig>, problems: string[]): Role[] {
  return Object.entries(file.roles).flatMap(([name, role]) => {
    const provider = providers.get(role.provider)
    if (!provider) {
      if (!Object.hasOwn(file.providers, role.provider)) problems.push(`roles.${name}.provider: there is no provider "${role.provider}"`)
      return []
    }
    const params = provider.module.params.safeParse(role.params, { reportInput: true })
    if (!params.success) {
      problems.push(...params.error.issues.map((issue) => sentence(issue, ['roles', name, 'params'])))
      return []
    }
    problems.push(...provider.module.checkRole(params.data, role.scope, provider.options).map((problem) => `roles.${name}: ${problem}`))
    // A permit for read or write never matches what leads to other credentials.
    for (const what of role.access === 'escalate' ? [] : (provider.module.escalates?.(params.data) ?? []))
      problems.push(`roles.${name}.access: must be escalate: ${what}`)
    const { access, sensitivity, scope, labels } = role
    const maxLifetimeSeconds = role.max_lifetime ?? role.max_ttl
    if (maxLifetimeSeconds < role.max_ttl) problems.push(`roles.${name}.max_lifetime: is shorter than max_ttl`)
    const life = { maxTtlSeconds: role.max_ttl, maxLifetimeSeconds, maxRenewals: role.max_renewals }
    return [{ name, provider: role.provider, access, sensitivity, ...life, scope, labels, params: params.data }]
  })
}

function identityOf(file: ConfigFile, problems: string[]): IdentityOptions {
  const known = (path: string, issuer: string) => {
    if (!Object.hasOwn(file.issuers, issuer)) problems.push(`${path}.match.issuer: there is no issuer "${issuer}"`)
  }
  const ruleOf = <R extends { match: { issuer: string } & Record<string, unknown> }>(kind: string) => {
    return (rule: R, index: number) => {
      known(`${kind}[${index}]`, rule.match.issuer)
      const { issuer, ...claims } = rule.match
      return { ...rule, match: { issuer, claims } as Match }
    }
  }
  problems.push(...unusedDomains(file))
  return {
    issuers: Object.fromEntries(Object.entries(file.issuers).flatMap(([name, issuer]) => issuerOf(name, issuer, problems))),
    agents: file.agents.map(ruleOf<(typeof file.agents)[number]>('agents')).map(({ open_tasks, on_behalf_of, ...rule }, index) => {
      for (const entry of open_tasks?.envelope ?? [])
        if (!Object.hasOwn(file.roles, entry.role)) problems.push(`agents[${index}].open_tasks: there is no role "${entry.role}"`)
      for (const entry of open_tasks?.tools ?? [])
        if (!Object.hasOwn(file.tools, entry.tool)) problems.push(`agents[${index}].open_tasks: there is no tool "${entry.tool}"`)
      return {
        ...rule,
        openTasks: open_tasks && envelopeOf(open_tasks.envelope),
        openTools: open_tasks && toolsOf(open_tasks.tools),
        onBehalfOf: on_behalf_of,
      }
    }),
    orchestrators: file.orchestrators.map(ruleOf<(typeof file.orchestrators)[number]>('orchestrators')).map(({ on_behalf_of, ...rule }) => {
      return { ...rule, onBehalfOf: on_behalf_of }
    }),
    operators: file.operators.map(ruleOf<(typeof file.operators)[number]>('operators')).map(({ person, ...rule }) => {
      return { ...rule, persons: person === undefined ? undefined : [person].flat() }
    }),
    gateways: file.gateways.map(ruleOf<(typeof file.gateways)[number]>('gateways')).map(gatewayOf(file, problems)),
    humans: file.humans.map(ruleOf<(typeof file.humans)[number]>('humans')),
    ownIssuers: file.signing ? [file.signing.issuer] : [],
  }
}

/** A pattern stands for the tools of the catalogue that begin so. */
function gatewayOf({ tools: catalogue }: ConfigFile, problems: string[]) {
  const names = Object.keys(catalogue)
  return <R extends { tools: string[] }>(rule: R, index: number) => {
    const tools = rule.tools.flatMap((pattern) => {
      const meant = pattern.endsWith('/*') ? names.filter((name) => name.startsWith(pattern.slice(0, -1))) : names.filter((name) => name === pattern)
      if (meant.length === 0) problems.push(`gateways[${index}].tools: there is no tool "${pattern}"`)
      return meant
    })
    return { ...rule, tools: [...new Set(tools)] }
  }
}

function riskOf({ risk }: ConfigFile): RiskRules | undefined {
  if (!risk.enabled) return undefined
  const ramp = ({ window, ...rest }: typeof risk.rate) => ({ ...rest, windowMs: window * 1000 })
  const { learn, memory, ...novelty } = risk.novelty
  return {
    halfLifeMs: risk.half_life * 1000,
    rate: ramp(risk.rate),
    loop: ramp(risk.loop),
    refused: risk.refused,
    novelty: { ...novelty, learnMs: learn, memoryMs: memory * 1000 },
    drift: risk.drift,
  }
}

function drillsOf({ drills, roles, agents, vocabulary }: ConfigFile, problems: string[]): Config['drills'] {
  return drills.map(({ role, agent, intent, environment, every: everyMs }, index) => {
    const at = `drills.${index}`
    if (!roles[role]) problems.push(`${at}.role: there is no role "${role}"`)
    if (agent.includes('{') || !agents.some(({ id }) => id === agent))
      problems.push(`${at}.agent: no rule below agents: makes "${agent}" and no other id`)
    if (!vocabulary.intents.some(({ name }) => name === intent)) problems.push(`${at}.intent: "${intent}" is not in vocabulary.intents`)
    if (!vocabulary.environments.includes(environment)) problems.push(`${at}.environment: "${environment}" is not in vocabulary.environments`)
    return { role, agent, intent, environment, everyMs }
  })
}

function reconcilingOf({ reconcile: { enabled, every, revoke, most } }: ConfigFile): Config['reconciling'] {
  return { everyMs: enabled ? every : 0, revoke, most }
}

function envelopeOf(envelope: EnvelopeFile): EnvelopeEntry[] {
  return envelope.map(({ role, scope, max_ttl, max_leases }) => ({ role, scope, maxTtlSeconds: max_ttl, maxLeases: max_leases }))
}

function toolsOf(tools: readonly ToolEntryFile[]): ToolEntry[] {
  return tools.map(({ tool, actions, targets, max_calls }) => ({ tool, actions, targets, maxCalls: max_calls }))
}

/** Of a field with several forms, what is wrong with the one that was meant. */
function sentences(issue: z.core.$ZodIssue): string[] {
  const forms = issue.code === 'invalid_union' && issue.message === 'Invalid input' ? issue.errors : []
  const meant = forms.find((issues) => issues.every(({ path, code }) => path.length > 0 || code !== 'invalid_type'))
  return meant ? meant.map((inner) => sentence(inner, issue.path.map(String))) : [sentence(issue)]
}

/** `providers.warehouse: unknown field "ur1"`. */
function sentence(issue: z.core.$ZodIssue, prefix: readonly string[] = []): string {
  const path = [...prefix, ...issue.path.map(String)].join('.') || 'the file'
  if (issue.code === 'unrecognized_keys') return `${path}: unknown field ${issue.keys.map((key) => `"${key}"`).join(', ')}`
  if (issue.code === 'invalid_type' && issue.input === undefined) return `${path}: missing (expected ${issue.expected})`
  return `${path}: ${issue.message}`
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value) || value instanceof z.ZodType) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) deepFreeze(inner)
  return value
}
