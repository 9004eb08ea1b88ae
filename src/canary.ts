import { randomUUID } from 'node:crypto'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { issue } from './issue.js'
import { refusal } from './refusals.js'
import { drive } from './revoke.js'
import type { Agent, Role, Task } from './types.js'

const TTL_SECONDS = 60
/** Longer than the credential lives, so that it is the end of the task that takes it back. */
const TASK_SECONDS = 2 * TTL_SECONDS

export type CanaryTask = Pick<Task, 'intent' | 'classified' | 'confidence' | 'classification' | 'environment'>

/**
 * A real credential of one role that nobody uses: minted through a task that is opened for it alone, as this agent would, and taken back by the
 * end of that task. It goes the way of any other lease: written down before it exists, so that whatever happens to this process, the brokers take
 * it back. Nobody sees its secret.
 * @param alive what to do while it lives
 * @returns the lease, and when its task had ended, `performance.now()`
 * @throws MayflyError where it could not be obtained
 */
export async function canary(
  house: House,
  agent: Agent,
  role: Role,
  { intent, classified, confidence, classification, environment }: CanaryTask,
  purpose: 'rehearsal' | 'drill',
  alive: (lease: string) => Promise<void> = async () => {},
): Promise<{ lease: string; endedAt: number }> {
  const { ledger } = house
  const id = ledger.newTaskId({ agent: agent.id })
  const about = { intent, classified, confidence, classification, environment, envelope: [{ role: role.name, maxTtlSeconds: TTL_SECONDS }] }
  const opener = { kind: 'orchestrator', id: purpose === 'drill' ? 'mayfly-drill' : 'mayfly-readiness', issuer: agent.issuer } as const
  const who = { assignees: [{ agent: agent.id, instance: agent.instance }], openedBy: opener, labels: { [purpose]: 'true' } }
  const told = event('task.opened', undefined, undefined, { task: id, detail: { [purpose]: true, agent: agent.id, role: role.name } })
  const opened = await ledger.openTask({ id, ...about, ...who, deadlineAt: ledger.now() + TASK_SECONDS * 1000, maxDepth: 0 }, told)
  if (!opened.ok) {
    const { refused } = opened
    throw refused === 'quarantined' || refused === 'frozen' || refused === 'outbox_full' ? refusal(refused) : noTask(role, refused)
  }
  try {
    const ask = { task: id, role: role.name, ttlSeconds: TTL_SECONDS, canWait: false, reason: purpose }
    const holder = { ...agent, tokenIssuedAt: ledger.now(), tokenExpiresAt: ledger.now() + TTL_SECONDS * 1000 }
    const { lease } = await issue(house, holder, ask, { requestId: randomUUID() }, () => false)
    await alive(lease.id)
    await end(house, id, purpose)
    return { lease: lease.id, endedAt: performance.now() }
  } catch (error) {
    await end(house, id, purpose).catch(() => undefined)
    throw error
  }
}

function noTask({ name }: Role, why: string): MayflyError {
  return new MayflyError('denied', `${name}: no task could be opened for it (${why})`, { next: 'see what the agent has open' })
}

async function end(house: House, task: string, purpose: string): Promise<void> {
  const told = event('task.ended', undefined, undefined, { task, cause: 'task_completed', detail: { [purpose]: true } })
  const ended = await house.ledger.endTask(task, { state: 'completed', cause: 'task_completed', reason: purpose }, told)
  if (ended.ok) for (const claim of ended.claims) void drive(house, claim)
}
