import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { type Config, ConfigError, type ProviderConfig } from './config.js'
import type { Drill } from './drill.js'
import { event } from './event.js'
import type { House } from './house.js'
import { openChannel } from './identity/channel.js'
import type { Identity } from './identity/identity.js'
import { createIdentity, createRoster, createStanding } from './identity/index.js'
import { post, postForJson } from './identity/outbound.js'
import type { Roster } from './identity/roster.js'
import type { Ledger } from './ledger/ledger.js'
import { openEngine } from './policy/index.js'
import { reviewAgent } from './review.js'
import { openRisks, withConduct } from './risk.js'
import { openSealer, type Sealer } from './sealing.js'
import { ANSWERS, approvalNotice, openClassifier, openWebhooks, type Webhooks } from './signals/index.js'
import { openSigner, type TokenSigner } from './signer.js'
import { createUpstream, type Upstream } from './upstream.js'

/** One snapshot of everything that a configuration names; a reload makes a new one. */
export interface Furnished {
  readonly config: Config
  readonly house: House
  readonly identity: Identity
  readonly signer: TokenSigner | undefined
  readonly sealer: Sealer | undefined
  readonly webhooks: Webhooks
}

/** Opens everything that a configuration names; what did not change is taken over from `before`. */
export async function furnish(
  config: Config,
  shared: Pick<House, 'ledger' | 'metrics' | 'log' | 'background'>,
  before?: Furnished,
  onOtherPolicies?: (version: string) => void,
): Promise<Furnished> {
  const policy = await openEngine(
    config.policy,
    { open: openChannel, onAsked: (outcome, seconds) => shared.metrics.policySeconds.observe({ outcome }, seconds), onOtherPolicies },
    (difference) => shared.metrics.observed.inc(difference),
  )
  const signer = config.signing && (await openSigner(config.signing))
  const sealer = config.sealing && (await openSealer(config.sealing.keys))
  const identity = createIdentity(config.identity, { consume: shared.ledger.consume, now: shared.ledger.now }, before?.identity)
  const upstreams = await openUpstreams(config, { signer, sealer, ...shared }, before).catch(async (error: unknown) => {
    await identity.close()
    policy.close()
    throw error
  })
  const webhooks = webhooksOf(config, shared)
  const roster = createRoster(config.identity.agents)
  const risk = openRisks(shared.ledger, config.risk, async (agent) => {
    const reviewed = reviewAgent(house, agent)
    shared.background.run('review', reviewed)
    await reviewed.catch(() => undefined)
  })
  const house: House = {
    instance: config.instance,
    ...shared,
    policy: withConduct(policy, risk),
    risk,
    roles: new Map(config.roles.map((role) => [role.name, role])),
    tools: new Map(config.tools.map((tool) => [tool.name, tool])),
    roster,
    breakGlass: new Set(Object.entries(config.identity.issuers).flatMap(([name, { breakGlass }]) => (breakGlass ? [name] : []))),
    humans: { verify: identity.verifyHuman, standing: createStanding(config.identity.humans) },
    upstreams,
    vocabulary: { intents: new Set(config.vocabulary.intents), environments: new Set(config.vocabulary.environments) },
    classifier: classifierOf(config, shared),
    limits: config.limits,
    drills: drillsOf(config, roster),
    reconciling: config.reconciling,
    approvals: { ...config.approvals, notify: (what, approval) => webhooks.send(approvalNotice(what, approval)) },
  }
  return { config, house, identity, signer, sealer, webhooks }
}

function drillsOf({ drills, roles, identity }: Config, roster: Roster): Drill[] {
  return drills.flatMap(({ role: name, agent: id, intent, environment, everyMs }) => {
    const role = roles.find((one) => one.name === name)
    const rule = identity.agents?.find((one) => one.id === id)
    const [agent] = rule ? roster({ id, issuer: rule.match.issuer, instance: rule.instance === undefined ? undefined : 'drill' }) : []
    if (!role || !agent) return []
    return [{ role, agent, task: { intent, classified: true, confidence: 1, classification: role.sensitivity, environment }, everyMs }]
  })
}

function webhooksOf({ approvals }: Config, { ledger, log, metrics }: Pick<House, 'ledger' | 'log' | 'metrics'>): Webhooks {
  return openWebhooks(approvals.webhooks, {
    post: (hook, { headers, body, timeoutMs, signal }) => post(hook.url, { headers, body }, { ...hook, timeoutMs, signal }),
    now: ledger.now,
    onOutcome: (outcome, about) => {
      metrics.webhooks.inc({ outcome })
      if (outcome !== 'sent') log.warn(about, `a webhook was ${outcome}`)
    },
  })
}

function classifierOf({ classifier }: Config, { ledger, log, metrics }: Pick<House, 'ledger' | 'log' | 'metrics'>): House['classifier'] {
  if (!classifier) return undefined
  const { classify } = openClassifier(classifier, {
    ask: ({ url, ...rules }, { headers, body, ...bounds }) => postForJson(url, { headers, body }, { ...rules, ...bounds }),
    now: ledger.now,
    onVerdict: ({ outcome, ms }) => {
      metrics.classified.inc({ outcome })
      metrics.classifySeconds.observe(ms / 1000)
      if (!ANSWERS.has(outcome)) log.warn({ outcome, ms }, 'the classifier gave no answer: the task is unclassified')
    },
  })
  return { classify, trusts: ({ id }) => classifier.when === 'unclassified' || classifier.trust.includes(id) }
}

/** What providers may need of the rest of the house. */
interface Tools {
  readonly signer: TokenSigner | undefined
  readonly sealer: Sealer | undefined
  readonly ledger: Ledger
  readonly log: House['log']
  readonly background: House['background']
}

/** All, or none: what was opened before one failed is closed again. */
async function openUpstreams(config: Config, tools: Tools, before: Furnished | undefined): Promise<Map<string, Upstream>> {
  const upstreams = new Map<string, Upstream>()
  const opened: Upstream[] = []
  try {
    for (const provider of config.providers) {
      const same = kept(provider, before, config)
      const upstream = same ?? (await openUpstream(provider, config, tools))
      if (!same) opened.push(upstream)
      upstreams.set(provider.name, upstream)
    }
    return upstreams
  } catch (error) {
    await Promise.all(opened.map((upstream) => upstream.close()))
    throw error
  }
}

async function openUpstream(
  provider: ProviderConfig,
  { instance, roles }: Config,
  { signer, sealer, ledger, log, background }: Tools,
): Promise<Upstream> {
  const { name, concurrency, timeoutMs } = provider
  const tell = (what: string, detail: Readonly<Record<string, unknown>>) => {
    log.warn({ provider: name, ...detail }, what)
    background.run('tell', ledger.record(event('provider.told', undefined, undefined, { provider: name, detail: { ...detail, what } })))
  }
  const withdraw = (why: string, concerns: (params: unknown) => boolean) => {
    const role = roles.filter((one) => one.provider === name && concerns(one.params)).map((one) => one.name)
    if (role.length === 0) return
    const selector = { provider: [name], role }
    const told = event('revocation.started', undefined, undefined, { provider: name, detail: { selector, reason: why } })
    // Whoever sweeps carries it on.
    background.run('withdraw', ledger.openRevocation({ selector, reason: why, by: `provider ${name}` }, told))
  }
  const context = { name, instance, timeoutMs, concurrency, signer, now: () => ledger.now(), register: ledger.register(name), tell, withdraw }
  const opened = await provider.module.open(provider.options, context)
  return createUpstream(opened, { name, concurrency, timeoutMs, sealer })
}

function kept(provider: ProviderConfig, before: Furnished | undefined, config: Config): Upstream | undefined {
  if (!before || !isDeepStrictEqual(before.config.signing, config.signing) || !isDeepStrictEqual(before.config.sealing, config.sealing))
    return undefined
  const old = before.config.providers.find((one) => one.name === provider.name)
  return old && isDeepStrictEqual(old, provider) ? before.house.upstreams.get(provider.name) : undefined
}

/** Longer than any request takes. */
const RETIRE_MS = 30_000

/** Closes what the new snapshot does not use, once whoever works with it had the time to end, or has been waited for. */
export async function retire(before: Furnished, after: Furnished, drained: AbortSignal): Promise<void> {
  const kept = new Set(after.house.upstreams.values())
  await pause(RETIRE_MS, undefined, { ref: false, signal: drained }).catch(() => undefined)
  await before.identity.close()
  await before.webhooks.close()
  before.house.policy.close()
  await Promise.all([...before.house.upstreams.values()].filter((upstream) => !kept.has(upstream)).map((upstream) => upstream.close()))
}

/** What a reload may not do: take from unsettled leases what they still need, or change what only a start can change. */
export async function refuseUnsafe(before: Config, next: Config, ledger: Ledger): Promise<void> {
  const problems: string[] = []
  for (const field of ['instance', 'dataDir', 'ledger', 'sinks'] as const)
    if (!isDeepStrictEqual(before[field], next[field])) problems.push(`${field}: changes only with a restart`)
  if (!isDeepStrictEqual(addressesOf(before), addressesOf(next))) problems.push('listeners: only certificates change without a restart')
  if (before.limits.requestsPerSecond !== next.limits.requestsPerSecond) problems.push('limits.requests_per_second: changes only with a restart')
  problems.push(...(await missingKeys(next, ledger)))
  const [providers, roles] = await Promise.all([ledger.providersInUse(), ledger.rolesInUse()])
  for (const name of providers) {
    const old = before.providers.find((one) => one.name === name)
    const now = next.providers.find((one) => one.name === name)
    if (!now) problems.push(`providers.${name}: unsettled leases still need it`)
    else if (old && (old.module !== now.module || targetOf(old) !== targetOf(now)))
      problems.push(`providers.${name}: unsettled leases still need the upstream that it pointed at`)
  }
  for (const name of roles) if (!next.roles.some((role) => role.name === name)) problems.push(`roles.${name}: unsettled leases still need it`)
  if (problems.length > 0) throw new ConfigError(next.files[0] ?? 'the configuration', problems)
}

/** Keys that unsettled leases' handles are sealed with and that the configuration does not have: without them nothing of theirs can be revoked. */
export async function missingKeys({ sealing }: Config, ledger: Ledger): Promise<string[]> {
  const there = new Set(sealing?.keys.keys.map(({ kid }) => kid))
  const missing = (await ledger.sealingKeysInUse()).filter((kid) => !there.has(kid))
  return missing.map((kid) => `sealing.keys: leases that live need the key "${kid}": add it, in any place but the first`)
}

/** The listeners without what their certificates say: those are renewed while it runs. */
function addressesOf({ listeners }: Config): unknown {
  const bare = (listener: Config['listeners']['operator']) => listener && { ...listener, tls: listener.tls && { spiffe: listener.tls.spiffe } }
  return { public: bare(listeners.public), operator: bare(listeners.operator), metrics: listeners.metrics }
}

function targetOf(provider: ProviderConfig): string {
  return provider.module.target(provider.options)
}
