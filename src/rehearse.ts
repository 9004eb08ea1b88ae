import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { pino } from 'pino'
import { createBroker } from './broker.js'
import type { Config } from './config.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { issue } from './issue.js'
import { drive } from './revoke.js'
import type { Agent, Role, Task } from './types.js'

/** What became of one role. */
export interface Rehearsed {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly what: string
  readonly mend?: string
}

const TTL_SECONDS = 60
const WAIT_MS = 30_000
const LOOK_EVERY_MS = 100

/**
 * A real credential of each role, minted through a task opened for it alone, and taken back by that task's end. It goes the way of any other
 * lease: written down before it exists, so that whatever happens to this process, the brokers take it back. Nobody sees its secret.
 * @throws MayflyError where the ledger cannot be used
 */
export async function rehearse(config: Config, agent: Agent, asked: readonly { role: Role; task: Task }[]): Promise<Rehearsed[]> {
  if ('embedded' in config.ledger.redis) {
    const mend = 'rehearse against an installation with a Redis of its own'
    return [{ level: 'fail', what: "an embedded ledger is its broker's alone", mend }]
  }
  const broker = await createBroker(config, { log: pino({ level: 'silent' }) })
  try {
    const results: Rehearsed[] = []
    for (const one of asked) results.push(await rehearseRole(broker.house(), agent, one.role, one.task))
    return results
  } finally {
    await broker.stop()
  }
}

async function rehearseRole(
  house: House,
  agent: Agent,
  role: Role,
  { intent, classified, confidence, classification, environment }: Task,
): Promise<Rehearsed> {
  const { ledger } = house
  const id = ledger.newTaskId({ agent: agent.id })
  const about = { intent, classified, confidence, classification, environment, envelope: [{ role: role.name, maxTtlSeconds: TTL_SECONDS }] }
  const opener = { kind: 'orchestrator', id: 'mayfly-readiness', issuer: agent.issuer } as const
  const who = { assignees: [{ agent: agent.id, instance: agent.instance }], openedBy: opener, labels: { rehearsal: 'true' } }
  const told = event('task.opened', undefined, undefined, { task: id, detail: { rehearsal: true, agent: agent.id, role: role.name } })
  const opened = await ledger.openTask({ id, ...about, ...who, deadlineAt: ledger.now() + 2 * TTL_SECONDS * 1000, maxDepth: 0 }, told)
  if (!opened.ok)
    return {
      level: 'fail',
      what: `${role.name}: no task could be opened for it (${opened.refused})`,
      mend: 'a freeze covers it, or the outbox is full',
    }
  try {
    const ask = { task: id, role: role.name, ttlSeconds: TTL_SECONDS, canWait: false, reason: 'rehearsal' }
    const holder = { ...agent, tokenIssuedAt: ledger.now(), tokenExpiresAt: ledger.now() + TTL_SECONDS * 1000 }
    const { lease } = await issue(house, holder, ask, { requestId: randomUUID() }, () => false)
    const started = performance.now()
    await endTask(house, id)
    return await outcomeOf(house, role, lease.id, started)
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error
    return { level: 'fail', what: `${role.name}: ${error.code}: ${error.message}`, mend: error.details.next }
  } finally {
    await endTask(house, id).catch(() => undefined)
  }
}

async function endTask(house: House, task: string): Promise<void> {
  const told = event('task.ended', undefined, undefined, { task, cause: 'task_completed', detail: { rehearsal: true } })
  const ended = await house.ledger.endTask(task, { state: 'completed', cause: 'task_completed', reason: 'rehearsal' }, told)
  if (ended.ok) for (const claim of ended.claims) void drive(house, claim)
}

async function outcomeOf(house: House, { name, provider }: Role, id: string, started: number): Promise<Rehearsed> {
  const upstream = house.upstreams.get(provider)
  const late = started + WAIT_MS
  for (;;) {
    const lease = await house.ledger.lease(id)
    const ms = Math.round(performance.now() - started)
    if (!lease || lease.state === 'revoked') return { level: 'ok', what: `${name}: minted, and revoked ${ms} ms after the end of its task` }
    if (upstream?.provider.revocation === 'at-expiry') {
      const until = new Date(lease.usableUntil ?? lease.expiresAt).toISOString()
      return { level: 'warn', what: `${name}: minted, and as declared not taken back: it ends by itself at ${until}` }
    }
    if (performance.now() > late) {
      const what = `${name}: minted, and not revoked in ${WAIT_MS / 1000} s${lease.lastError ? `: ${lease.lastError}` : ''}`
      return { level: 'fail', what, mend: 'the brokers go on trying; mend the upstream, or the right of the broker to revoke there' }
    }
    await pause(LOOK_EVERY_MS)
  }
}
