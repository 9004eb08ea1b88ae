import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { pino } from 'pino'
import { type Audit, startAudit } from './audit/audit.js'
import { createJsonlSink } from './audit/jsonl.js'
import { createBackground } from './background.js'
import type { Config, ProviderConfig } from './config.js'
import { ConfigError } from './config.js'
import { event } from './event.js'
import type { House } from './house.js'
import { createApp } from './http/app.js'
import { type Listening, listen } from './http/listen.js'
import type { Identity } from './identity/identity.js'
import { createIdentity } from './identity/index.js'
import { startEmbeddedRedis } from './ledger/embedded.js'
import { openLedger } from './ledger/index.js'
import type { Ledger } from './ledger/ledger.js'
import { createMetrics } from './metrics.js'
import { openPolicy } from './policy/index.js'
import { openSigner, type TokenSigner } from './signer.js'
import { type Sweeper, startSweeper } from './sweeper.js'
import { createUpstream, type Upstream } from './upstream.js'

export interface Broker {
  /** Listens, sweeps and hands events on. Answers the URLs that it listens at. */
  start(): Promise<{ public: string; operator?: string; metrics?: string }>
  /** All or nothing: throws, and goes on as before, when the new configuration cannot be used as a whole. */
  reload(config: Config): Promise<void>
  /** Stops accepting, ends what is in flight, leaves the rest to the ledger. */
  stop(): Promise<void>
  house(): House
  identity(): Identity
  readonly audit: () => Audit | undefined
}
export interface Overrides {
  readonly log?: pino.Logger
  /** Development: an empty ledger is a first start. */
  readonly initLedger?: boolean
}

/** How long a claim belongs to a broker: longer than any provider's timeout, with room for waiting its turn. */
const VISIBILITY_MS = 30_000
/** Clocks of upstreams may be off the ledger's by this much. */
const SKEW_MARGIN_MS = 2_000
const DRAIN_MS = 10_000
const TASK_CACHE = 50_000

/** The composition root: wires the domains that may not know each other. */
export async function createBroker(config: Config, overrides: Overrides = {}): Promise<Broker> {
  const log = overrides.log ?? pino({ level: config.logLevel, base: { instance: config.instance } })
  const metrics = createMetrics()
  const background = createBackground(log)
  const embedded = 'embedded' in config.ledger.redis ? await startEmbeddedRedis({ dataDir: config.dataDir }) : undefined
  const ledger = await openLedger({
    ...config.ledger,
    redis: embedded ? { socketPath: embedded.socketPath } : redisOf(config),
    instance: config.instance,
    createMeta: overrides.initLedger ?? false,
    visibilityMs: VISIBILITY_MS,
    skewMarginMs: SKEW_MARGIN_MS,
    taskCacheSize: TASK_CACHE,
    log: (level, message, fields) => log[level](fields, message),
  }).catch(async (error: unknown) => {
    await embedded?.stop()
    throw error
  })
  const shared = { ledger, metrics, log, background }
  let current = await furnish(config, shared).catch(async (error: unknown) => {
    await ledger.disconnect()
    await embedded?.stop()
    throw error
  })
  // Apart from the work that a drain waits for: a snapshot that was replaced waits for that work itself.
  const retiring = createBackground(log)
  const stopping = new AbortController()
  let draining = false
  let sweeper: Sweeper | undefined
  let audit: Audit | undefined
  const listening: Listening[] = []

  const house = () => current.house
  const identity = () => current.identity

  return {
    house,
    identity,
    audit: () => audit,
    async start() {
      sweeper = startSweeper(house)
      ledger.onDue(() => sweeper?.hint())
      audit = startAudit(ledger.outbox, {
        reader: randomUUID(),
        sinks: config.sinks.map((sink) => createJsonlSink(sink.name, sink.path)),
        onWritten: (sink, count) => metrics.auditWritten.inc({ sink, outcome: 'written' }, count),
        onFailed: (sink, error) => {
          metrics.auditWritten.inc({ sink, outcome: 'failed' })
          log.error({ sink, error: error instanceof Error ? error.message : 'unknown' }, 'the audit sink cannot be written')
        },
      })
      const app = (surface: Parameters<typeof createApp>[0]['surface'], trustProxy: readonly string[]) =>
        createApp({
          house,
          identity,
          signer: () => current.signer,
          agents: () => current.config.identity.agents ?? [],
          log,
          surface,
          trustProxy,
          requestsPerSecond: config.limits.requestsPerSecond,
          isDraining: () => draining,
          isReady: () => !draining,
        })
      const { listeners } = config
      const open = async (surface: Parameters<typeof app>[0], listener: (typeof listeners)['public']) => {
        const { host, port } = listener.address
        const one = await listen(app(surface, listener.trust_proxy), { host, port, tls: listener.tls })
        listening.push(one)
        return one.url
      }
      return {
        public: await open(listeners.operator ? 'public' : 'all', listeners.public),
        operator: listeners.operator && (await open('operator', listeners.operator)),
        metrics: listeners.metrics && (await open('metrics', { ...listeners.metrics, trust_proxy: [] })),
      }
    },
    async reload(next) {
      const before = current
      await refuseUnsafe(before.config, next, ledger)
      const after = await furnish(next, shared, before)
      const { version } = after.house.policy
      await ledger.record(event('config.reloaded', undefined, undefined, { detail: { policy: version } }))
      current = after
      log.info({ policy: version }, 'configuration reloaded')
      retiring.run('retire', retire(before, after, stopping.signal))
    },
    async stop() {
      draining = true
      await Promise.all(listening.map((one) => one.close(DRAIN_MS)))
      await sweeper?.stop()
      await background.drain(DRAIN_MS)
      stopping.abort()
      await retiring.drain(DRAIN_MS)
      await audit?.flush().catch(() => log.warn({}, 'events are left in the outbox for the next broker'))
      await audit?.stop()
      await current.identity.close()
      await Promise.all([...current.house.upstreams.values()].map((upstream) => upstream.close()))
      await ledger.disconnect()
      await embedded?.stop()
    },
  }
}

interface Furnished {
  readonly config: Config
  readonly house: House
  readonly identity: Identity
  readonly signer: TokenSigner | undefined
}

/** Opens everything that a configuration names; what did not change is taken over from `before`. */
async function furnish(config: Config, shared: Pick<House, 'ledger' | 'metrics' | 'log' | 'background'>, before?: Furnished): Promise<Furnished> {
  const policy = await openPolicy(config.policy)
  const signer = config.signing && (await openSigner(config.signing))
  const upstreams = new Map<string, Upstream>()
  for (const provider of config.providers)
    upstreams.set(provider.name, kept(provider, before, config) ?? (await openUpstream(provider, config, signer)))
  const capabilities = { consume: shared.ledger.consume, now: () => Date.now() }
  const identity = createIdentity(config.identity, capabilities)
  const house: House = {
    instance: config.instance,
    ...shared,
    policy,
    roles: new Map(config.roles.map((role) => [role.name, role])),
    upstreams,
    vocabulary: { intents: new Set(config.vocabulary.intents), environments: new Set(config.vocabulary.environments) },
    limits: config.limits,
  }
  return { config, house, identity, signer }
}

async function openUpstream(provider: ProviderConfig, config: Config, signer: TokenSigner | undefined): Promise<Upstream> {
  const { name, concurrency, timeoutMs } = provider
  const opened = await provider.module.open(provider.options, { name, instance: config.instance, timeoutMs, concurrency, signer })
  return createUpstream(opened, { name, concurrency, timeoutMs })
}

function kept(provider: ProviderConfig, before: Furnished | undefined, config: Config): Upstream | undefined {
  if (!before || !isDeepStrictEqual(before.config.signing, config.signing)) return undefined
  const old = before.config.providers.find((one) => one.name === provider.name)
  return old && isDeepStrictEqual(old, provider) ? before.house.upstreams.get(provider.name) : undefined
}

/** Closes what the new snapshot does not use, once whoever works with it had the time to end, or has been waited for. */
async function retire(before: Furnished, after: Furnished, drained: AbortSignal): Promise<void> {
  const kept = new Set(after.house.upstreams.values())
  await pause(VISIBILITY_MS, undefined, { ref: false, signal: drained }).catch(() => undefined)
  await before.identity.close()
  before.house.policy.close()
  await Promise.all([...before.house.upstreams.values()].filter((upstream) => !kept.has(upstream)).map((upstream) => upstream.close()))
}

/** What a reload may not do: take from unsettled leases what they still need, or change what only a start can change. */
async function refuseUnsafe(before: Config, next: Config, ledger: Ledger): Promise<void> {
  const problems: string[] = []
  for (const field of ['instance', 'dataDir', 'listeners', 'ledger', 'sinks'] as const)
    if (!isDeepStrictEqual(before[field], next[field])) problems.push(`${field}: changes only with a restart`)
  const { providers, roles } = await ledger.inUse()
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

function targetOf(provider: ProviderConfig): string {
  return provider.module.target(provider.options)
}

function redisOf(config: Config): { url: string } {
  if ('url' in config.ledger.redis) return config.ledger.redis
  throw new Error('an embedded ledger has no URL')
}
