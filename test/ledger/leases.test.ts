import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Claim } from '../../src/types.js'
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
  tokenNow,
} from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

async function closed(id: string): Promise<Claim> {
  const answer = await fixture.ledger.close(id, 'released', event('lease.closing', { lease: id }))
  if (!answer.ok || !answer.claim) throw new Error(`${id} was not claimed`)
  return answer.claim
}

const settle = (id: string, attempt: number, result: 'revoked' | 'absent' | 'awaits_expiry') =>
  fixture.ledger.settle({ lease: id, attempt }, { result }, event('lease.revoked', { lease: id }))

describe('activate', () => {
  it('makes a pending lease active with the handle and expiry of what was minted', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id)
    const minted = { handle: { token: 7 }, expiresAt: ledger.now() + 30_000 }
    expect(await ledger.activate(lease, minted, event('lease.issued', { lease: lease.id }))).toEqual({ state: 'active' })
    expect(await ledger.lease(lease.id)).toMatchObject({ state: 'active', ...minted })
    expect(await ledger.activate(lease, minted, event('lease.issued', { lease: lease.id }))).toEqual({ state: 'active' })
    expect((await eventsOf(ledger)).filter((one) => one.lease === lease.id && one.type === 'lease.issued')).toHaveLength(1)
  })

  it('answers closing, with the handle and a claim, when the task ended meanwhile', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id)
    await ledger.endTask(task.id, { state: 'failed', cause: 'task_failed' }, event('task.ended'))
    const answer = await ledger.activate(lease, { handle: { token: 8 }, expiresAt: ledger.now() + 30_000 }, event())
    expect(answer).toMatchObject({ state: 'closing', cause: 'task_failed', claim: { attempt: 2, lease: { handle: { token: 8 }, state: 'closing' } } })
  })

  it('answers closing when a freeze came meanwhile, and past the deadline', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const [frozen, late] = [await reserved(ledger, task.id), await reserved(ledger, task.id)]
    const minted = { handle: {}, expiresAt: ledger.now() + 30_000 }
    const { freeze } = await ledger.freeze({ selector: { role: ['warehouse-read'] }, reason: 'r', by: 'op' }, event('freeze.set'))
    expect(await ledger.activate(frozen, minted, event())).toMatchObject({ state: 'closing', cause: 'frozen' })
    await ledger.thaw(freeze.id, { reason: 'r', by: 'op' }, event('freeze.thawed'))
    await setFields(redis, 'task', task.id, { dl: ledger.now() - 1_000 })
    const told = event('lease.issued', { lease: late.id })
    expect(await ledger.activate(late, minted, told)).toMatchObject({ state: 'closing', cause: 'task_expired' })
    expect((await eventsOf(ledger)).find(({ id }) => id === told.id)).toMatchObject({ type: 'lease.closing', cause: 'task_expired' })
  })

  it('writes again as closing what was settled too early, and what is gone altogether', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger, { human: 'ada' })
    const early = await reserved(ledger, task.id, { scope: { prefix: 'x' }, human: 'ada' })
    const lost = await reserved(ledger, task.id)
    const claim = await closed(early.id)
    expect(await settle(early.id, claim.attempt, 'revoked')).toMatchObject({ state: 'revoked' })
    await redis.client.del(`mf:{p${lost.id.slice(6, 8)}}:lease:${lost.id}`)

    for (const lease of [early, lost]) {
      const minted = { handle: { late: lease.id }, expiresAt: ledger.now() + 30_000 }
      const answer = await ledger.activate(lease, minted, event())
      expect(answer).toMatchObject({
        state: 'closing',
        claim: { lease: { id: lease.id, ...minted, task: task.id, provider: 'warehouse', access: 'read' } },
      })
      expect(await redis.client.ttl(`mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`)).toBe(-1)
      if (!answer.claim) throw new Error('not claimed')
      expect((await ledger.leasesOfTask(task.id)).map(({ id }) => id)).toContain(lease.id)
      expect(await settle(lease.id, answer.claim.attempt, 'revoked')).toMatchObject({ state: 'revoked' })
    }
    expect(await ledger.lease(early.id)).toMatchObject({ scope: { prefix: 'x' }, human: 'ada', orchestrator: 'flows' })
  })

  it('writes again, told and due, what is gone together with its task', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const lost = await reserved(ledger, task.id)
    const base = `mf:{p${lost.id.slice(6, 8)}}`
    await redis.client.del(`${base}:lease:${lost.id}`, `${base}:task:${task.id}`, `${base}:task:${task.id}:live`)
    const told = event('lease.issued', { lease: lost.id })
    const answer = await ledger.activate(lost, { handle: { late: 'x' }, expiresAt: ledger.now() + 30_000 }, told)
    expect(answer).toMatchObject({ state: 'closing', cause: 'mint_timeout', claim: { lease: { id: lost.id } } })
    expect(await redis.client.zscore(`${base}:due:warehouse`, lost.id)).not.toBeNull()
    expect((await eventsOf(ledger)).find(({ id }) => id === told.id)).toMatchObject({ type: 'lease.closing' })
  })
})

describe('close', () => {
  it('claims a lease once; while it is held nobody else gets it', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    const both = await Promise.all([1, 2].map(() => ledger.close(lease.id, 'released', event('lease.closing', { lease: lease.id }))))
    expect(both.map((one) => one.ok && one.claim !== undefined).sort()).toEqual([false, true])
    expect((await eventsOf(ledger)).filter((one) => one.lease === lease.id && one.type === 'lease.closing')).toHaveLength(1)
    expect(await ledger.close(lease.id, 'expired', event())).toMatchObject({ ok: true, lease: { state: 'closing', cause: 'released' } })
  })

  it('gives what is due again to whoever comes', async () => {
    const { ledger, redis } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    await closed(lease.id)
    await makeDue(redis, 'due:warehouse', lease.id)
    expect((await closed(lease.id)).attempt).toBe(2)
  })

  it('answers what is settled without a claim, and what is not there with not_found', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    await settle(lease.id, (await closed(lease.id)).attempt, 'revoked')
    expect(await ledger.close(lease.id, 'released', event())).toMatchObject({ ok: true, lease: { state: 'revoked' }, claim: undefined })
    expect(await ledger.close(ledger.newLeaseId(task.id), 'released', event())).toMatchObject({ refused: 'not_found' })
    const left = await granted(ledger, task.id)
    const about = event('lease.closing', { lease: left.id })
    expect(await ledger.close(left.id, 'context_changed', about, { left: true })).toMatchObject({ lease: { state: 'closing' }, claim: undefined })
    expect((await ledger.claim(new Map([['warehouse', 9]]))).claims.map(({ lease }) => lease.id)).toContain(left.id)
    expect(await ledger.close('lease_zz', 'released', event())).toMatchObject({ refused: 'not_found' })
  })
})

describe('settle', () => {
  it('takes success from any attempt and leaves no index behind', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    const first = await closed(lease.id)
    await makeDue(redis, 'due:warehouse', lease.id)
    await closed(lease.id)
    expect(await settle(lease.id, first.attempt, 'revoked')).toEqual({ state: 'revoked', dueAt: undefined, here: true })
    expect(await ledger.lease(lease.id)).toMatchObject({ state: 'revoked', cause: 'released' })
    expect(await ledger.leasesOfTask(task.id)).toEqual([])
    const prefix = `mf:{p${lease.id.slice(6, 8)}}:`
    for (const index of ['due:warehouse', 'urgent:warehouse', 'closing:warehouse'])
      expect(await redis.client.zscore(`${prefix}${index}`, lease.id)).toBeNull()
    expect(await redis.client.ttl(`${prefix}lease:${lease.id}`)).toBeGreaterThan(3_500)
    expect(await settle(lease.id, 2, 'revoked')).toMatchObject({ state: 'revoked', here: false })
    expect((await eventsOf(ledger)).filter((one) => one.lease === lease.id && one.type === 'lease.revoked')).toHaveLength(1)
  })

  it('does not believe "absent" while the mint may still arrive', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id, { mintMs: 60_000 })
    const { attempt } = await closed(lease.id)
    const mintUntil = (await ledger.lease(lease.id))?.mintUntil
    expect(await settle(lease.id, attempt, 'absent')).toEqual({ state: 'closing', dueAt: mintUntil, here: false })
  })

  it('does not believe an attempt that looked before the mint arrived, however late it reports', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id, { mintMs: 60_000 })
    const before = await closed(lease.id)
    const activated = await ledger.activate(lease, { handle: { real: true }, expiresAt: ledger.now() + 60_000 }, event())
    expect(await settle(lease.id, before.attempt, 'absent')).toMatchObject({ state: 'closing' })
    expect(await settle(lease.id, activated.claim?.attempt ?? 0, 'absent')).toMatchObject({ state: 'revoked' })
  })

  it('believes "absent" from an attempt that began after the mint could no longer arrive', async () => {
    const { ledger, redis } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id, { mintMs: 60_000 })
    await setFields(redis, 'lease', lease.id, { mu: ledger.now() - 1_000 })
    expect(await settle(lease.id, (await closed(lease.id)).attempt, 'absent')).toMatchObject({ state: 'revoked' })
  })

  it('writes a failure down and tries again later, ever more rarely, for ever', async () => {
    const { ledger, redis } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    let { attempt } = await closed(lease.id)
    for (const most of [500, 1_000, 2_000]) {
      const before = ledger.now()
      const failed = await ledger.settle(
        { lease: lease.id, attempt },
        { result: 'failed', error: 'x'.repeat(500) },
        event('lease.stuck', { lease: lease.id }),
      )
      expect(failed.state).toBe('closing')
      expect((failed.dueAt ?? 0) - before).toBeLessThanOrEqual(most + 100)
      await makeDue(redis, 'due:warehouse', lease.id)
      attempt = (await closed(lease.id)).attempt
    }
    expect((await ledger.lease(lease.id))?.lastError).toBe('x'.repeat(300))
    await setFields(redis, 'lease', lease.id, { n: 5_000 })
    const late = await ledger.settle({ lease: lease.id, attempt: 5_000 }, { result: 'failed', error: 'x' }, event('lease.stuck'))
    expect(late.state).toBe('closing')
    expect((late.dueAt ?? 0) - ledger.now()).toBeLessThanOrEqual(60_100)
    expect((await eventsOf(ledger)).filter((one) => one.lease === lease.id && one.type === 'lease.stuck')).toHaveLength(2)
  })

  it('ignores a failure of an attempt that is no longer the current one', async () => {
    const { ledger, redis } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    const old = await closed(lease.id)
    await makeDue(redis, 'due:warehouse', lease.id)
    const { until } = await closed(lease.id)
    const answer = await ledger.settle({ lease: lease.id, attempt: old.attempt }, { result: 'failed', error: 'late' }, event('lease.stuck'))
    expect(answer).toEqual({ state: 'closing', dueAt: until, here: false })
    expect((await ledger.lease(lease.id))?.lastError).toBeUndefined()
  })

  it('lets what only expiry ends wait for it, and then calls it expired, not revoked', async () => {
    const { ledger, redis } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id, { expiryEndsUse: true, revocation: 'at-expiry' })
    const { attempt } = await closed(lease.id)
    const expiresAt = (await ledger.lease(lease.id))?.expiresAt
    expect(await settle(lease.id, attempt, 'awaits_expiry')).toEqual({ state: 'closing', dueAt: expiresAt, here: false })
    await setFields(redis, 'lease', lease.id, { xa: ledger.now() - 1_000 })
    await makeDue(redis, 'due:warehouse', lease.id)
    const swept = await ledger.claim(PLENTY)
    expect(swept.expired).toContainEqual({ lease: lease.id, provider: 'warehouse' })
    expect(await ledger.lease(lease.id)).toMatchObject({ state: 'expired', cause: 'released' })
  })

  it('answers the state of what was never closed, and changes nothing', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    expect(await settle(lease.id, 1, 'revoked')).toMatchObject({ state: 'active' })
    expect(await stateOf(ledger, lease.id)).toBe('active')
  })
})

describe('renew', () => {
  const facts = { contextVersion: 1, obtained: ['read:confidential'] }

  it('records a later expiry, never beyond the longest life', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    const before = await ledger.lease(lease.id)
    const renewed = await ledger.renew(
      lease.id,
      { ttlSeconds: 900, facts, tokenIssuedAt: tokenNow(ledger) },
      event('lease.renewed', { lease: lease.id }),
    )
    if (!renewed.ok) throw new Error(renewed.refused)
    expect(renewed.lease.expiresAt).toBeGreaterThan((before?.expiresAt ?? 0) + 200_000)
    const most = await ledger.renew(lease.id, { ttlSeconds: 99_999, facts, tokenIssuedAt: tokenNow(ledger) }, event('lease.renewed'))
    expect(most).toMatchObject({ ok: true, lease: { expiresAt: before?.renewableUntil } })
    expect(await ledger.renew(lease.id, { ttlSeconds: 99_999, facts, tokenIssuedAt: tokenNow(ledger) }, event('lease.renewed'))).toMatchObject({
      refused: 'limit',
    })
    expect((await eventsOf(ledger)).find((one) => one.type === 'lease.renewed' && one.lease === lease.id)).toMatchObject({
      detail: { expires_at: renewed.lease.expiresAt },
    })
  })

  it('never shortens', async () => {
    const { ledger } = fixture
    const lease = await granted(ledger, (await openTask(ledger)).id)
    const before = await ledger.lease(lease.id)
    expect(await ledger.renew(lease.id, { ttlSeconds: 1, facts, tokenIssuedAt: tokenNow(ledger) }, event())).toMatchObject({
      ok: true,
      lease: { expiresAt: before?.expiresAt },
    })
  })

  it('refuses what ended, expired, was frozen or decided on old facts', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    const renew = (id = lease.id, on = facts) =>
      ledger.renew(id, { ttlSeconds: 900, facts: on, tokenIssuedAt: tokenNow(ledger) }, event('lease.renewed'))
    expect(await renew(ledger.newLeaseId(task.id))).toMatchObject({ refused: 'not_found' })
    expect(await renew('nothing')).toMatchObject({ refused: 'not_found' })
    expect(await renew(lease.id, { ...facts, contextVersion: 7 })).toMatchObject({ refused: 'stale' })
    const { freeze } = await ledger.freeze({ selector: { owner: ['sre@example.com'] }, reason: 'r', by: 'op' }, event('freeze.set'))
    expect(await renew()).toMatchObject({ refused: 'frozen', detail: freeze.id })
    await ledger.thaw(freeze.id, { reason: 'r', by: 'op' }, event('freeze.thawed'))
    const expired = await granted(ledger, task.id)
    await setFields(redis, 'lease', expired.id, { xa: ledger.now() - 1_000 })
    expect(await renew(expired.id)).toMatchObject({ refused: 'closed' })
    await setFields(redis, 'task', task.id, { dl: ledger.now() - 1_000 })
    expect(await renew()).toMatchObject({ refused: 'ended', detail: 'expired' })
    await closed(lease.id)
    expect(await renew()).toMatchObject({ refused: 'closed' })
  })

  it('counts as reaffirmed after a change of context', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    await ledger.changeTask(task.id, { environment: 'production' }, event('task.changed'))
    const { contextVersion, obtained } = await taskNow(ledger, task.id)
    expect(
      await ledger.renew(lease.id, { ttlSeconds: 900, facts: { contextVersion, obtained }, tokenIssuedAt: tokenNow(ledger) }, event()),
    ).toMatchObject({ ok: true })
    expect(await redis.client.hget(`mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`, 'rb')).toBeNull()
    expect(newLease(ledger, task).facts.contextVersion).toBe(1)
  })
})
