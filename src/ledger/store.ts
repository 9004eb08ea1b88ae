import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { LRUCache } from 'lru-cache'
import type { Event, EventType, Task } from '../types.js'
import { asLedgerError, type Log } from './connection.js'
import { partitionOf } from './keys.js'
import type { Script } from './script.js'

export interface StoreOptions {
  readonly partitions: number
  readonly settledRetentionSeconds: number
  readonly outboxLimit: number
  readonly visibilityMs: number
  readonly skewMarginMs: number
}

/** What every part of the ledger works with: the connection, the clock, the limits, the tasks read recently. */
export interface Store {
  readonly redis: Redis
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
  /** Any other command, with the same errors. */
  ask<T>(command: (redis: Redis) => Promise<T>): Promise<T>
  /** Until it resolves, nothing may be issued: freezes are being brought together after a reconnect. */
  readyToIssue(): Promise<void> | undefined
  readonly clock: Clock
}

/** Redis's clock, seen from here. */
export class Clock {
  /** State: by how much Redis's clock is ahead of this process's. */
  private offset = 0
  now(): number {
    return Math.round(Date.now() + this.offset)
  }
  /** `server` was read somewhere between `sentAt` and now, both of this process. */
  sync(server: number, sentAt: number): void {
    this.offset = server - (sentAt + Date.now()) / 2
  }
}

export function partitionsOf(store: Pick<Store, 'options'>): number[] {
  return Array.from({ length: store.options.partitions }, (_, partition) => partition)
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

export function createAsk(redis: Redis): Pick<Store, 'run' | 'ask'> {
  const together = createTogether(redis)
  const ask = async <T>(command: (redis: Redis) => Promise<T>): Promise<T> => {
    together()
    try {
      return await command(redis)
    } catch (error) {
      throw asLedgerError(error)
    }
  }
  return { ask, run: (script, key, args, rest) => ask((connection) => script.run(connection, key, args, rest)) }
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
