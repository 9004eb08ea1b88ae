import { z } from 'zod'
import type { References } from './config-references.js'
import { ConfigFile } from './config-schema.js'
import type { EngineOptions, OpaOptions } from './policy/opa/options.js'
import type { PolicyFile } from './policy/options.js'

/**
 * As much of the file as policies are read with: nothing of it is a secret, so that they can be checked where no secret is. What else stands
 * there is the whole configuration's to check.
 */
export const PolicyPart = z.looseObject({
  policies: ConfigFile.shape.policies,
  vocabulary: ConfigFile.shape.vocabulary,
  providers: z.record(z.string(), z.unknown()),
  roles: z.record(z.string(), z.unknown()),
  tools: z.record(z.string(), z.unknown()).default({}),
  issuers: z.record(z.string(), z.unknown()),
  agents: z.array(z.looseObject({ team: z.string().optional() })).default([]),
  orchestrators: z.array(z.looseObject({ team: z.string().optional() })).default([]),
  operators: z.array(z.looseObject({ team: z.string().optional(), groups: z.array(z.string()) })).default([]),
  gateways: z.array(z.looseObject({ team: z.string().optional() })).default([]),
  humans: z.array(ConfigFile.shape.humans.unwrap().element.pick({ team: true, groups: true }).loose()).default([]),
})
export type PolicyPart = Pick<
  z.output<typeof PolicyPart>,
  'policies' | 'vocabulary' | 'providers' | 'roles' | 'tools' | 'issuers' | 'agents' | 'orchestrators' | 'operators' | 'gateways' | 'humans'
>

export async function policyOf(file: PolicyPart, refs: References, problems: string[]): Promise<EngineOptions> {
  const { policies } = file
  const rules = [...file.agents, ...file.orchestrators, ...file.operators, ...file.gateways, ...file.humans]
  const unique = (values: readonly (string | undefined)[]) => [...new Set(values.filter((value) => value !== undefined))]
  const consenting = unique(file.operators.flatMap((operator) => operator.groups))
  if (policies.engine === 'opa') return opaOf(policies, vocabularyOf(file), consenting, problems)
  return {
    schema: (await refs.read(policies.schema, 'policies.schema')) ?? '',
    files: await filesOf(policies, refs, problems),
    vocabulary: vocabularyOf(file),
    known: {
      teams: unique(rules.map((rule) => rule.team)),
      groups: unique([...consenting, ...file.humans.flatMap(({ groups = [] }) => (Array.isArray(groups) ? groups : Object.keys(groups)))]),
      consenting,
      providers: Object.keys(file.providers),
      roles: Object.keys(file.roles),
      tools: Object.keys(file.tools),
      issuers: Object.keys(file.issuers),
    },
    memoSize: policies.memo,
  }
}

type Cedar = Extract<PolicyPart['policies'], { files: unknown }>
type Opa = Exclude<PolicyPart['policies'], Cedar>

function opaOf(policies: Opa, vocabulary: Vocabulary, groups: readonly string[], problems: string[]): OpaOptions {
  const { engine, url, path, timeout, concurrency, token, ca, memo } = policies
  const unknown = (policies.stop ?? []).filter((group) => !groups.includes(group))
  problems.push(...unknown.map((group) => `policies.stop: no operator is in "${group}"`))
  if (!url.startsWith('https:') && !policies.allow_http_loopback) problems.push('policies.url: must be https')
  return {
    ...{ engine, url, path, token, ca, concurrency },
    timeoutMs: timeout,
    allowHttpLoopback: policies.allow_http_loopback,
    allowPrivateAddresses: policies.allow_private_addresses,
    memoSize: memo,
    vocabulary,
    known: { groups },
    stop: policies.stop ?? [],
    watchMs: policies.watch,
  }
}

/** The names alone, which are all that policies know. */
export interface Vocabulary {
  readonly intents: readonly string[]
  readonly environments: readonly string[]
}

export function vocabularyOf({ vocabulary: { intents, environments } }: Pick<PolicyPart, 'vocabulary'>): Vocabulary {
  return { intents: intents.map(({ name }) => name), environments }
}

/** A file that is named to be observed is not taken in by a pattern beside it. Whatever else is said in two ways is a mistake. */
async function filesOf(policies: Cedar, refs: References, problems: string[]): Promise<PolicyFile[]> {
  const named = policies.files.map((one) => (typeof one === 'string' ? { path: one, mode: 'enforce' as const } : one))
  const found = await Promise.all(named.map(async (entry) => ({ ...entry, files: await refs.glob([entry.path], 'policies.files') })))
  const isPattern = ({ path }: { path: string }) => path.includes('*')
  const observed = found.filter(({ mode }) => mode === 'observe')
  return found.flatMap((entry) => {
    if (entry.mode === 'observe') return entry.files.map((file) => ({ ...file, mode: 'observe' as const }))
    return entry.files.filter(({ name }) => {
      const by = observed.find(({ files }) => files.some((file) => file.name === name))
      if (by && (isPattern(by) || !isPattern(entry)))
        problems.push(`policies.files: ${name} is to be enforced by ${entry.path} and observed by ${by.path}`)
      return !by
    })
  })
}
