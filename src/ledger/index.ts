import type { Redis } from 'ioredis'
import { LRUCache } from 'lru-cache'
import { MayflyError } from '../errors.js'
import type { Task } from '../types.js'
import type { RedisAddress } from './address.js'
import { agentCalls } from './agents.js'
import { approvalCalls } from './approvals.js'
import { callCalls } from './calls.js'
import { asLedgerError, type Log } from './connection.js'
import { type FreezeCalls, freezeCalls } from './freezes.js'
import { createGate } from './gate.js'
import { DUE_CHANNEL, hashed, keys, partitionFor, partitionOf } from './keys.js'
import { leaseCalls } from './leases.js'
import type { Ledger } from './ledger.js'
import { listingCalls } from './listings.js'
import { checkMeta, type MetaOptions, writeMeta } from './meta.js'
import { connectNodes } from './nodes.js'
import { orphanCalls } from './orphans.js'
import { eventCalls } from './outbox.js'
import { check, type Durability, refuseUnfit } from './preflight.js'
import { quarantineCalls, quarantineOfLoss } from './quarantine.js'
import { registerCalls } from './register.js'
import { createReplication, type OnWaited, type Replication, type WaitOptions } from './replication.js'
import { revocationCalls } from './revocations.js'
import { riskCalls } from './risk.js'
import { allScripts, defineScript } from './script.js'
import { statusCalls } from './status.js'
import { Clock, createAsk, type Store, type StoreOptions } from './store.js'
import { sweepCalls } from './sweep.js'
import { taskCalls } from './tasks.js'
import { thawCalls } from './thaws.js'
import { type Outside, Witness } from './witness.js'

export type { RedisAddress } from './address.js'
export type { Log } from './connection.js'
export { type Problem, preflight } from './preflight.js'

export interface LedgerOptions extends MetaOptions, StoreOptions {
  readonly redis: RedisAddress
  readonly durability: Durability
  /** An empty Redis becomes a ledger: for development only, see `initLedger`. */
  readonly createMeta: boolean
  /** Tasks kept in memory. */
  readonly taskCacheSize: number
  readonly log?: Log
  /** Absent: what issues and what stops is answered without any replica having it. */
  readonly wait?: WaitOptions
  readonly onWaited?: OnWaited
  /** What this broker remembers outside Redis; absent: nothing. */
  readonly outside?: Outside
}

const consumeScript = defineScript('consume', 'seen', ['ttl_ms'])

/** Facts of a task that no decision compares may be this old. */
const TASK_CACHE_TTL_MS = 60_000
const NO_LOG: Log = () => {}

/**
 * Connects to the ledger in Redis. Throws `MayflyError('ledger_unavailable')`, saying what to do, when Redis cannot be reached or holds
 * no ledger, or another installation's. Afterwards it is ready again by itself whenever Redis is.
 */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const log = options.log ?? NO_LOG
  const nodes = await connectNodes(options.redis, options.partitions, log)
  let replication: Replication | undefined
  const stop = async (error: unknown): Promise<never> => {
    replication?.stop()
    await nodes.disconnect()
    throw asLedgerError(error)
  }
  const teach = () => Promise.all(nodes.all().map(({ redis }) => teachScripts(redis, nodes.isCluster)))
  try {
    await refuseUnfit(nodes)
    await (options.createMeta ? writeMeta(nodes.meta().redis, options) : checkMeta(nodes.meta().redis, options))
    for (const { problem, mend } of (await check(nodes, options)).problems) log('warn', `${problem}: ${mend}`, {})
    await teach()
  } catch (error) {
    return await stop(error)
  }

  const listeners = new Set<() => void>()
  const hint = () => {
    for (const listener of listeners) listener()
  }
  const gate = createGate({
    open: async () => {
      // A Redis that came back without its data is no ledger: it has forgotten live credentials, and freezes.
      await checkMeta(nodes.meta().redis, options).catch((error: unknown) => {
        // Of a Cluster, the others go on without the server that holds it, which is looked at when it is back.
        if (!nodes.isCluster || error instanceof MayflyError || asLedgerError(error) === error) throw error
      })
      return await settle()
    },
    opened: hint,
    again: nodes.again,
    log,
  })
  if (options.wait) replication = createReplication(nodes, options.wait, log, options.onWaited)
  const store: Store = {
    replication,
    nodes,
    options,
    log,
    tasks: new LRUCache<string, Task>({ max: options.taskCacheSize, ttl: TASK_CACHE_TTL_MS, ttlResolution: TASK_CACHE_TTL_MS / 100 }),
    outboxLimit: Math.max(1, Math.floor(options.outboxLimit / options.partitions)),
    clock: new Clock(),
    witness: new Witness(options.partitions, options.outside?.kept(), replication?.isKept),
    readyToIssue: gate.wait,
    ...createAsk(nodes, gate.wait),
  }
  const freezes = freezeCalls(store)
  const quarantine = quarantineCalls(store, freezes, options.outside)
  const events = eventCalls(store)

  const settle = async () => {
    await syncClock(store)
    await quarantine.settle()
    return await freezes.reconcile()
  }
  try {
    gate.began(await settle())
    await nodes.subscribe(DUE_CHANNEL, (_channel, about) => {
      if (partitionOf(about, 'freeze', options.partitions) === undefined) hint()
      else freezes.look()
    })
  } catch (error) {
    return await stop(error)
  }
  nodes.onReturn(() => {
    store.tasks.clear()
    if (nodes.isCluster) void teach().catch(() => undefined)
    gate.close()
  })
  // Nobody asks for most of those that are over, and they would stay until others take their place.
  const forgetting = setInterval(() => store.tasks.purgeStale(), TASK_CACHE_TTL_MS).unref()

  return {
    ...taskCalls(store),
    ...leaseCalls(store),
    ...approvalCalls(store),
    ...callCalls(store),
    ...sweepCalls(store, quarantine.observe),
    ...callsOf(freezes),
    ...thawCalls(store),
    ...revocationCalls(store),
    ...listingCalls(store),
    ...agentCalls(store),
    ...riskCalls(store),
    ...orphanCalls(store),
    ...statusCalls(store, options),
    ...registerCalls(store),
    ...callsOfQuarantine(quarantine),
    restoreFreeze: (frozen, freeze) => freezes.apply({ frozen, freeze }),
    record: events.record,
    refuse: events.refuse,
    outbox: events.outbox,
    consume: async (hash, ttlMs) => {
      const name = hashed(hash)
      const key = keys.seen(partitionFor(name, options.partitions), name)
      return (await store.run(consumeScript, key, { ttl_ms: Math.max(1, Math.ceil(ttlMs)) })) === 1
    },
    now: () => store.clock.now(),
    onDue: (listener) => {
      listeners.add(listener)
    },
    disconnect: async () => {
      clearInterval(forgetting)
      gate.stop()
      replication?.stop()
      freezes.stop()
      events.stop()
      listeners.clear()
      await nodes.disconnect()
    },
  }
}

/**
 * `mayfly ledger init`: makes an empty Redis the ledger of this installation. Answers whether there was none before. `afterLoss`: there was a
 * ledger, and this one begins in quarantine.
 */
export async function initLedger(options: MetaOptions & { redis: RedisAddress; log?: Log; afterLoss?: boolean }): Promise<boolean> {
  const nodes = await connectNodes(options.redis, options.partitions, options.log ?? NO_LOG)
  try {
    await refuseUnfit(nodes)
    return await writeMeta(nodes.meta().redis, options, options.afterLoss ? quarantineOfLoss(options.partitions) : undefined)
  } catch (error) {
    throw asLedgerError(error)
  } finally {
    await nodes.disconnect()
  }
}

function callsOf({ freeze, thaw, freezes }: FreezeCalls): Pick<Ledger, 'freeze' | 'thaw' | 'freezes'> {
  return { freeze, thaw, freezes }
}

function callsOfQuarantine({ settle: _, observe: __, ...calls }: ReturnType<typeof quarantineCalls>) {
  return calls
}

async function syncClock(store: Store): Promise<void> {
  const sentAt = performance.now()
  const [seconds, micros] = await Promise.any(store.nodes.all().map(({ redis }) => redis.time())).catch((error: unknown) => {
    throw error instanceof AggregateError ? error.errors[0] : error
  })
  store.clock.sync(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000), sentAt)
}

/** Ahead of their use; a server that forgets them is taught again by whatever it is asked. */
async function teachScripts(redis: Redis, inCluster: boolean): Promise<void> {
  await Promise.all(allScripts().map((script) => redis.script('LOAD', (inCluster ? script.inCluster : script).source)))
}
