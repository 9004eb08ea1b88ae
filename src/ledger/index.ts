import { LRUCache } from 'lru-cache'
import type { Task } from '../types.js'
import { agentCalls } from './agents.js'
import { approvalCalls } from './approvals.js'
import { callCalls } from './calls.js'
import { asLedgerError, connect, type Log, messageOf, type RedisAddress } from './connection.js'
import { type FreezeCalls, freezeCalls } from './freezes.js'
import { DUE_CHANNEL, hashed, keys, partitionFor } from './keys.js'
import { leaseCalls } from './leases.js'
import type { Ledger } from './ledger.js'
import { listingCalls } from './listings.js'
import { checkMeta, type MetaOptions, writeMeta } from './meta.js'
import { eventCalls } from './outbox.js'
import { type Durability, preflight } from './preflight.js'
import { registerCalls } from './register.js'
import { revocationCalls } from './revocations.js'
import { riskCalls } from './risk.js'
import { allScripts, defineScript } from './script.js'
import { statusCalls } from './status.js'
import { Clock, createAsk, type Store, type StoreOptions } from './store.js'
import { sweepCalls } from './sweep.js'
import { taskCalls } from './tasks.js'

export type { Log, RedisAddress } from './connection.js'
export { type Problem, preflight } from './preflight.js'

export interface LedgerOptions extends MetaOptions, StoreOptions {
  readonly redis: RedisAddress
  readonly durability: Durability
  /** An empty Redis becomes a ledger: for development only, see `initLedger`. */
  readonly createMeta: boolean
  /** Tasks kept in memory. */
  readonly taskCacheSize: number
  readonly log?: Log
}

const consumeScript = defineScript('consume', 'seen', ['ttl_ms'])

/** Facts of a task that no decision compares may be this old. */
const TASK_CACHE_TTL_MS = 60_000
/** A ledger that came back and cannot be used is looked at again this much later. */
const CONNECT_AGAIN_MS = 1_000
const NO_LOG: Log = () => {}

/**
 * Connects to the ledger in Redis. Throws `MayflyError('ledger_unavailable')`, saying what to do, when Redis cannot be reached or holds
 * no ledger, or another installation's. Afterwards it is ready again by itself whenever Redis is.
 */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const log = options.log ?? NO_LOG
  const redis = await connect(options.redis, log)
  const subscriber = await connect(options.redis, log, { commandTimeout: undefined }).catch((error: unknown) => {
    redis.disconnect()
    throw error
  })
  try {
    await (options.createMeta ? writeMeta(redis, options) : checkMeta(redis, options))
    for (const { problem, mend } of await preflight(redis, options)) log('warn', `${problem}: ${mend}`, {})
    await Promise.all(allScripts().map(({ source }) => redis.script('LOAD', source)))
  } catch (error) {
    redis.disconnect()
    subscriber.disconnect()
    throw asLedgerError(error)
  }

  /** Set while freezes are brought together; issuing waits for it. */
  let gate: Promise<void> | undefined
  let again: NodeJS.Timeout | undefined
  const store: Store = {
    redis,
    options,
    log,
    tasks: new LRUCache<string, Task>({ max: options.taskCacheSize, ttl: TASK_CACHE_TTL_MS, ttlResolution: TASK_CACHE_TTL_MS / 100 }),
    outboxLimit: Math.max(1, Math.floor(options.outboxLimit / options.partitions)),
    clock: new Clock(),
    readyToIssue: () => gate,
    ...createAsk(redis),
  }
  const freezes = freezeCalls(store)
  const events = eventCalls(store)
  const listeners = new Set<() => void>()
  const hint = () => {
    for (const listener of listeners) listener()
  }

  const settle = async () => {
    await syncClock(store)
    await freezes.reconcile()
  }
  await settle().catch((error: unknown) => {
    redis.disconnect()
    subscriber.disconnect()
    throw asLedgerError(error)
  })
  redis.on('ready', () => {
    clearTimeout(again)
    store.tasks.clear()
    // A Redis that came back without its data is no ledger: it has forgotten live credentials, and freezes.
    const opening: Promise<void> = checkMeta(redis, options)
      .then(settle)
      .then(
        () => {
          if (gate === opening) gate = undefined
          hint()
        },
        (error: unknown) => {
          log('error', 'the ledger cannot be used as it came back; issuing waits for the next connection', { error: messageOf(error) })
          again = setTimeout(() => redis.disconnect(true), CONNECT_AGAIN_MS).unref()
          throw asLedgerError(error)
        },
      )
    opening.catch(() => undefined)
    gate = opening
  })
  subscriber.on('message', hint)
  await subscriber.subscribe(DUE_CHANNEL)

  return {
    ...taskCalls(store),
    ...leaseCalls(store),
    ...approvalCalls(store),
    ...callCalls(store),
    ...sweepCalls(store),
    ...callsOf(freezes),
    ...revocationCalls(store),
    ...listingCalls(store),
    ...agentCalls(store),
    ...riskCalls(store),
    ...statusCalls(store, options.durability),
    ...registerCalls(store),
    record: events.record,
    refuse: events.refuse,
    outbox: events.outbox,
    consume: async (hash, ttlMs) => {
      const name = hashed(hash)
      const key = keys.seen(partitionFor(name, options.partitions), name)
      return (await store.ask((connection) => consumeScript.run(connection, key, { ttl_ms: Math.max(1, Math.ceil(ttlMs)) }))) === 1
    },
    now: () => store.clock.now(),
    onDue: (listener) => {
      listeners.add(listener)
    },
    disconnect: async () => {
      clearTimeout(again)
      freezes.stop()
      events.stop()
      listeners.clear()
      subscriber.disconnect()
      // What is in flight may still be answered; a Redis that is gone is no reason to wait.
      await redis.quit().catch(() => redis.disconnect())
    },
  }
}

/** `mayfly ledger init`: makes an empty Redis the ledger of this installation. Answers whether there was none before. */
export async function initLedger(options: MetaOptions & { redis: RedisAddress; log?: Log }): Promise<boolean> {
  const redis = await connect(options.redis, options.log ?? NO_LOG)
  try {
    return await writeMeta(redis, options)
  } catch (error) {
    throw asLedgerError(error)
  } finally {
    redis.disconnect()
  }
}

function callsOf({ freeze, thaw, freezes }: FreezeCalls): Pick<Ledger, 'freeze' | 'thaw' | 'freezes'> {
  return { freeze, thaw, freezes }
}

async function syncClock(store: Store): Promise<void> {
  const sentAt = Date.now()
  const [seconds, micros] = await store.ask((redis) => redis.time())
  store.clock.sync(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000), sentAt)
}
