import type { RedisAddress } from '../../../src/ledger/address.js'
import { type LedgerOptions, openLedger } from '../../../src/ledger/index.js'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { waitFor } from '../../support/wait.js'
import { event, newLease, newTask, taskNow } from '../fixture.js'

const OPTIONS = {
  instance: 'test',
  partitions: 8,
  durability: 'everysec',
  settledRetentionSeconds: 3600,
  outboxLimit: 1_000_000,
  createMeta: true,
  visibilityMs: 30_000,
  skewMarginMs: 0,
  taskCacheSize: 1_000,
} as const

export const PARTITIONS = OPTIONS.partitions

/** A broker's ledger at `redis`. */
export function openAt(redis: RedisAddress, more: Partial<LedgerOptions> = {}): Promise<Ledger> {
  return openLedger({ ...OPTIONS, redis, ...more })
}

/** A task in this partition. */
export async function taskIn(ledger: Ledger, partition: number): Promise<string> {
  const id = ledger.newTaskId().replace(/^task_\d\d/, `task_${String(partition).padStart(2, '0')}`)
  const opened = await ledger.openTask(newTask(ledger, { id }), event('task.opened'))
  if (!opened.ok) throw new Error(`the task was refused: ${opened.refused}`)
  return opened.task.id
}

/** What came of one request for a lease: its id, or the code of what it was refused with. */
export async function ask(ledger: Ledger, task: string): Promise<{ lease: string } | { refused: string }> {
  try {
    const lease = newLease(ledger, await taskNow(ledger, task))
    const answer = await ledger.grant(lease, event('lease.issued', { lease: lease.id, task }))
    return answer.ok ? { lease: lease.id } : { refused: answer.refused }
  } catch (error) {
    if (typeof error === 'object' && error !== null && 'code' in error) return { refused: String(error.code) }
    throw error
  }
}

/** Agents that ask without a pause, each for a task of its own, until `stop`. */
export function startLoad(
  ledger: Ledger,
  tasks: readonly string[],
): { readonly granted: string[]; readonly refused: string[]; stop(): Promise<void> } {
  const granted: string[] = []
  const refused: string[] = []
  let isOver = false
  const agents = tasks.map(async (task) => {
    while (!isOver) {
      const answer = await ask(ledger, task)
      if ('lease' in answer) granted.push(answer.lease)
      else {
        refused.push(answer.refused)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  })
  return {
    granted,
    refused,
    stop: async () => {
      isOver = true
      await Promise.all(agents)
    },
  }
}

/** Those of these leases that the ledger does not know. */
export async function lostOf(ledger: Ledger, leases: readonly string[]): Promise<string[]> {
  const answer = (id: string) =>
    ledger.lease(id).then(
      (lease) => [lease],
      () => undefined,
    )
  const lost: string[] = []
  for (const id of leases) {
    const [lease] = await waitFor('an answer', () => answer(id), 30_000)
    if (!lease) lost.push(id)
  }
  return lost
}
