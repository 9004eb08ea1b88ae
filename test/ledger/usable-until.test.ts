import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { NewLease } from '../../src/ledger/ledger.js'
import type { Claim } from '../../src/types.js'
import {
  event,
  eventsOf,
  type Fixture,
  granted,
  HOUR,
  makeDue,
  openTask,
  PLENTY,
  reserved,
  setFields,
  startLedger,
  taskNow,
  tokenNow,
} from './fixture.js'

/** Leases whose upstream gives a longer life than asked for: they end at their own expiry, and are over only at the upstream's. */

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const past = () => fixture.ledger.now() - 1_000
const SKEW = 60_000
const endsUse = { expiryEndsUse: true } as const

const keyOf = (id: string, rest: string) => `mf:{p${id.slice(6, 8)}}:${rest}`
const dueOf = async (id: string) => Number(await fixture.redis.client.zscore(keyOf(id, 'due:warehouse'), id))
const usable = async (id: string) => (await fixture.ledger.lease(id))?.usableUntil

async function overdue(id: string, fields: Record<string, number>): Promise<void> {
  await setFields(fixture.redis, 'lease', id, fields)
  await makeDue(fixture.redis, 'due:warehouse', id)
}

/** Active, with an upstream that goes on for an hour longer than the lease. */
async function longer(more: Partial<NewLease> = {}): Promise<{ lease: NewLease; expiresAt: number; usableUntil: number }> {
  const { ledger } = fixture
  const lease = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, ...more })
  const expiresAt = ledger.now() + 600_000
  const minted = { handle: {}, expiresAt, usableUntil: expiresAt + HOUR }
  expect(await ledger.activate(lease, minted, event('lease.issued', { lease: lease.id }))).toEqual({ state: 'active' })
  return { lease, ...minted }
}

async function closed(id: string): Promise<Claim> {
  const answer = await fixture.ledger.close(id, 'released', event('lease.closing', { lease: id }))
  if (!answer.ok || !answer.claim) throw new Error(`${id} was not claimed`)
  return answer.claim
}

const settle = (id: string, attempt: number, result: 'revoked' | 'absent' | 'awaits_expiry') =>
  fixture.ledger.settle({ lease: id, attempt }, { result }, event('lease.revoked', { lease: id }))

describe('before the mint', () => {
  it('assumes the worst: the shortest life of the upstream, from the end of the mint on', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, shortestLifeSeconds: 3_600 })
    const { mintUntil, expiresAt, usableUntil } = (await ledger.lease(lease.id)) ?? {}
    expect(usableUntil).toBe((mintUntil ?? 0) + 3_600_000)
    expect(usableUntil).toBeGreaterThan(expiresAt ?? Number.NaN)
    expect((await eventsOf(ledger)).find((one) => one.lease === lease.id)?.detail).toEqual({ expires_at: expiresAt, usable_until: usableUntil })
  })

  it('says nothing where the lease lives as long as that anyway, or the upstream has no shortest life', async () => {
    const { ledger, redis } = fixture
    for (const more of [{ shortestLifeSeconds: 594 }, { shortestLifeSeconds: 0 }, {}]) {
      const lease = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, ...more })
      expect(await redis.client.hexists(keyOf(lease.id, `lease:${lease.id}`), 'uu')).toBe(0)
    }
  })

  it('holds for what is minted in-process too, and is due at its own end', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const lease = await granted(careful, (await openTask(ledger)).id, { ...endsUse, mintMs: 0, shortestLifeSeconds: 3_600 })
    const { issuedAt, expiresAt, usableUntil } = (await ledger.lease(lease.id)) ?? {}
    expect(usableUntil).toBe((issuedAt ?? 0) + 3_600_000)
    expect(await dueOf(lease.id)).toBe(expiresAt)
    const other = await granted(careful, (await openTask(ledger)).id, { ...endsUse, mintMs: 0 })
    expect(await dueOf(other.id)).toBe(((await ledger.lease(other.id))?.expiresAt ?? 0) + SKEW)
  })

  it('waits that long for a credential whose mint never reported', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, shortestLifeSeconds: 3_600 })
    await overdue(lease.id, { mu: past() })
    const { claims } = await ledger.claim(PLENTY)
    expect(claims).toMatchObject([{ lease: { id: lease.id, cause: 'mint_timeout' } }])
    const until = await usable(lease.id)
    expect(await settle(lease.id, 1, 'awaits_expiry')).toEqual({ state: 'closing', dueAt: until, here: false })
  })
})

describe('activate', () => {
  it('takes what the upstream said in place of what was assumed: later, earlier or no longer than the lease', async () => {
    const { ledger } = fixture
    const minted = { handle: {}, expiresAt: ledger.now() + 600_000 }
    for (const [told, kept] of [
      [minted.expiresAt + 7_200_000.5, minted.expiresAt + 7_200_001],
      [minted.expiresAt + 1, minted.expiresAt + 1],
      [minted.expiresAt, undefined],
      [minted.expiresAt - 1, undefined],
      [undefined, undefined],
    ] as const) {
      const lease = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, shortestLifeSeconds: 3_600 })
      await ledger.activate(lease, { ...minted, usableUntil: told }, event('lease.issued', { lease: lease.id }))
      expect(await usable(lease.id)).toBe(kept)
      const issued = (await eventsOf(ledger)).find((one) => one.lease === lease.id && one.type === 'lease.issued')
      expect(issued?.detail).toEqual({ expires_at: minted.expiresAt, ...(kept && { usable_until: kept }) })
    }
  })

  it('is due at the end of the lease, without the margin for what ends by itself', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const [long, short] = [await reserved(ledger, (await openTask(ledger)).id, endsUse), await reserved(ledger, (await openTask(ledger)).id, endsUse)]
    const expiresAt = ledger.now() + 600_000
    await careful.activate(long, { handle: {}, expiresAt, usableUntil: expiresAt + HOUR }, event())
    await careful.activate(short, { handle: {}, expiresAt }, event())
    expect(await dueOf(long.id)).toBe(expiresAt)
    expect(await dueOf(short.id)).toBe(expiresAt + SKEW)
  })

  it('keeps it with what became closing meanwhile, and with what is written again', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const ended = await reserved(ledger, task.id, endsUse)
    const early = await reserved(ledger, task.id, endsUse)
    const lost = await reserved(ledger, task.id, endsUse)
    await settle(early.id, (await closed(early.id)).attempt, 'revoked')
    await redis.client.del(keyOf(lost.id, `lease:${lost.id}`))
    await ledger.endTask(task.id, { state: 'failed', cause: 'task_failed' }, event('task.ended'))
    const expiresAt = ledger.now() + 600_000
    for (const lease of [ended, early, lost]) {
      const answer = await ledger.activate(lease, { handle: {}, expiresAt, usableUntil: expiresAt + HOUR }, event())
      expect(answer).toMatchObject({ state: 'closing', claim: { lease: { id: lease.id, usableUntil: expiresAt + HOUR } } })
      const waiting = await settle(lease.id, answer.claim?.attempt ?? 0, 'awaits_expiry')
      expect(waiting).toEqual({ state: 'closing', dueAt: expiresAt + HOUR, here: false })
    }
  })
})

describe('the end of the lease', () => {
  it('closes it and hands it out, although its upstream ends all use some day', async () => {
    const { ledger } = fixture
    const { lease, usableUntil } = await longer()
    await overdue(lease.id, { xa: past() })
    const { claims, expired } = await ledger.claim(PLENTY)
    expect(expired).toEqual([])
    expect(claims).toMatchObject([{ attempt: 1, lease: { id: lease.id, state: 'closing', cause: 'expired', usableUntil } }])
    expect(await settle(lease.id, 1, 'revoked')).toMatchObject({ state: 'revoked' })
  })

  it('is not a moment earlier', async () => {
    const { ledger } = fixture
    const { lease, expiresAt } = await longer()
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect(await ledger.claim(PLENTY)).toMatchObject({ claims: [], expired: [] })
    expect(await dueOf(lease.id)).toBe(expiresAt)
  })

  it('is expired, swept or not, once the upstream has ended it too; after the margin for the clocks, not before', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const { lease } = await longer()
    await overdue(lease.id, { xa: past() - HOUR, uu: past() })
    expect((await careful.claim(PLENTY)).claims).toMatchObject([{ lease: { id: lease.id, cause: 'expired' } }])
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await careful.claim(PLENTY)).claims).toMatchObject([{ attempt: 2, lease: { id: lease.id } }])
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await ledger.claim(PLENTY)).expired).toEqual([{ lease: lease.id, provider: 'warehouse' }])

    const { lease: unseen } = await longer()
    await overdue(unseen.id, { xa: past() - HOUR, uu: past() })
    expect((await ledger.claim(PLENTY)).expired).toEqual([{ lease: unseen.id, provider: 'warehouse' }])
    expect(await ledger.lease(unseen.id)).toMatchObject({ state: 'expired', cause: 'expired' })
  })

  it('that no upstream ends by itself is no expiry, however long ago', async () => {
    const { ledger } = fixture
    const { lease } = await longer({ expiryEndsUse: false })
    await overdue(lease.id, { xa: past() - HOUR, uu: past() })
    expect(await ledger.claim(PLENTY)).toMatchObject({ claims: [{ lease: { id: lease.id } }], expired: [] })
  })
})

describe('a closing lease', () => {
  it('waits for its upstream, and expires then', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const { lease, usableUntil } = await longer()
    const { attempt } = await closed(lease.id)
    const waiting = await careful.settle({ lease: lease.id, attempt }, { result: 'awaits_expiry' }, event('lease.closing'))
    expect(waiting).toEqual({ state: 'closing', dueAt: usableUntil + SKEW, here: false })
    await overdue(lease.id, { xa: past() })
    expect((await ledger.claim(PLENTY)).expired).toEqual([])
    await overdue(lease.id, { uu: past() })
    expect((await ledger.claim(PLENTY)).expired).toEqual([{ lease: lease.id, provider: 'warehouse' }])
  })

  it('is tried again after its own end, and not later than its upstream’s', async () => {
    const { ledger } = fixture
    const fail = async (id: string, attempt: number) =>
      ledger.settle({ lease: id, attempt }, { result: 'failed', error: 'x' }, event('lease.stuck', { lease: id }))
    const dues = async (fields: (now: number) => { xa: number; uu?: number }) => {
      const found = []
      for (let round = 0; round < 20; round++) {
        const { lease } = await longer()
        await closed(lease.id)
        // Attempts enough for the longest pause.
        await setFields(fixture.redis, 'lease', lease.id, { ...fields(ledger.now()), n: 1_000 })
        found.push(((await fail(lease.id, 1_000)).dueAt ?? 0) - ledger.now())
        await settle(lease.id, 1_000, 'revoked')
      }
      return Math.max(...found)
    }
    expect(await dues((now) => ({ xa: now - 1_000, uu: now + 200 }))).toBeLessThanOrEqual(200)
    expect(await dues((now) => ({ xa: now - 1_000, uu: now + HOUR }))).toBeGreaterThan(1_000)
  })
})

describe('what has changed since', () => {
  it('renews up to the end of the upstream and beyond it: then it is the lease’s own', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id, endsUse)
    const expiresAt = ledger.now() + 10_000
    await ledger.activate(lease, { handle: {}, expiresAt, usableUntil: expiresAt + 600_000 }, event())
    const { contextVersion, obtained } = await taskNow(ledger, task.id)
    const renew = (ttlSeconds: number) =>
      careful.renew(lease.id, { ttlSeconds, facts: { contextVersion, obtained }, tokenIssuedAt: tokenNow(ledger) }, event('lease.renewed'))
    const first = await renew(300)
    if (!first.ok) throw new Error(first.refused)
    expect(first.lease.usableUntil).toBe(expiresAt + 600_000)
    expect(await dueOf(lease.id)).toBe(first.lease.expiresAt)
    const second = await renew(900)
    if (!second.ok) throw new Error(second.refused)
    expect(second.lease.usableUntil).toBeUndefined()
    expect(await usable(lease.id)).toBeUndefined()
    expect(await dueOf(lease.id)).toBe(second.lease.expiresAt + SKEW)
  })

  it('is due at its own end once reaffirmed, and at the end of the review before', async () => {
    const { ledger, open } = fixture
    const careful = await open({ skewMarginMs: SKEW })
    const { lease, expiresAt } = await longer()
    await ledger.changeTask(lease.task, { environment: 'production' }, event('task.changed'))
    await makeDue(fixture.redis, 'due:warehouse', lease.id)
    expect((await careful.claim(PLENTY)).claims).toEqual([])
    expect(await dueOf(lease.id)).toBeLessThan(expiresAt)
    const { contextVersion } = await taskNow(ledger, lease.task)
    expect(await careful.reaffirm(lease.id, contextVersion)).toEqual({ ok: true })
    expect(await dueOf(lease.id)).toBe(expiresAt)
  })
})

describe('an emergency', () => {
  it('says until when the last of what it matched may work', async () => {
    const { ledger } = fixture
    const role = { name: 'reader', provider: 'long-lived', access: 'read', sensitivity: 'public', params: {} } as const
    const { usableUntil } = await longer({ role })
    await longer({ role: { ...role, name: 'other' } })
    const selector = { role: ['reader'] }
    expect(await ledger.match(selector)).toEqual([{ provider: 'long-lived', live: 1, residualUntil: usableUntil }])
    const { id } = await ledger.openRevocation({ selector, reason: 'r', by: 'op' }, event('revocation.started'))
    while (!(await ledger.advanceRevocation(id)).done);
    expect(await ledger.revocation(id)).toMatchObject({ matched: 1, residualUntil: usableUntil })
  })

  it('says so too of a mint that reported later than the emergency came', async () => {
    const { ledger } = fixture
    const role = { name: 'slow-reader', provider: 'long-lived', access: 'read', sensitivity: 'public', params: {} } as const
    const first = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, role })
    const second = await reserved(ledger, (await openTask(ledger)).id, { ...endsUse, role })
    const { id } = await ledger.openRevocation({ selector: { role: [role.name] }, reason: 'r', by: 'op' }, event('revocation.started'))
    while (!(await ledger.advanceRevocation(id)).done);
    const expiresAt = ledger.now() + 600_000
    const residual = async () => (await ledger.revocation(id))?.residualUntil
    expect(await ledger.activate(first, { handle: {}, expiresAt, usableUntil: expiresAt + HOUR }, event())).toMatchObject({ cause: 'emergency' })
    expect(await residual()).toBe(expiresAt + HOUR)
    await ledger.activate(second, { handle: {}, expiresAt, usableUntil: expiresAt + 1 }, event())
    expect(await residual()).toBe(expiresAt + HOUR)
  })
})
