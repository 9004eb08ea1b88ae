import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { pino } from 'pino'
import { type Audit, startAudit } from './audit/audit.js'
import { createJsonlSink } from './audit/jsonl.js'
import { openWitness, type WitnessFile } from './audit/witness.js'
import { createBackground } from './background.js'
import { type Config, ConfigError } from './config.js'
import { type DrillTimer, startDrills } from './drill.js'
import { event } from './event.js'
import { type Furnished, furnish, missingKeys, refuseUnsafe, retire } from './furnish.js'
import { createHistory } from './history.js'
import type { House } from './house.js'
import { admitting } from './http/admission.js'
import { createApp } from './http/app.js'
import { type Listening, listen } from './http/listen.js'
import type { Surface } from './http/route.js'
import { routesOn } from './http/routes/index.js'
import type { Identity } from './identity/identity.js'
import { idsOf } from './identity/index.js'
import { startEmbeddedRedis } from './ledger/embedded.js'
import { openLedger, type RedisAddress } from './ledger/index.js'
import { createMetrics } from './metrics.js'
import { readAgain } from './quarantine.js'
import { type ReconcileTimer, startReconciling } from './reconcile-timer.js'
import { reviewAll } from './review.js'
import { createSimulations } from './simulations.js'
import { type Sweeper, startSweeper } from './sweeper.js'

export interface Broker {
  /** Listens, sweeps and hands events on. Answers the URLs that it listens at. */
  start(): Promise<{ public: string; operator?: string; metrics?: string }>
  /** All or nothing: throws, and goes on as before, when the new configuration cannot be used as a whole. */
  reload(config: Config): Promise<void>
  /**
   * Stops accepting, ends what is in flight, leaves the rest to the ledger: within half a minute, whatever hangs. Connections that are idle
   * are kept for `lingerMs`, so that requests on their way there are answered: come again elsewhere.
   */
  stop(lingerMs?: number): Promise<void>
  house(): House
  identity(): Identity
  readonly audit: () => Audit | undefined
}
export interface Overrides {
  readonly log?: pino.Logger
  /** Development: an empty ledger is a first start. */
  readonly initLedger?: boolean
  /** How long a claim belongs to a broker, where a test cannot wait so long. Longer than any provider's timeout by some seconds. */
  readonly visibilityMs?: number
}

/** How long a claim belongs to a broker: longer than any provider's timeout, with room for waiting its turn. */
const VISIBILITY_MS = 30_000
/** Clocks of upstreams may be off the ledger's by this much. */
const SKEW_MARGIN_MS = 2_000
/** For requests, and again for the revokes that are under way. */
const DRAIN_MS = 10_000
/** For events to reach the sinks, and again for connections to close. */
const LAST_MS = 3_000
/** No request takes longer. */
const REVIEW_AGAIN_MS = 30_000

type Listener = Config['listeners']['public']
const TASK_CACHE = 20_000

/** The composition root: wires the domains that may not know each other. */
export async function createBroker(config: Config, overrides: Overrides = {}): Promise<Broker> {
  const log = overrides.log ?? pino({ level: config.logLevel, base: { instance: config.instance } })
  const metrics = createMetrics()
  const background = createBackground(log)
  const witness = await witnessOf(config, log)
  const embedded = 'embedded' in config.ledger.redis ? await startEmbeddedRedis({ dataDir: config.dataDir }) : undefined
  const ledger = await openLedger({
    ...config.ledger,
    redis: embedded ? { socketPath: embedded.socketPath } : redisOf(config),
    instance: config.instance,
    createMeta: overrides.initLedger ?? false,
    outside: witness,
    visibilityMs: overrides.visibilityMs ?? VISIBILITY_MS,
    skewMarginMs: SKEW_MARGIN_MS,
    taskCacheSize: TASK_CACHE,
    log: (level, message, fields) => log[level](fields, message),
    onWaited: (what, isReplicated, ms) => metrics.waits.observe({ what, outcome: isReplicated ? 'replicated' : 'late' }, ms / 1000),
  }).catch(async (error: unknown) => {
    await embedded?.stop()
    throw error
  })
  const shared = { ledger, metrics, log, background }
  let onOtherPolicies = (_version: string): void => {}
  let current = await furnishFirst(config, shared, (version) => onOtherPolicies(version)).catch(async (error: unknown) => {
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
  let drills: DrillTimer | undefined
  let reconciling: ReconcileTimer | undefined
  const listening = new Map<'public' | 'operator' | 'metrics', Listening>()

  let reviewing = new AbortController()
  /** What is live was decided on by what came before; again, once nobody who began with that can have ended with something new. */
  const review = ({ house }: Furnished, againMs: number): void => {
    reviewing.abort()
    reviewing = new AbortController()
    // What is live may be other than it says; it is reviewed once an operator has lifted the quarantine.
    if (ledger.quarantined()) return
    const over = AbortSignal.any([reviewing.signal, stopping.signal])
    retiring.run('review', reviewAll(house, over))
    if (againMs > 0)
      retiring.run(
        'review',
        afterwards(againMs, over, () => reviewAll(house, over)),
      )
  }

  // Replicas of an OPA that have not all the same policies yet seem to change them with each answer.
  let isReviewDue = false
  let reviewedAt = Number.NEGATIVE_INFINITY
  onOtherPolicies = (version) => {
    log.info({ policy: version }, 'other policies decide')
    if (isReviewDue) return
    isReviewDue = true
    const again = async () => {
      isReviewDue = false
      reviewedAt = performance.now()
      review(current, REVIEW_AGAIN_MS)
    }
    retiring.run('review', afterwards(Math.max(0, reviewedAt + REVIEW_AGAIN_MS - performance.now()), stopping.signal, again))
  }

  /** Shows the listeners whose client certificates are taken now. None yet, at a reload, is no reason to refuse those of before. */
  const showAuthorities = (of: Identity, areKnown: boolean): void => {
    if (of !== current.identity) return
    for (const name of ['public', 'operator'] as const) {
      const spiffe = current.config.listeners[name]?.tls?.spiffe
      const authorities = spiffe === undefined ? [] : of.authorities(spiffe)
      if (areKnown || authorities.length > 0) listening.get(name)?.useAuthorities(authorities)
    }
  }
  const followAuthorities = (of: Identity): void => of.onAuthorities(() => showAuthorities(of, true))
  followAuthorities(current.identity)

  const house = () => current.house
  const identity = () => current.identity
  const simulate = createSimulations(() => current.config)
  const history = createHistory(
    () => current.config,
    () => audit,
  )

  let isReading = false
  /** After a quarantine began or ended. */
  const followQuarantine = (): void => {
    review(current, 0)
    if (isReading || !ledger.unread()) return
    isReading = true
    const read = readAgain(current.house, history, stopping.signal)
    retiring.run(
      'quarantine',
      read.finally(() => {
        isReading = false
      }),
    )
  }

  return {
    house,
    identity,
    audit: () => audit,
    async start() {
      await tellWhatIsMissing(current.house)
      ledger.onQuarantine(followQuarantine)
      sweeper = startSweeper(house)
      ledger.onDue(() => sweeper?.hint())
      audit = startAudit(ledger.outbox, {
        reader: randomUUID(),
        sinks: config.sinks.map((sink) => createJsonlSink(sink.name, sink.path)),
        beforeConfirmed: (last) => witness?.hold(last),
        onWritten: (sink, count) => metrics.auditWritten.inc({ sink, outcome: 'written' }, count),
        onFailed: (sink, error) => {
          metrics.auditWritten.inc({ sink, outcome: 'failed' })
          log.error({ sink, error: error instanceof Error ? error.message : 'unknown' }, 'the audit sink cannot be written')
        },
      })
      followQuarantine()
      drills = startDrills(house)
      reconciling = startReconciling(house)
      const app = (surface: Surface | 'all', trustProxy: readonly string[]) =>
        admitting(
          createApp({
            house,
            identity,
            signer: () => current.signer,
            agents: () => (current.config.identity.agents ?? []).map((rule) => ({ ...rule, makes: (id) => idsOf(rule).test(id) })),
            simulate,
            history,
            log,
            surface,
            trustProxy,
            requestsPerSecond: config.limits.requestsPerSecond,
            isDraining: () => draining,
            isReady: () => !draining,
          }),
          { routes: routesOn(surface), metrics, log },
        )
      const { listeners } = config
      const open = async (name: 'public' | 'operator' | 'metrics', surface: Surface | 'all', listener: Listener) => {
        const { host, port } = listener.address
        const { tls } = listener
        const clientCertificates = tls?.spiffe === undefined ? undefined : { issuer: tls.spiffe, authorities: identity().authorities(tls.spiffe) }
        const one = await listen(app(surface, listener.trust_proxy), { host, port, tls: tls && { ...tls, clientCertificates } })
        listening.set(name, one)
        showAuthorities(identity(), false)
        return one.url
      }
      return {
        public: await open('public', listeners.operator ? 'public' : 'all', listeners.public),
        operator: listeners.operator && (await open('operator', 'operator', listeners.operator)),
        metrics: listeners.metrics && (await open('metrics', 'metrics', { ...listeners.metrics, trust_proxy: [] })),
      }
    },
    async reload(next) {
      const before = current
      await refuseUnsafe(before.config, next, ledger)
      const after = await furnish(next, shared, before, (version) => onOtherPolicies(version))
      const { version } = after.house.policy
      const told = await ledger.record(event('config.reloaded', undefined, undefined, { detail: { policy: version } }))
      // A full outbox stops issuing, never what may narrow it.
      if (!told.ok) log.warn({ policy: version }, 'the outbox is full: this reload is told in the log alone')
      current = after
      for (const name of ['public', 'operator'] as const) {
        const tls = next.listeners[name]?.tls
        if (tls) listening.get(name)?.useCertificate(tls)
      }
      followAuthorities(after.identity)
      showAuthorities(after.identity, false)
      log.info({ policy: version }, 'configuration reloaded')
      retiring.run('retire', retire(before, after, stopping.signal))
      review(after, REVIEW_AGAIN_MS)
    },
    async stop(lingerMs = 0) {
      draining = true
      // What waits for an upstream must not keep the process: the ledger has it, for whoever sweeps next.
      const most = async (ms: number, what: string, work: Promise<unknown>) => {
        if (!(await within(ms, work))) log.warn({}, `${what} took too long and is left to the ledger`)
      }
      await Promise.all([...listening.values()].map((one) => one.close(DRAIN_MS, lingerMs)))
      await most(
        DRAIN_MS,
        'what was under way',
        Promise.all([drills?.stop(), reconciling?.stop(), sweeper?.stop().then(() => background.drain(DRAIN_MS))]),
      )
      stopping.abort()
      await most(LAST_MS, 'a review', retiring.drain(LAST_MS))
      const flushed = audit?.flush().catch(() => log.warn({}, 'events are left in the outbox for the next broker'))
      await most(
        LAST_MS,
        'handing events over',
        Promise.all([flushed, audit?.stop()]).then(() => witness?.close()),
      )
      current.house.policy.close()
      const { identity, webhooks, house } = current
      const closed = [identity.close(), webhooks.close(), ...[...house.upstreams.values()].map((upstream) => upstream.close())]
      await most(LAST_MS, 'closing connections', Promise.allSettled(closed))
      await ledger.disconnect()
      await embedded?.stop()
    },
  }
}

/** Beside the first sink: what it says of the ledger goes with the events. */
async function witnessOf({ sinks, instance, files }: Config, log: pino.Logger): Promise<WitnessFile | undefined> {
  const [sink] = sinks
  if (!sink) return undefined
  const onFailed = (error: unknown) =>
    log.error({ error: error instanceof Error ? error.message : 'unknown' }, 'the witness of the ledger cannot be written')
  return openWitness(sink.path, instance, onFailed).catch((error: unknown) => {
    throw new ConfigError(files[0] ?? 'the configuration', [`audit.sinks.${sink.name}: ${error instanceof Error ? error.message : 'unknown'}`])
  })
}

function redisOf({ ledger: { redis } }: Config): RedisAddress {
  if (!('embedded' in redis)) return redis
  throw new Error('an embedded ledger has no address')
}

/** Whether it was done in time. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const over = new AbortController()
  const late = pause(ms, false, { signal: over.signal }).catch(() => false)
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    over.abort()
  }
}

async function afterwards(ms: number, over: AbortSignal, work: () => Promise<void>): Promise<void> {
  await pause(ms, undefined, { ref: false, signal: over }).catch(() => undefined)
  if (!over.aborted) await work()
}

/** A start without a key that leases need is refused: it is a mistake that somebody can mend at once, and what it cannot open it cannot revoke. */
async function furnishFirst(
  config: Config,
  shared: Parameters<typeof furnish>[1],
  onOtherPolicies: Parameters<typeof furnish>[3],
): Promise<Furnished> {
  const missing = await missingKeys(config, shared.ledger)
  if (missing.length > 0) throw new ConfigError(config.files[0] ?? 'the configuration', missing)
  return furnish(config, shared, undefined, onOtherPolicies)
}

/** A start, other than a reload, takes a configuration without a provider that leases still need: a stop helps nobody, but it is said. */
async function tellWhatIsMissing({ ledger, upstreams, log }: House): Promise<void> {
  for (const provider of await ledger.providersInUse())
    if (!upstreams.has(provider)) log.error({ provider }, 'unsettled leases need a provider that is not configured: they cannot be revoked')
}
