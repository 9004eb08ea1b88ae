import { randomUUID } from 'node:crypto'
import { type LedgerOptions, openLedger } from '../../src/ledger/index.js'
import type { Ledger, NewLease, NewTask, OutboxEntry, RiskRules } from '../../src/ledger/ledger.js'
import type { Event, EventType, Task } from '../../src/types.js'
import { startRedis, type TestRedis } from '../support/redis.js'

export const HOUR = 3_600_000
export const MINUTE = 60_000

export interface Fixture {
  readonly redis: TestRedis
  readonly ledger: Ledger
  /** Another broker on the same Redis. */
  open(options?: Partial<LedgerOptions>): Promise<Ledger>
  stop(): Promise<void>
}

const OPTIONS = {
  instance: 'test',
  partitions: 4,
  durability: 'strict',
  settledRetentionSeconds: 3600,
  outboxLimit: 100_000,
  createMeta: true,
  visibilityMs: 30_000,
  skewMarginMs: 0,
  taskCacheSize: 1_000,
} as const

/** A ledger on a Redis of its own. Few partitions, no skew margin: tests are quick and times exact unless they say otherwise. */
export async function startLedger(options: Partial<LedgerOptions> = {}, config: readonly string[] = []): Promise<Fixture> {
  const redis = await startRedis(config)
  const opened: Ledger[] = []
  const open = async (more: Partial<LedgerOptions> = {}) => {
    const ledger = await openLedger({ ...OPTIONS, redis: { socketPath: redis.socketPath }, ...options, ...more })
    opened.push(ledger)
    return ledger
  }
  return {
    redis,
    ledger: await open(),
    open,
    stop: async () => {
      await Promise.all(opened.map((one) => one.disconnect()))
      await redis.stop()
    },
  }
}

export function event(type: EventType = 'lease.issued', more: Partial<Event> = {}): Event {
  return { id: randomUUID(), type, ...more }
}

let lastToken = 0
/** When a workload token was issued, for which a test asks now: each is newer than the one before. */
export function tokenNow(ledger: Ledger): number {
  lastToken = Math.max(lastToken + 1, ledger.now())
  return lastToken
}

export function newTask(ledger: Ledger, more: Partial<NewTask> = {}): NewTask {
  const from =
    more.parent !== undefined
      ? { parent: more.parent }
      : more.externalId !== undefined
        ? { orchestrator: 'orchestrator:flows', externalId: more.externalId }
        : undefined
  return {
    id: ledger.newTaskId(from),
    openedBy: { kind: 'orchestrator', id: 'flows', issuer: 'cluster' },
    intent: 'incident-triage',
    classified: true,
    confidence: 0.9,
    classification: 'internal',
    environment: 'staging',
    assignees: [{ agent: 'triage' }],
    envelope: [{ role: 'warehouse-read' }],
    labels: {},
    deadlineAt: ledger.now() + HOUR,
    maxDepth: 3,
    ...more,
  }
}

export async function openTask(ledger: Ledger, more: Partial<NewTask> = {}): Promise<Task> {
  const opened = await ledger.openTask(newTask(ledger, more), event('task.opened'))
  if (!opened.ok) throw new Error(`the task was refused: ${opened.refused}`)
  return opened.task
}

/** What an agent asks for, decided on the facts of `task` as they were read. */
export function newLease(ledger: Ledger, task: Task, more: Partial<NewLease> = {}): NewLease {
  return {
    id: ledger.newLeaseId(task.id),
    task: task.id,
    agent: { id: 'triage', owner: 'sre@example.com', issuer: 'cluster', tokenIssuedAt: tokenNow(ledger) },
    role: { name: 'warehouse-read', provider: 'warehouse', access: 'read', sensitivity: 'confidential', params: {} },
    scope: {},
    handle: { user: 'mf_x' },
    revocation: 'immediate',
    residualSeconds: 0,
    expiryEndsUse: false,
    ttlSeconds: 600,
    maxLifetimeSeconds: 1800,
    mintMs: 5_000,
    facts: { contextVersion: task.contextVersion, obtained: task.obtained },
    limits: { perTaskLive: 0, perAgentLive: 0 },
    ...more,
  }
}

/** A fresh read and a lease granted on it. */
export async function granted(ledger: Ledger, task: string, more: Partial<NewLease> = {}): Promise<NewLease> {
  const lease = newLease(ledger, await taskNow(ledger, task), more)
  const answer = await ledger.grant(lease, event('lease.issued', { lease: lease.id, task }))
  if (!answer.ok) throw new Error(`the lease was refused: ${answer.refused}`)
  return lease
}

export async function reserved(ledger: Ledger, task: string, more: Partial<NewLease> = {}): Promise<NewLease> {
  const lease = newLease(ledger, await taskNow(ledger, task), more)
  const answer = await ledger.reserve(lease, event('lease.reserved', { lease: lease.id, task }))
  if (!answer.ok) throw new Error(`the lease was refused: ${answer.refused}`)
  return lease
}

export async function taskNow(ledger: Ledger, id: string): Promise<Task> {
  const task = await ledger.task(id, { fresh: true })
  if (!task) throw new Error(`there is no task ${id}`)
  return task
}

export async function stateOf(ledger: Ledger, lease: string): Promise<string | undefined> {
  return (await ledger.lease(lease))?.state
}

/** Every event in the outbox, oldest first per partition. */
export async function eventsOf(ledger: Ledger, partitions = 4): Promise<OutboxEntry['event'][]> {
  const each = await Promise.all(Array.from({ length: partitions }, (_, partition) => ledger.outbox.read(partition, 10_000)))
  return each.flat().map((entry) => entry.event)
}

/** Rewrites fields of a record, so that time need not pass: only ever to say that something happened earlier. */
export async function setFields(redis: TestRedis, kind: 'task' | 'lease', id: string, fields: Record<string, string | number>): Promise<void> {
  await redis.client.hset(`mf:{p${id.split('_')[1]?.slice(0, 2)}}:${kind}:${id}`, fields)
}

/** Makes a lease or task due now. */
export async function makeDue(redis: TestRedis, index: string, id: string): Promise<void> {
  const key = `mf:{p${id.split('_')[1]?.slice(0, 2)}}:${index}`
  const changed = await redis.client.zadd(key, 'XX', 'CH', 1, id)
  if (changed !== 1) throw new Error(`${id} is not in ${key}`)
}

export const PLENTY = new Map([['warehouse', 1_000]])

/** How risk is counted, where a test says nothing else. */
export const RULES: RiskRules = {
  halfLifeMs: 10 * MINUTE,
  rate: { limit: 100, windowMs: MINUTE, points: 20, most: 85 },
  loop: { limit: 5, windowMs: 5 * MINUTE, points: 31, most: 65 },
  refused: { points: 3, most: 45 },
  novelty: { points: 6, most: 35, learnMs: 60 * MINUTE, memoryMs: 1_000 * MINUTE },
  drift: { points: 45, most: 65 },
}
