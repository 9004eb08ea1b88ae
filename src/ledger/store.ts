import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { LRUCache } from 'lru-cache'
import type { Event, EventType, Task } from '../types.js'
import { asLedgerError, type Log, messageOf } from './connection.js'
import { partitionOf, partitionOfKey } from './keys.js'
import type { Node, Nodes } from './nodes.js'
import type { Replication } from './replication.js'
import type { Script } from './script.js'
import type { Witness } from './witness.js'

export interface StoreOptions {
  readonly partitions: number
  readonly settledRetentionSeconds: number
  readonly outboxLimit: number
  readonly visibilityMs: number
  readonly skewMarginMs: number
}

/** What every part of the ledger works with: the connection, the clock, the limits, the tasks read recently. */
export interface Store {
  readonly nodes: Nodes
  readonly options: StoreOptions
  readonly log: Log
  readonly tasks: LRUCache<string, Task>
  /** Of one partition. */
  readonly outboxLimit: number
  /** Runs a script; trouble with Redis becomes `MayflyError('ledger_unavailable')`. */
  run<Arg extends string>(
    script: Script<Arg>,
    key: string,
    args: Readonly<Record<Arg, string | number>>,
    rest?: readonly (string | number)[],
  ): Promise<unknown>
  /** Any other command on keys of one partition, with the same errors. */
  ask<T>(partition: number, command: (redis: Redis) => Promise<T>): Promise<T>
  /** Until it resolves, nothing may be issued in this partition: freezes are being brought together after a reconnect. */
  readyToIssue(partition: number): Promise<void> | undefined
  readonly clock: Clock
  /** Absent: nothing waits for replicas. */
  readonly replication?: Replication
  /** What this broker knows of how far each partition had come. */
  readonly witness: Witness
}

/** Redis's clock, seen from here: by `performance.now()`, because the wall clock of this machine may be set at any moment. */
export class Clock {
  /** State: by how much Redis's clock is ahead of this process's. */
  private offset = performance.timeOrigin
  now(): number {
    return Math.round(performance.now() + this.offset)
  }
  /** `server` was read somewhere between `sentAt` and now, both of `performance.now()`. */
  sync(server: number, sentAt: number): void {
    this.offset = server - (sentAt + performance.now()) / 2
  }
}

/** All of them; `first` before all others. */
export function partitionsOf(store: Pick<Store, 'options'>, first?: number): number[] {
  const all = Array.from({ length: store.options.partitions }, (_, partition) => partition)
  return first === undefined ? all : [first, ...all.filter((partition) => partition !== first)]
}

export function partitionOfTask(store: Pick<Store, 'options'>, id: string): number | undefined {
  return partitionOf(id, 'task', store.options.partitions)
}

export function partitionOfLease(store: Pick<Store, 'options'>, id: string): number | undefined {
  return partitionOf(id, 'lease', store.options.partitions)
}

/** An event for what happens without a request: expiries, missed heartbeats. Scripts derive one id each from this one. */
export function internalEvent(type: EventType): string {
  return JSON.stringify({ id: randomUUID(), type } satisfies Event)
}

/**
 * Partitions, all unless some are named, by what one script may look at: all of one Redis, or groups of `most`; each for itself in a Cluster, whose scripts
 * stay in one slot.
 */
export function together(
  store: Pick<Store, 'options' | 'nodes'>,
  partitions: readonly number[] = partitionsOf(store),
  most = Number.POSITIVE_INFINITY,
): readonly (readonly number[])[] {
  const size = store.nodes.isCluster ? 1 : Math.max(1, Math.min(most, partitions.length))
  return Array.from({ length: Math.ceil(partitions.length / size) }, (_, n) => partitions.slice(n * size, (n + 1) * size))
}

/** A script over partitions that it may look at together: the first one's key is declared, the others' follow as its `rest`. */
export function runOver<Arg extends string>(
  store: Pick<Store, 'run'>,
  script: Script<Arg>,
  [first = 0, ...others]: readonly number[],
  keyOf: (partition: number) => string,
  args: Readonly<Record<Arg, string | number>>,
): Promise<unknown> {
  return store.run(script, keyOf(first), args, others.map(keyOf))
}

interface Reached<T> {
  readonly answers: Map<number, T>
  readonly unreachable: number[]
}

/**
 * What can be said of those partitions that can be reached, by partition. Throws the first failure where none can: with one Redis it is
 * all or none.
 */
export function ofReachable<T>(store: Pick<Store, 'options'>, ask: (partition: number) => Promise<T>): Promise<Reached<T>> {
  return reach(
    partitionsOf(store).map((partition) => [partition]),
    async ([partition = 0]) => [await ask(partition)],
  )
}

/** The same in as few steps as can be: `ask` answers for each partition that it is given, in their order. */
export function ofReachableTogether<T>(
  store: Pick<Store, 'options' | 'nodes'>,
  ask: (partitions: readonly number[]) => Promise<readonly T[]>,
): Promise<Reached<T>> {
  return reach(together(store), ask)
}

async function reach<T>(groups: readonly (readonly number[])[], ask: (partitions: readonly number[]) => Promise<readonly T[]>): Promise<Reached<T>> {
  const answers = new Map<number, T>()
  const unreachable: number[] = []
  let failure: unknown
  const settled = await Promise.allSettled(groups.map(ask))
  for (const [index, one] of settled.entries()) {
    const partitions = groups[index] ?? []
    if (one.status === 'fulfilled') for (const [at, answer] of one.value.entries()) answers.set(partitions[at] ?? 0, answer)
    else {
      unreachable.push(...partitions)
      failure ??= one.reason
    }
  }
  if (answers.size === 0) throw failure
  return { answers, unreachable }
}

type Asking = Pick<Store, 'run' | 'ask'>

/** `readyToIssue`: in a Cluster, a script that is sent to where its partition has moved waits for it, if it widens anything. */
export function createAsk(nodes: Nodes, readyToIssue: Store['readyToIssue'] = () => undefined): Asking {
  return nodes.isCluster ? askCluster(nodes, readyToIssue) : askOne(nodes.meta())
}

function askOne(node: Node): Asking {
  const { redis } = node
  const cork = createTogether(redis)
  const ask = async <T>(command: (redis: Redis) => Promise<T>): Promise<T> => {
    cork()
    try {
      return await command(redis)
    } catch (error) {
      throw asLedgerError(error)
    }
  }
  return {
    ask: (_partition, command) => ask(command),
    run: async (script, key, args, rest) => {
      const on = (connection: Redis) => script.run(connection, key, args, rest)
      const urgent = script.isUrgent ? node.urgent?.() : undefined
      if (!urgent) return ask(on)
      try {
        return await on(urgent)
      } catch (error) {
        // What is urgent may be done twice, and trouble on a connection that is seldom used must not keep it from being done.
        if (asLedgerError(error) === error) throw error
        return ask(on)
      }
    },
  }
}

function askCluster(nodes: Nodes, readyToIssue: Store['readyToIssue']): Asking {
  const together = new WeakMap<Redis, () => void>()
  const once = <T>(partition: number, command: (redis: Redis) => Promise<T>): Promise<T> => {
    const { redis } = nodes.of(partition)
    const cork = together.get(redis) ?? createTogether(redis)
    together.set(redis, cork)
    cork()
    return command(redis)
  }
  const failed = (error: unknown): unknown => {
    const told = asLedgerError(error)
    if (told !== error) nodes.doubt()
    return told
  }
  const ask = async <T>(partition: number, command: (redis: Redis) => Promise<T>, widens: boolean): Promise<T> => {
    try {
      return await once(partition, command)
    } catch (error) {
      if (!messageOf(error).startsWith('MOVED ')) throw failed(error)
    }
    // It was not done: whoever held the partition said so.
    await nodes.look()
    if (widens) await readyToIssue(partition)
    try {
      return await once(partition, command)
    } catch (error) {
      throw failed(error)
    }
  }
  return {
    ask: (partition, command) => ask(partition, command, false),
    run: (script, key, args, rest) => ask(partitionOfKey(key), (redis) => script.run(redis, key, args, rest, true), script.widens),
  }
}

/**
 * What is asked in one turn of the event loop leaves in one write: a system call for each command is a large part of what a command
 * costs. Not a pipeline: each command has its own answer, its own deadline and its own slot.
 */
function createTogether(redis: Redis): () => void {
  let waiting = false
  return () => {
    const { stream } = redis
    if (waiting || !stream || stream.destroyed) return
    waiting = true
    stream.cork()
    setImmediate(() => {
      waiting = false
      stream.uncork()
    })
  }
}
