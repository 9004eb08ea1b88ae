import { MayflyError } from '../errors.js'
import type { Approval, Lease, Task } from '../types.js'
import { keys } from './keys.js'
import type { LeaseFilter, Ledger, Page, TaskFilter } from './ledger.js'
import { approvalOf, leaseOf, taskOf } from './records.js'
import { fieldsOf, listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { partitionOfTask, partitionsOf, type Store } from './store.js'

const listScript = defineScript('list', 'providers', ['index', 'kind', 'cursor'])
const rolesScript = defineScript('roles', 'providers', ['cursor'])

/** Where a listing is: the partition, the name of the index in it, Redis's cursor of that scan, how much of that batch was given out. */
type Place = readonly [partition: number, index: string, scan: string, offset: number]

export function listingCalls(store: Store): Pick<Ledger, 'leases' | 'tasks' | 'approvals' | 'providersInUse' | 'sealingKeysInUse' | 'rolesInUse'> {
  const providersOf = async (partition: number) => (await store.ask(partition, (redis) => redis.smembers(keys.providers(partition)))).sort()

  return {
    leases: async (filter, page) => {
      const only = filter.task === undefined ? undefined : partitionOfTask(store, filter.task)
      if (filter.task !== undefined && only === undefined) return { leases: [] }
      const settled = filter.state === 'revoked' || filter.state === 'expired'
      const indexes = async (partition: number): Promise<string[]> => {
        const providers = settled ? [] : (await providersOf(partition)).filter((name) => filter.provider === undefined || name === filter.provider)
        const unsettled = providers.flatMap((provider) => [`due:${provider}`, `urgent:${provider}`])
        return filter.state !== undefined && !settled ? unsettled : [...unsettled, 'settled']
      }
      const read = (reply: unknown[]): Lease[] => [leaseOf(textOf(reply[0]), fieldsOf(reply[1]))].filter((lease) => fits(lease, filter))
      const { found, cursor } = await walk(store, { kind: 'lease', indexes, only, read, page })
      return { leases: found, cursor }
    },

    tasks: async (filter, page) => {
      const read = ([id, fields, root, above]: unknown[]): Task[] =>
        [taskOf(textOf(id), fieldsOf(fields), root, above)].filter((task) => fitsTask(task, fieldsOf(fields), filter))
      const { found, cursor } = await walk(store, { kind: 'task', indexes: async () => ['tasks'], read, page })
      return { tasks: found, cursor }
    },

    approvals: async (page) => {
      const read = ([id, fields, over]: unknown[]): Approval[] =>
        [approvalOf(textOf(id), fieldsOf(fields), textOf(over))].filter(({ state }) => state === 'open' || state === 'granted')
      const { found, cursor } = await walk(store, { kind: 'approval', indexes: async () => ['approvals'], read, page })
      return { approvals: found, cursor }
    },

    providersInUse: async () => {
      const names = await Promise.all(partitionsOf(store).map(providersOf))
      return [...new Set(names.flat())].sort()
    },

    sealingKeysInUse: async () => {
      const ids = await Promise.all(partitionsOf(store).map((partition) => store.ask(partition, (redis) => redis.hkeys(keys.sealed(partition)))))
      return [...new Set(ids.flat())].sort()
    },

    rolesInUse: async () => {
      const roles = new Set<string>()
      const walkRoles = async (partition: number): Promise<void> => {
        for (let cursor = ''; cursor !== 'done'; ) {
          const [next, ...names] = listOf(await store.run(rolesScript, keys.providers(partition), { cursor }))
          cursor = textOf(next)
          // What was found upstream may be of a role that nobody knows.
          for (const name of names.map(textOf)) if (name !== '') roles.add(name)
        }
      }
      await Promise.all(partitionsOf(store).map(walkRoles))
      return [...roles].sort()
    },
  }
}

interface Walk<T> {
  readonly kind: 'lease' | 'task' | 'approval'
  readonly indexes: (partition: number) => Promise<string[]>
  readonly only?: number
  /** The record, unless the filter leaves it out. */
  readonly read: (reply: unknown[]) => T[]
  readonly page: Page
}

/**
 * From one partition's indexes to the next's, a batch at a time, until the page is full. What is there all the time is seen; what moves
 * between two pages may be seen twice.
 */
async function walk<T>(store: Store, { kind, indexes, only, read, page }: Walk<T>): Promise<{ found: T[]; cursor?: string }> {
  const found: T[] = []
  const start = page.cursor === undefined ? undefined : parseCursor(page.cursor, store.options.partitions)
  let [partition, from, scan, offset] = start ?? [only ?? 0, '', '0', 0]
  for (; partition < store.options.partitions && (only === undefined || partition === only); partition++) {
    // In the order in which leases move, `due`, `settled`, `urgent` ahead of nothing: what moves on is ahead of this walk.
    for (const index of (await indexes(partition)).filter((name) => name >= from).sort()) {
      if (index !== from) [scan, offset] = ['0', 0]
      do {
        const [next, ...batch] = listOf(await store.run(listScript, keys.providers(partition), { index, kind, cursor: scan }))
        for (; offset < batch.length; offset++) {
          if (found.length >= page.limit) return { found, cursor: cursorOf([partition, index, scan, offset]) }
          found.push(...read(listOf(batch[offset])))
        }
        offset = 0
        scan = textOf(next)
      } while (scan !== '0')
    }
    from = ''
  }
  return { found }
}

function fits(lease: Lease, filter: LeaseFilter): boolean {
  return (['task', 'agent', 'role', 'provider', 'state'] as const).every((name) => filter[name] === undefined || filter[name] === lease[name])
}

function fitsTask(task: Task, fields: Record<string, string>, filter: TaskFilter): boolean {
  if (filter.state !== undefined && task.state !== filter.state) return false
  if (filter.orchestrator !== undefined && fields.or !== filter.orchestrator) return false
  return filter.agent === undefined || task.assignees.some(({ agent }) => agent === filter.agent)
}

function cursorOf(place: Place): string {
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

function parseCursor(cursor: string, partitions: number): Place {
  try {
    const [partition, index, scan, offset] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    const whole = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    const text = (value: unknown): value is string => typeof value === 'string'
    if (whole(partition) && partition < partitions && text(index) && whole(offset) && text(scan) && /^\d{1,20}$/.test(scan))
      return [partition, index, scan, offset]
  } catch {
    // Told below, in the same words as every other cursor that is none.
  }
  throw new MayflyError('request_invalid', 'the cursor is none of this listing', {
    issues: [{ path: 'cursor', message: 'must be the cursor of the page before, unchanged' }],
  })
}
