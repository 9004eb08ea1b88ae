import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { LeaseFilter, Ledger } from '../../src/ledger/ledger.js'
import type { Lease } from '../../src/types.js'
import { event, type Fixture, granted, openTask, startLedger } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

async function pages(ledger: Ledger, filter: LeaseFilter, limit: number): Promise<Lease[][]> {
  const all: Lease[][] = []
  let cursor: string | undefined
  do {
    const page = await ledger.leases(filter, { limit, cursor })
    all.push(page.leases)
    cursor = page.cursor
  } while (cursor !== undefined)
  return all
}

const ids = (leases: readonly Lease[]) => leases.map(({ id }) => id).sort()

describe('listing leases', () => {
  it('walks all partitions and indexes, a page at a time, each lease once', async () => {
    const { ledger } = fixture
    const agent = { id: 'lister', owner: 'o', issuer: 'cluster' }
    const made: string[] = []
    for (let i = 0; i < 8; i++) {
      const task = await openTask(ledger, { assignees: [{ agent: 'lister' }] })
      for (const provider of ['warehouse', 'aws-main'])
        for (let j = 0; j < 20; j++)
          made.push((await granted(ledger, task.id, { agent, role: { name: 'r', provider, access: 'read', sensitivity: 'public', params: {} } })).id)
    }
    await granted(ledger, (await openTask(ledger)).id)
    const all = await pages(ledger, { agent: 'lister' }, 7)
    for (const page of all.slice(0, -1)) expect(page).toHaveLength(7)
    expect(ids(all.flat())).toEqual(made.sort())
    expect((await pages(ledger, { agent: 'lister', provider: 'aws-main' }, 1_000)).flat()).toHaveLength(160)
  })

  it('filters by task, role and state, and finds what is settled', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const [active, closing, settled] = [await granted(ledger, task.id), await granted(ledger, task.id), await granted(ledger, task.id)]
    await ledger.close(closing.id, 'released', event('lease.closing'))
    await ledger.close(settled.id, 'released', event('lease.closing'))
    await ledger.settle({ lease: settled.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    const list = async (filter: LeaseFilter) => ids((await ledger.leases({ task: task.id, ...filter }, { limit: 100 })).leases)
    expect(await list({})).toEqual([active.id, closing.id, settled.id].sort())
    expect(await list({ state: 'active' })).toEqual([active.id])
    expect(await list({ state: 'closing' })).toEqual([closing.id])
    expect(await list({ state: 'revoked' })).toEqual([settled.id])
    expect(await list({ role: 'other' })).toEqual([])
    expect(await list({ task: 'task_nothing' })).toEqual([])
    expect(ids(await ledger.leasesOfTask(task.id))).toEqual([active.id, closing.id].sort())
    expect(await ledger.leasesOfTask('nothing')).toEqual([])
  })

  it('refuses a cursor that is none', async () => {
    for (const cursor of ['', 'x', Buffer.from('[99,"","0",0]').toString('base64url'), Buffer.from('[0,"due:x","0;",0]').toString('base64url')])
      await expect(fixture.ledger.leases({}, { limit: 10, cursor })).rejects.toMatchObject({ code: 'request_invalid' })
  })
})

describe('listing tasks', () => {
  it('filters by state, assignee and orchestrator, and tells a task below an ended one as ended', async () => {
    const { ledger } = fixture
    const opened = { openedBy: { kind: 'orchestrator', id: 'lister', issuer: 'cluster' } } as const
    const root = await openTask(ledger, opened)
    const child = await openTask(ledger, { parent: root.id, assignees: [{ agent: 'helper' }] })
    const other = await openTask(ledger, opened)
    const list = async (filter: object) =>
      (await ledger.tasks({ orchestrator: 'lister', ...filter }, { limit: 100 })).tasks.map(({ id }) => id).sort()
    expect(await list({})).toEqual([root.id, child.id, other.id].sort())
    expect(await list({ agent: 'helper' })).toEqual([child.id])
    await ledger.endTask(root.id, { state: 'cancelled', cause: 'task_cancelled' }, event('task.ended'))
    expect(await list({ state: 'active' })).toEqual([other.id])
    expect(await list({ state: 'cancelled' })).toEqual([root.id, child.id].sort())
  })
})

describe('the status', () => {
  it('counts what is live and what the outbox holds', async () => {
    const { ledger } = fixture
    const before = await ledger.status()
    await granted(ledger, (await openTask(ledger)).id)
    const after = await ledger.status()
    expect(after).toMatchObject({ reachable: true, durability: 'none', live: before.live + 1, outboxLength: before.outboxLength + 2, stuck: [] })
    expect(after.redisVersion).toMatch(/^\d+\.\d+/)
    expect(after.problems.join()).toContain('appendonly is no')
    expect(await ledger.outbox.length()).toBe(after.outboxLength)
  })
})
