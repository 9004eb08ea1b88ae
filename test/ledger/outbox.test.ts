import { afterEach, describe, expect, it } from '@jest/globals'
import { waitFor } from '../support/wait.js'
import { event, eventsOf, type Fixture, granted, newLease, newTask, openTask, startLedger, taskNow, tokenNow } from './fixture.js'

let fixture: Fixture
afterEach(() => fixture.stop())

describe('the outbox', () => {
  it('is held by one reader at a time, until its term is over', async () => {
    fixture = await startLedger()
    const { outbox } = fixture.ledger
    expect(await outbox.hold('one', 60_000)).toEqual([0, 1, 2, 3])
    expect(await outbox.hold('two', 60_000)).toEqual([])
    expect(await outbox.hold('one', 60_000)).toEqual([0, 1, 2, 3])
    await fixture.redis.client.hset('mf:{p02}:audit', { until: 1 })
    expect(await outbox.hold('two', 60_000)).toEqual([2])
    expect(await outbox.hold('one', 60_000)).toEqual([0, 1, 3])
  })

  it('keeps what is not confirmed, in order, and trims what is', async () => {
    fixture = await startLedger({ partitions: 1 })
    const { ledger } = fixture
    await ledger.outbox.hold('one', 60_000)
    const events = Array.from({ length: 5 }, (_, i) => event('lease.denied', { detail: { i } }))
    for (const one of events) expect(await ledger.record(one)).toEqual({ ok: true })
    const first = await ledger.outbox.read(0, 3)
    expect(first.map((entry) => entry.event.id)).toEqual(events.slice(0, 3).map(({ id }) => id))
    expect(first[0]?.event.at).toBe(Number(first[0]?.streamId.split('-')[0]))
    expect(await ledger.outbox.read(0, 3)).toEqual(first)
    expect(await ledger.outbox.confirm(0, 'two', first[2]?.streamId ?? '')).toBe(false)
    expect(await ledger.outbox.length()).toBe(5)
    expect(await ledger.outbox.confirm(0, 'one', first[2]?.streamId ?? '')).toBe(true)
    expect(await ledger.outbox.length()).toBe(2)
    expect((await ledger.outbox.read(0, 10)).map((entry) => entry.event.detail)).toEqual([{ i: 3 }, { i: 4 }])
  })

  it('tells when a lease expires beside whatever its event says, in the text as in the event', async () => {
    fixture = await startLedger({ partitions: 1 })
    const { ledger } = fixture
    const task = await openTask(ledger)
    const details = [
      undefined,
      {},
      { input: {} },
      { input: { action: 'read', context: { ttl: 300 } } },
      { why: '"detail":{}}', list: [{ deep: { deeper: {} } }] },
      { expires_at: 'what the broker said before', more: [{}] },
    ]
    for (const detail of details) {
      const facts = detail && { detail }
      const lease = newLease(ledger, await taskNow(ledger, task.id))
      const answer = await ledger.grant(lease, { ...event('lease.issued', { lease: lease.id, task: task.id }), ...facts })
      const entry = (await ledger.outbox.read(0, 100)).at(-1)
      const expected = { ...detail, expires_at: answer.ok ? answer.expiresAt : undefined }
      expect(JSON.parse(entry?.json ?? '')).toMatchObject({ type: 'lease.issued', lease: lease.id, detail: expected })
      expect(entry?.event.detail).toEqual(expected)
    }
  })

  it('tells of each of many leases that one step closes, and of its revoke, whatever its agent is called', async () => {
    fixture = await startLedger({ partitions: 1 })
    const { ledger } = fixture
    const id = 'a "quoted",\u2028 one'
    const { id: task } = await openTask(ledger, { assignees: [{ agent: id }] })
    const usual = newLease(ledger, await taskNow(ledger, task))
    const lease = { ...usual, agent: { ...usual.agent, id } }
    expect(await ledger.grant(lease, event('lease.issued'))).toMatchObject({ ok: true })
    const revocation = await ledger.openRevocation({ selector: { all: true }, reason: 'r', by: 'op' }, event('revocation.started'))
    const { claims } = await ledger.advanceRevocation(revocation.id)
    const about = { lease: lease.id, task, role: lease.role.name, provider: lease.role.provider, cause: 'emergency' } as const
    for (const { attempt } of claims) await ledger.settle({ lease: lease.id, attempt }, { result: 'revoked' }, event('lease.revoked', about))
    const told = (await ledger.outbox.read(0, 100)).map(({ json }) => JSON.parse(json)).filter((one) => one.cause === 'emergency')
    expect(told).toMatchObject([
      { type: 'lease.closing', ...about, id: expect.stringMatching(new RegExp(`^[\\w-]{36}:${lease.id}$`)), detail: { agent: id } },
      { type: 'lease.revoked', ...about },
    ])
  })

  it('stops what issues when it is full, and nothing that narrows', async () => {
    fixture = await startLedger({ partitions: 1, outboxLimit: 5 })
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    const pending = newLease(ledger, await taskNow(ledger, task.id))
    expect(await ledger.reserve(pending, event('lease.reserved'))).toMatchObject({ ok: true })
    for (let i = 0; i < 2; i++) await ledger.record(event('lease.denied'))

    expect(await ledger.record(event('lease.denied'))).toEqual({ ok: false, refused: 'outbox_full' })
    const now = await taskNow(ledger, task.id)
    expect(await ledger.reserve(newLease(ledger, now), event())).toMatchObject({ refused: 'outbox_full' })
    expect(await ledger.grant(newLease(ledger, now), event())).toMatchObject({ refused: 'outbox_full' })
    expect(await ledger.openTask(newTask(ledger), event())).toMatchObject({ refused: 'outbox_full' })
    const facts = { contextVersion: 1, obtained: now.obtained }
    expect(await ledger.renew(lease.id, { ttlSeconds: 900, facts, tokenIssuedAt: tokenNow(ledger) }, event())).toMatchObject({
      refused: 'outbox_full',
    })

    expect(await ledger.activate(pending, { handle: {}, expiresAt: ledger.now() + 1_000 }, event())).toEqual({ state: 'active' })
    const { freeze } = await ledger.freeze({ selector: { all: true }, reason: 'r', by: 'op' }, event('freeze.set'))
    const { id } = await ledger.openRevocation({ selector: { role: ['warehouse-read'] }, reason: 'r', by: 'op' }, event('revocation.started'))
    for (const { lease: one, attempt } of (await ledger.advanceRevocation(id)).claims)
      expect(await ledger.settle({ lease: one.id, attempt }, { result: 'revoked' }, event('lease.revoked'))).toMatchObject({ state: 'revoked' })
    expect(await ledger.endTask(task.id, { state: 'failed', cause: 'task_failed' }, event('task.ended'))).toMatchObject({ first: true })
    expect(await ledger.thaw(freeze.id, { reason: 'r', by: 'op' }, event('freeze.thawed'))).toMatchObject({ ok: true })
    expect((await eventsOf(ledger, 1)).length).toBeGreaterThan(10)
  })

  it('takes no refusals of strangers: they are capped, and counted together', async () => {
    fixture = await startLedger({ partitions: 1 })
    const { ledger, redis } = fixture
    const refused = () => ledger.refuse(event('request.refused', { code: 'token_invalid' }))
    await Promise.all(Array.from({ length: 50 }, refused))
    expect(await ledger.outbox.length()).toBe(0)
    expect(await redis.client.xlen('mf:{p00}:refused')).toBe(1)
    const entries = await waitFor('the others, together', async () => {
      const all = await redis.client.xrange('mf:{p00}:refused', '-', '+')
      return all.length === 2 ? all : undefined
    })
    expect(JSON.parse(entries[1]?.[1][3] ?? '')).toMatchObject({ code: 'token_invalid', detail: { times: 49 } })
    await redis.kill()
    await expect(ledger.refuse(event('request.refused', { code: 'token_missing' }))).resolves.toBeUndefined()
  })
})

describe('single-use tokens', () => {
  it('are consumed once among all brokers, for their time', async () => {
    fixture = await startLedger()
    const { ledger, open, redis } = fixture
    const other = await open()
    const all = await Promise.all([ledger, other, ledger, other].map((one) => one.consume('jti-1', 60_000)))
    expect(all.filter(Boolean)).toHaveLength(1)
    expect(await ledger.consume('jti-2', 60_000)).toBe(true)
    const [key] = await redis.client.keys('mf:*:seen:*')
    expect(await redis.client.pttl(key ?? '')).toBeGreaterThan(50_000)
    expect(key).not.toContain('jti')
  })

  it('are consumed in a Redis that is full, too: a break-glass key is single-use, and the stop must work', async () => {
    fixture = await startLedger()
    const { ledger, redis } = fixture
    await redis.client.config('SET', 'maxmemory', '1')
    expect([await ledger.consume('jti', 60_000), await ledger.consume('jti', 60_000)]).toEqual([true, false])
  })
})
