import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import {
  event,
  eventsOf,
  type Fixture,
  granted,
  makeDue,
  newLease,
  openTask,
  PLENTY,
  reserved,
  setFields,
  startLedger,
  stateOf,
  taskNow,
} from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const past = () => fixture.ledger.now() - 1_000

async function overdue(id: string, fields: Record<string, number>): Promise<void> {
  await setFields(fixture.redis, 'lease', id, fields)
  await makeDue(fixture.redis, 'due:warehouse', id)
}

describe('claim', () => {
  it('leaves alone what is not due', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    expect(await ledger.claim(PLENTY)).toMatchObject({ claims: [], expired: [], ended: 0, lagMs: 0, more: false })
    expect(await stateOf(ledger, lease.id)).toBe('active')
  })

  it('closes what is past its expiry and hands it out once', async () => {
    const { ledger, open } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    await overdue(lease.id, { xa: past() })
    const other = await open()
    const [one, two] = await Promise.all([ledger.claim(PLENTY), other.claim(PLENTY)])
    const all = [...one.claims, ...two.claims]
    expect(all).toMatchObject([{ attempt: 1, lease: { id: lease.id, state: 'closing', cause: 'expired' } }])
    expect(Math.max(one.lagMs, two.lagMs)).toBeGreaterThan(0)
    const told = (await eventsOf(ledger)).find((event) => event.lease === lease.id && event.type === 'lease.closing')
    expect(told).toMatchObject({ cause: 'expired', provider: 'warehouse', role: 'warehouse-read', task: lease.task, detail: { agent: 'triage' } })
  })

  it('closes what was reserved and never activated, with its cause', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id)
    await overdue(lease.id, { mu: past() })
    const { claims } = await ledger.claim(PLENTY)
    expect(claims).toMatchObject([{ lease: { id: lease.id, cause: 'mint_timeout' } }])
    // The mint can no longer arrive: what this attempt sees counts.
    const settled = await ledger.settle({ lease: lease.id, attempt: 1 }, { result: 'absent' }, event('lease.revoked'))
    expect(settled.state).toBe('revoked')
  })

  it('calls expired, without a claim, what its upstream ends by itself; after the margin for the clocks, not before', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: 60_000 })
    const lease = await granted(ledger, (await openTask(ledger)).id, { expiryEndsUse: true })
    await overdue(lease.id, { xa: past() })
    expect((await careful.claim(PLENTY)).expired).toEqual([])
    expect(await stateOf(ledger, lease.id)).toBe('active')
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await ledger.claim(PLENTY)).expired).toEqual([{ lease: lease.id, provider: 'warehouse' }])
    expect(await ledger.lease(lease.id)).toMatchObject({ state: 'expired', cause: 'expired' })
    const told = (await eventsOf(ledger)).filter((event) => event.lease === lease.id && event.type === 'lease.expired')
    expect(told).toHaveLength(1)
  })

  it('closes and expires what is due of a provider that is not configured any more, and hands none of it out', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const [lease, ending] = [await granted(ledger, task.id), await granted(ledger, task.id, { expiryEndsUse: true })]
    for (const { id } of [lease, ending]) await overdue(id, { xa: past() })
    const { claims, expired } = await ledger.claim(new Map([['another', 10]]))
    expect({ claims, expired }).toEqual({ claims: [], expired: [{ lease: ending.id, provider: 'warehouse' }] })
    expect(await stateOf(ledger, lease.id)).toBe('closing')
    expect((await ledger.claim(PLENTY)).claims).toMatchObject([{ lease: { id: lease.id, cause: 'expired' } }])
  })

  it('closes what nobody reaffirmed in time', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    await ledger.changeTask(task.id, { environment: 'production' }, event('task.changed'))
    await overdue(lease.id, { rb: past() })
    expect((await ledger.claim(PLENTY)).claims).toMatchObject([{ lease: { id: lease.id, cause: 'context_changed' } }])
  })

  it('puts back what turns out not to be due', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await ledger.claim(PLENTY)).claims).toEqual([])
    const score = await fixture.redis.client.zscore(`mf:{p${lease.id.slice(6, 8)}}:due:warehouse`, lease.id)
    expect(Number(score)).toBe((await ledger.lease(lease.id))?.expiresAt)
  })

  it('hands a claim out again when its holder did not come back', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    await ledger.close(lease.id, 'released', event('lease.closing'))
    expect((await ledger.claim(PLENTY)).claims).toEqual([])
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await ledger.claim(PLENTY)).claims).toMatchObject([{ attempt: 2, lease: { id: lease.id } }])
  })

  it('hands out no more than the provider has room for, over all partitions, and closes the others all the same', async () => {
    const { ledger } = fixture
    const leases = []
    for (let i = 0; i < 12; i++) {
      const task = await openTask(ledger)
      const lease = await granted(ledger, task.id, { role: { name: 'r', provider: 'narrow', access: 'read', sensitivity: 'public', params: {} } })
      await setFields(fixture.redis, 'lease', lease.id, { xa: past() })
      await makeDue(fixture.redis, 'due:narrow', lease.id)
      leases.push(lease)
    }
    const first = await ledger.claim(new Map([['narrow', 3]]))
    expect(first.claims).toHaveLength(3)
    expect([...first.waiting]).toEqual(['narrow'])
    for (const lease of leases) expect(await stateOf(ledger, lease.id)).toBe('closing')
    const second = await ledger.claim(new Map([['narrow', 100]]))
    expect(second.claims).toHaveLength(9)
    expect(new Set([...first.claims, ...second.claims].map(({ lease }) => lease.id)).size).toBe(12)
  })

  it('leaves what no configured provider can take, and says that it is stuck', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id, { role: { name: 'r', provider: 'gone', access: 'read', sensitivity: 'public', params: {} } })
    await setFields(fixture.redis, 'lease', lease.id, { xa: past() })
    await makeDue(fixture.redis, 'due:gone', lease.id)
    expect((await ledger.claim(PLENTY)).claims).toEqual([])
    // It has been closing for long.
    await makeDue(fixture.redis, 'closing:gone', lease.id)
    const { stuck } = await ledger.status()
    expect(stuck).toContainEqual({ provider: 'gone', leases: 1, oldestMs: expect.any(Number) })
    expect(await ledger.providersInUse()).toEqual(expect.arrayContaining(['gone', 'warehouse']))
    expect(await ledger.rolesInUse()).toContain('r')
  })

  it('forgets index entries whose records are gone', async () => {
    const { ledger, redis } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    const prefix = `mf:{p${lease.id.slice(6, 8)}}:`
    await redis.client.del(`${prefix}lease:${lease.id}`)
    await makeDue(redis, 'due:warehouse', lease.id)
    await ledger.claim(PLENTY)
    expect(await redis.client.zscore(`${prefix}due:warehouse`, lease.id)).toBeNull()
  })
})

describe('tasks that are due', () => {
  it('end at their deadline with all below, and their leases are handed out in the same call', async () => {
    const { ledger, redis } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const lease = await granted(ledger, child.id)
    await setFields(redis, 'task', root.id, { dl: past() })
    await makeDue(redis, 'tasks:due', root.id)
    const swept = await ledger.claim(PLENTY)
    expect(swept.ended).toBe(1)
    expect(swept.claims).toMatchObject([{ lease: { id: lease.id, cause: 'task_expired' } }])
    expect(await taskNow(ledger, root.id)).toMatchObject({ state: 'expired', reason: 'deadline' })
    expect((await taskNow(ledger, child.id)).state).toBe('expired')
    const told = (await eventsOf(ledger)).find((event) => event.task === root.id && event.type === 'task.ended')
    expect(told).toMatchObject({ cause: 'task_expired', detail: { state: 'expired' } })
  })

  it('fail when their heartbeat is missed', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger, { heartbeatSeconds: 30 })
    const lease = await granted(ledger, task.id)
    await setFields(redis, 'task', task.id, { hd: past() })
    await makeDue(redis, 'tasks:due', task.id)
    expect(await ledger.claim(PLENTY)).toMatchObject({ ended: 1, claims: [{ lease: { id: lease.id, cause: 'heartbeat_missed' } }] })
    expect(await taskNow(ledger, task.id)).toMatchObject({ state: 'failed', reason: 'heartbeat missed' })
  })

  it('get their heartbeats extended by an outage, but not their deadlines', async () => {
    const { ledger, redis } = fixture
    const beating = await openTask(ledger, { heartbeatSeconds: 30 })
    const over = await openTask(ledger, { heartbeatSeconds: 30 })
    const now = ledger.now()
    const hour = 3_600_000
    // An hour ago both were touched, and then nobody swept until now.
    for (const task of [beating, over]) {
      await setFields(redis, 'task', task.id, { ht: now - hour, hd: now - hour + 30_000 })
      await makeDue(redis, 'tasks:due', task.id)
    }
    await setFields(redis, 'task', over.id, { dl: now - 1 })
    await redis.client.hset('mf:{p00}:sweep', { at: now - hour + 1_000 })
    expect((await ledger.claim(PLENTY)).ended).toBe(1)
    expect((await taskNow(ledger, over.id)).state).toBe('expired')
    const kept = await taskNow(ledger, beating.id)
    expect(kept.state).toBe('active')
    expect(kept.heartbeatDueAt).toBeGreaterThan(now + 25_000)
    expect(kept.heartbeatDueAt).toBeLessThan(now + 35_000)
    // Extended once: the next miss is one.
    await setFields(redis, 'task', beating.id, { hd: past(), ht: ledger.now() })
    await makeDue(redis, 'tasks:due', beating.id)
    expect((await ledger.claim(PLENTY)).ended).toBe(1)
  })

  it('go on closing what their end left, until nothing is live', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await granted(ledger, task.id)
    const facts = { contextVersion: 1, obtained: ['read:confidential'] }
    await Promise.all(Array.from({ length: 449 }, () => ledger.grant(newLease(ledger, task, { facts }), event())))
    const ended = await ledger.endTask(task.id, { state: 'revoked', cause: 'task_revoked' }, event('task.ended'))
    const seen = new Set(ended.ok ? ended.claims.map(({ lease }) => lease.id) : [])
    expect(seen.size).toBe(200)
    for (let round = 0; seen.size < 450 && round < 10; round++)
      for (const { lease } of (await ledger.claim(PLENTY)).claims) {
        expect(lease).toMatchObject({ task: task.id, cause: 'task_revoked' })
        seen.add(lease.id)
      }
    expect(seen.size).toBe(450)
  })
})
