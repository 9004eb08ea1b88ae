import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { NewOrphan } from '../../src/ledger/ledger.js'
import { event, type Fixture, granted, HOUR, openTask, reserved, setFields, startLedger } from './fixture.js'

/** What upstreams list, held against what is written. */

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger({ partitions: 4 })
})
afterAll(() => fixture.stop())

const found = () => event('orphan.found', { provider: 'warehouse' })
const someId = () => fixture.ledger.newLeaseId(fixture.ledger.newTaskId())
const now = () => ({ listedFrom: fixture.ledger.now() + 1_000, apartMs: 0 })
const orphan = (lease: string, more: Partial<NewOrphan> = {}): NewOrphan => ({
  lease,
  provider: 'warehouse',
  handle: { role: `mf-test-${lease}` },
  revocation: 'immediate',
  residualSeconds: 0,
  ...more,
})
const adopt = (one: NewOrphan, options?: { left?: boolean }) =>
  fixture.ledger.adopt(one, event('lease.closing', { lease: one.lease, cause: 'orphan' }), options)

describe('what is asked of many leases', () => {
  it('is answered for each that could be one of this ledger', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const [live, pending, closing, settled] = [
      await granted(ledger, task.id),
      await reserved(ledger, task.id),
      await granted(ledger, task.id),
      await granted(ledger, task.id),
    ]
    for (const { id } of [closing, settled]) await ledger.close(id, 'released', event('lease.closing'))
    await ledger.settle({ lease: settled.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    const unknown = someId()
    const ids = [live.id, pending.id, closing.id, settled.id, unknown]
    const known = await ledger.lookUp([...ids, ...ids, `lease_99${'a'.repeat(26)}`, 'lease_', '', `${live.id} `, `${live.id}*`])
    expect(Object.fromEntries(known)).toEqual({
      [live.id]: 'live',
      [pending.id]: 'live',
      [closing.id]: 'closing',
      [settled.id]: 'settled',
      [unknown]: 'unknown',
    })
  })

  it('is answered in any number, and whatever the names are', async () => {
    const ids = Array.from({ length: 5_000 }, someId)
    const known = await fixture.ledger.lookUp(ids)
    expect(known.size).toBe(5_000)
    expect(new Set(known.values())).toEqual(new Set(['unknown']))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'binary' }), { maxLength: 20 }), async (names) => {
        expect((await fixture.ledger.lookUp(names)).size).toBe(0)
        expect((await fixture.ledger.sight('warehouse', names, now(), found())).size).toBe(0)
        for (const name of names) expect(await adopt(orphan(name))).toEqual({ adopted: false })
      }),
      { numRuns: 30 },
    )
  })
})

describe('a sight', () => {
  it('makes an orphan of what is listed long enough after nothing was known of it, and tells it once', async () => {
    const { ledger } = fixture
    const id = someId()
    const look = (listedFrom: number) => ledger.sight('warehouse', [id], { listedFrom, apartMs: 5_000 }, found())
    const first = ledger.now()
    expect((await look(first + HOUR)).get(id)).toBe('found')
    const other = someId()
    const again = (listedFrom: number) => ledger.sight('warehouse', [other], { listedFrom, apartMs: 5_000 }, found()).then((all) => all.get(other))
    expect(await again(first)).toBe('seen')
    expect(await again(first + 4_000)).toBe('seen')
    expect(await again(first + 60_000)).toBe('found')
    expect(await again(first + 60_000)).toBe('orphan')
    const told = (await fixture.redis.client.xrange(`mf:{p${other.slice(6, 8)}}:events`, '-', '+')).filter(([, fields]) => fields.includes(other))
    expect(told).toHaveLength(1)
  })

  it('leaves alone what lives, and what was settled since', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const { id } = await granted(ledger, task.id)
    const look = () => ledger.sight('warehouse', [id], now(), found()).then((all) => all.get(id))
    expect(await look()).toBe('known')
    await ledger.close(id, 'released', event('lease.closing'))
    expect(await look()).toBe('known')
    await ledger.settle({ lease: id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    const listed = (listedFrom: number) => ledger.sight('warehouse', [id], { listedFrom, apartMs: 5_000 }, found()).then((all) => all.get(id))
    expect(await listed(ledger.now())).toBe('known')
    expect(await listed(ledger.now() + 10_000)).toBe('found')
  })

  it('of very many does not fill the outbox', async () => {
    const small = await fixture.open({ outboxLimit: 400 })
    const ids = Array.from({ length: 2_000 }, someId)
    const before = await small.outbox.length()
    const sights = await small.sight('warehouse', ids, now(), found())
    expect([...sights.values()].filter((one) => one === 'found').length).toBeLessThanOrEqual(200)
    expect((await small.outbox.length()) - before).toBeLessThanOrEqual(200)
  })
})

describe('an orphan that is adopted', () => {
  it('is closing, claimed, and settled by a revoke or by being absent', async () => {
    const { ledger } = fixture
    for (const result of ['revoked', 'absent'] as const) {
      const id = someId()
      const { adopted, claim } = await adopt(orphan(id, { expiresAt: Number.POSITIVE_INFINITY }))
      expect(adopted).toBe(true)
      expect(claim).toMatchObject({ attempt: 1, lease: { id, state: 'closing', cause: 'orphan', handle: { role: `mf-test-${id}` }, task: '' } })
      expect(new Date(claim?.lease.expiresAt ?? 0).getTime()).not.toBeNaN()
      expect(await adopt(orphan(id))).toEqual({ adopted: false })
      expect(await ledger.providersInUse()).toContain('warehouse')
      expect(await ledger.rolesInUse()).not.toContain('')
      expect((await ledger.agents()).map(({ agent }) => agent)).not.toContain('')
      expect(await ledger.settle({ lease: id, attempt: 1 }, { result }, event('lease.revoked', { lease: id }))).toMatchObject({ state: 'revoked' })
    }
  })

  it('comes due again when its revoke failed, for whoever sweeps', async () => {
    const { ledger } = fixture
    const id = someId()
    expect(await adopt(orphan(id, { provider: 'sweeps' }), { left: true })).toEqual({ adopted: true, claim: undefined })
    const { claims } = await ledger.claim(new Map([['sweeps', 10]]))
    expect(claims).toMatchObject([{ attempt: 1, lease: { id, provider: 'sweeps' } }])
    const failed = { result: 'failed', error: 'no' } as const
    expect(await ledger.settle({ lease: id, attempt: 1 }, failed, event('lease.stuck', { lease: id }))).toMatchObject({ state: 'closing' })
    expect((await ledger.leases({ provider: 'sweeps' }, { limit: 10 })).leases).toMatchObject([{ id, state: 'closing', lastError: 'no' }])
  })

  it('is covered by a stop of its provider', async () => {
    const { ledger } = fixture
    const id = someId()
    await adopt(orphan(id, { provider: 'stopped' }))
    const { id: revocation } = await ledger.openRevocation(
      { selector: { provider: ['stopped'] }, reason: 'test', by: 'oncall' },
      event('revocation.started'),
    )
    while (!(await ledger.advanceRevocation(revocation)).done);
    expect(await ledger.revocation(revocation)).toMatchObject({ matched: 1 })
  })

  it('keeps what a settled record said of it, and counts as its task’s and agent’s until it is gone', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const { id } = await granted(ledger, task.id)
    await ledger.close(id, 'released', event('lease.closing'))
    await ledger.settle({ lease: id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    const { claim } = await adopt(orphan(id))
    expect(claim?.lease).toMatchObject({ task: task.id, agent: 'triage', role: 'warehouse-read', cause: 'orphan', settledAt: undefined })
    expect(claim?.attempt).toBe(2)
    expect((await ledger.leasesOfTask(task.id)).map((lease) => lease.id)).toEqual([id])
    await ledger.settle({ lease: id, attempt: 2 }, { result: 'absent' }, event('lease.revoked'))
    expect(await ledger.leasesOfTask(task.id)).toEqual([])
    const root = await fixture.redis.client.hgetall(`mf:{p${task.id.slice(5, 7)}}:task:${task.id}`)
    expect(root['L:triage']).toBeUndefined()
    expect(await fixture.redis.client.ttl(`mf:{p${id.slice(6, 8)}}:lease:${id}`)).toBeGreaterThan(0)
  })

  it('is taken back, told and due also where its task is gone', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const { id } = await granted(ledger, task.id)
    await ledger.close(id, 'released', event('lease.closing'))
    await ledger.settle({ lease: id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    await redis.client.del(`mf:{p${id.slice(6, 8)}}:task:${task.id}`)
    expect((await adopt(orphan(id))).claim?.lease).toMatchObject({ task: task.id, cause: 'orphan' })
  })

  it('is no orphan any more where its mint arrives after all: that is taken back too', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id)
    // A ledger that lost the reservation, and somebody who found what was minted.
    await fixture.redis.client.del(`mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`)
    await adopt(orphan(lease.id))
    const minted = { handle: lease.handle, expiresAt: ledger.now() + HOUR }
    expect(await ledger.activate(lease, minted, event('lease.issued', { lease: lease.id }))).toMatchObject({ state: 'closing', cause: 'orphan' })
  })
})

describe('active leases of a provider', () => {
  it('are those whose mint had come to its end by then', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const role = { name: 'r', provider: 'counted', access: 'read', sensitivity: 'internal', params: {} } as const
    const leases = []
    for (let n = 0; n < 12; n++) leases.push(await granted(ledger, task.id, { role }))
    await reserved(ledger, task.id, { role })
    const [late] = leases.splice(0, 1)
    if (late) await setFields(fixture.redis, 'lease', late.id, { mu: ledger.now() + HOUR })
    const seen: string[] = []
    for await (const page of ledger.activesOf('counted', ledger.now() + 10_000)) seen.push(...page)
    expect(seen.sort()).toEqual(leases.map(({ id }) => id).sort())
  })
})
