import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Ledger } from '../../src/ledger/ledger.js'
import type { Claim, Selector } from '../../src/types.js'
import { event, eventsOf, type Fixture, granted, makeDue, newLease, openTask, PLENTY, reserved, setFields, startLedger, stateOf } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const open = (selector: Selector) => fixture.ledger.openRevocation({ selector, reason: 'stolen', by: 'sso/ada' }, event('revocation.started'))

/** Every step until all leases have been looked at. */
async function advance(ledger: Ledger, id: string): Promise<Claim[]> {
  const claims: Claim[] = []
  for (let step = 0; step < 50; step++) {
    const answer = await ledger.advanceRevocation(id)
    claims.push(...answer.claims)
    if (answer.done) return claims
  }
  throw new Error('it was not done after 50 steps')
}

async function everyRow(ledger: Ledger, id: string) {
  const rows = []
  for (let from: string | undefined, more = true; more; more = from !== undefined) {
    const page = await ledger.revocationLeases(id, from)
    rows.push(...page.leases)
    from = page.next
  }
  return rows
}

async function settleAll(ledger: Ledger, claims: readonly Claim[]): Promise<void> {
  for (const { lease, attempt } of claims) await ledger.settle({ lease: lease.id, attempt }, { result: 'revoked' }, event('lease.revoked'))
}

describe('an emergency', () => {
  it('closes all that it matches in every partition, hands some out and leaves the others due, first of all', async () => {
    const { ledger } = fixture
    const agent = { id: 'rogue', owner: 'o', issuer: 'cluster' }
    const mine: string[] = []
    const facts = { contextVersion: 1, obtained: [] }
    for (let i = 0; i < 6; i++) {
      const task = await openTask(ledger, { assignees: [{ agent: 'rogue' }, { agent: 'triage' }] })
      await ledger.reserve(newLease(ledger, task, { agent, facts }), event())
      for (let j = 0; j < 60; j++) mine.push((await granted(ledger, task.id, { agent })).id)
      mine.push((await reserved(ledger, task.id, { agent })).id)
    }
    const spared = await granted(ledger, (await openTask(ledger)).id)
    const dry = await ledger.match({ agent: ['rogue'] })
    expect(dry).toMatchObject([{ provider: 'warehouse', live: 372 }])
    expect(await stateOf(ledger, mine[0] ?? '')).toBe('active')

    const { id } = await open({ agent: ['rogue'] })
    expect(await ledger.openRevocations()).toContain(id)
    const claims = await advance(ledger, id)
    expect(claims.length).toBeGreaterThan(0)
    for (const { lease } of claims) expect(lease).toMatchObject({ agent: 'rogue', state: 'closing', cause: 'emergency' })
    expect(await stateOf(ledger, spared.id)).toBe('active')
    for (const lease of mine) expect(await stateOf(ledger, lease)).toBe('closing')
    expect(await ledger.revocation(id)).toMatchObject({ state: 'running', matched: 372, revoked: 0, pending: 372, failed: 0 })
    expect((await ledger.revocation(id))?.residualUntil).toBe(dry[0]?.residualUntil)

    await settleAll(ledger, claims)
    const rest = (await ledger.claim(PLENTY)).claims
    expect(claims.length + rest.length).toBe(372)
    await settleAll(ledger, rest)
    await advance(ledger, id)
    const finished = await ledger.revocation(id)
    expect(finished).toMatchObject({ state: 'finished', matched: 372, revoked: 372, pending: 0, failed: 0, reason: 'stolen', by: 'sso/ada' })
    expect(await ledger.openRevocations()).not.toContain(id)
    expect(await ledger.advanceRevocation(id)).toEqual({ claims: [], done: true })
    const told = (await eventsOf(ledger)).filter((one) => one.type === 'revocation.finished')
    expect(told).toMatchObject([{ detail: { revocation: id, matched: 372, revoked: 372 } }])
  })

  it('is opened in the same step as its freeze, once, and told of after it', async () => {
    const { ledger } = fixture
    const before = new Set((await eventsOf(ledger)).map(({ id }) => id))
    const selector = { agent: ['spiffe://prod/rogue'] }
    const revoke = { verify: 'all', event: event('revocation.started') } as const
    const { freeze, revocation, unreachable } = await ledger.freeze({ selector, reason: 'stolen', by: 'sso/ada', revoke }, event('freeze.set'))
    expect(unreachable).toBe(0)
    expect(revocation).toMatchObject({ id: freeze.id.replace('freeze', 'revocation'), selector, freeze: freeze.id, verify: 'all', by: 'sso/ada' })
    expect(await ledger.openRevocations()).toContain(revocation?.id)
    expect(await ledger.revocation(freeze.id)).toEqual(revocation)
    const again = await ledger.openRevocation({ selector, reason: 'twice', by: 'sso/bob', freeze: freeze.id }, event('revocation.started'))
    expect(again.startedAt).toBe(revocation?.startedAt)
    const told = (await eventsOf(ledger)).filter(({ id }) => !before.has(id))
    expect(told).toMatchObject([
      { type: 'freeze.set', detail: { freeze: freeze.id } },
      { type: 'revocation.started', detail: { freeze: freeze.id, revocation: revocation?.id } },
    ])
    await advance(ledger, revocation?.id ?? '')
  })

  it('leaves alone what was issued after its freeze was thawed, however long it takes to look through all', async () => {
    const { ledger } = fixture
    const agent = { id: 'resumed', owner: 'o', issuer: 'cluster' }
    const task = await openTask(ledger, { assignees: [{ agent: 'resumed' }] })
    const before = await granted(ledger, task.id, { agent })
    const revoke = { verify: 'none', event: event('revocation.started') } as const
    const { freeze, revocation } = await ledger.freeze({ selector: { agent: ['resumed'] }, reason: 'r', by: 'sso/ada', revoke }, event('freeze.set'))
    await ledger.thaw(freeze.id, { reason: 'resumed', by: 'sso/ada' }, event('freeze.thawed'))
    const after = await granted(ledger, task.id, { agent })
    const claims = await advance(ledger, revocation?.id ?? '')
    expect(claims.map(({ lease }) => lease.id)).toEqual([before.id])
    expect(await stateOf(ledger, after.id)).toBe('active')
    await settleAll(ledger, claims)
  })

  it('goes on with another broker from where the first stopped, and counts nothing twice', async () => {
    const { ledger, open: openAnother } = fixture
    const task = await openTask(ledger)
    const facts = { contextVersion: 1, obtained: ['read:confidential'] }
    await granted(ledger, task.id)
    await Promise.all(Array.from({ length: 699 }, () => ledger.grant(newLease(ledger, task, { facts }), event())))
    const { id } = await open({ task: [task.id] })
    const first = await ledger.advanceRevocation(id)
    expect(first.done).toBe(false)
    const [one, two] = [await openAnother(), await openAnother()]
    await Promise.all([advance(one, id), advance(two, id)])
    expect(await ledger.revocation(id)).toMatchObject({ matched: 700, pending: 700 })
    for (let round = 0; round < 10; round++) await settleAll(ledger, (await ledger.claim(PLENTY)).claims)
    // What the steps handed out comes back when nobody drives it.
    for (const { id: lease } of await ledger.leasesOfTask(task.id)) await makeDue(fixture.redis, 'urgent:warehouse', lease)
    for (let round = 0; round < 10; round++) await settleAll(ledger, (await ledger.claim(PLENTY)).claims)
    await advance(ledger, id)
    expect(await ledger.revocation(id)).toMatchObject({ state: 'finished', matched: 700, revoked: 700, failed: 0 })
  })

  it('tells failures from what is pending, until they succeed', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger, { human: 'eve' })
    const [a, b] = [await granted(ledger, task.id), await granted(ledger, task.id)]
    // Failing before the emergency began.
    const closed = await ledger.close(a.id, 'released', event('lease.closing'))
    if (!closed.ok || !closed.claim) throw new Error('not claimed')
    await ledger.settle({ lease: a.id, attempt: 1 }, { result: 'failed', error: 'down' }, event('lease.stuck'))
    const { id } = await open({ human: ['eve'] })
    const claims = await advance(ledger, id)
    expect(claims.map(({ lease }) => lease.id)).toEqual([b.id])
    await ledger.settle({ lease: b.id, attempt: 1 }, { result: 'failed', error: 'down' }, event('lease.stuck'))
    expect(await ledger.revocation(id)).toMatchObject({ matched: 2, failed: 2, pending: 0 })
    for (const lease of [a, b]) await makeDue(redis, 'urgent:warehouse', lease.id)
    await settleAll(ledger, (await ledger.claim(PLENTY)).claims)
    await advance(ledger, id)
    expect(await ledger.revocation(id)).toMatchObject({ state: 'finished', matched: 2, revoked: 2, failed: 0 })
  })

  it('counts one lease for each of two emergencies, and calls expired what expired', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger, { human: 'mallory' })
    const lease = await granted(ledger, task.id, { expiryEndsUse: true })
    const [one, two] = [await open({ human: ['mallory'] }), await open({ task: [task.id], role: ['warehouse-read'] })]
    await Promise.all([advance(ledger, one.id), advance(ledger, two.id)])
    await setFields(redis, 'lease', lease.id, { xa: ledger.now() - 1_000 })
    await makeDue(redis, 'urgent:warehouse', lease.id)
    await ledger.claim(PLENTY)
    for (const { id } of [one, two]) {
      await advance(ledger, id)
      expect(await ledger.revocation(id)).toMatchObject({ state: 'finished', matched: 1, revoked: 0, expired: 1 })
    }
  })

  it('covers by agent what that agent delegated', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const opener = { kind: 'agent', id: 'delegator', issuer: 'cluster' } as const
    const child = await openTask(ledger, { parent: root.id, openedBy: opener })
    await granted(ledger, root.id)
    const delegated = await granted(ledger, child.id)
    const { id } = await open({ agent: ['delegator'] })
    expect((await advance(ledger, id)).map(({ lease }) => lease.id)).toEqual([delegated.id])
    await openAndFinish(id)
  })

  it('takes at once what a named agent or task holds, of these what all of the selector covers; the steps find the rest, and nothing twice', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger, { assignees: [{ agent: 'near' }, { agent: 'triage' }] })
    const counted = { agent: { id: 'near', owner: 'o', issuer: 'cluster' }, limits: { perTaskLive: 0, perAgentLive: 100 } }
    const direct = [await granted(ledger, root.id, counted), await reserved(ledger, root.id, counted)]
    const elsewhere = await granted(ledger, (await openTask(ledger, { assignees: [{ agent: 'near' }] })).id, counted)
    const child = await openTask(ledger, { parent: root.id, openedBy: { kind: 'agent', id: 'near', issuer: 'cluster' } })
    const delegated = await granted(ledger, child.id)
    const others = await granted(ledger, root.id)
    const idsOf = (claims: readonly Claim[]) => claims.map(({ lease }) => lease.id).sort()
    const ids = (leases: readonly { id: string }[]) => leases.map(({ id }) => id).sort()

    const both = await open({ agent: ['near'], task: [root.id] })
    expect(idsOf(await ledger.takeNearest(both.id))).toEqual(ids(direct))
    expect(await ledger.takeNearest(both.id)).toEqual([])
    expect(idsOf(await advance(ledger, both.id))).toEqual([delegated.id])

    const agent = await open({ agent: ['near'] })
    expect(idsOf(await ledger.takeNearest(agent.id))).toEqual([elsewhere.id])
    await advance(ledger, agent.id)
    expect(await ledger.revocation(agent.id)).toMatchObject({ matched: 4 })
    expect(await stateOf(ledger, others.id)).toBe('active')

    const task = await open({ task: [root.id, 'task_99nowhere'] })
    expect(idsOf(await ledger.takeNearest(task.id))).toEqual([others.id])
    await advance(ledger, task.id)
    expect(await ledger.revocation(task.id)).toMatchObject({ matched: 4 })
    await settleAll(ledger, (await ledger.claim(PLENTY)).claims)
  })

  async function openAndFinish(id: string): Promise<void> {
    const { ledger } = fixture
    await settleAll(ledger, (await ledger.claim(PLENTY)).claims)
    expect(await ledger.revocation(id)).toMatchObject({ matched: 1 })
  }

  it("settles what is to be verified by no word but its upstream's, whoever has the claim, and whenever it began", async () => {
    const { ledger, open: openAnother } = fixture
    const task = await openTask(ledger, { human: 'trudy' })
    const lease = await granted(ledger, task.id)
    // Taken back already, by a broker that knows of no emergency.
    const before = await ledger.close(lease.id, 'released', event('lease.closing'))
    if (!before.ok || !before.claim) throw new Error('not claimed')
    const asked = { selector: { human: ['trudy'] }, reason: 'stolen', by: 'sso/ada', verify: 'all' } as const
    const { id } = await ledger.openRevocation(asked, event('revocation.started'))
    await advance(ledger, id)
    const settle = (at: number, outcome: Parameters<Ledger['settle']>[1], by = ledger) =>
      by.settle({ lease: lease.id, attempt: at }, outcome, event('lease.revoked'))
    expect(await settle(before.claim.attempt, { result: 'revoked' })).toMatchObject({ state: 'closing' })
    // Due at once, for any of them.
    const other = await openAnother()
    const [claim] = (await other.claim(PLENTY)).claims
    expect(claim).toMatchObject({ lease: { id: lease.id, toBeVerified: true }, attempt: 2 })
    expect(await settle(2, { result: 'alive', error: 'still taken' }, other)).toMatchObject({ state: 'closing' })
    expect((await eventsOf(ledger)).filter((one) => one.type === 'lease.alive')).toHaveLength(1)
    const row = async () => (await everyRow(ledger, id)).find((one) => one.lease === lease.id)
    expect(await row()).toMatchObject({ outcome: 'pending', verified: 'alive', lastError: 'still taken', attempts: 2 })
    // Success is accepted from any attempt.
    expect(await settle(2, { result: 'revoked', verified: 'dead' }, other)).toMatchObject({ state: 'revoked' })
    expect(await row()).toEqual({
      ...{ lease: lease.id, task: task.id, agent: 'triage', role: 'warehouse-read', provider: 'warehouse' },
      ...{ outcome: 'revoked', verified: 'dead', at: expect.any(Number) },
    })
  })

  it('does not hold it against an upstream that a revoke takes as long to be felt as its provider says', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { human: 'peggy' })
    const lease = await granted(ledger, task.id, { residualSeconds: 60 })
    const { id } = await ledger.openRevocation(
      { selector: { human: ['peggy'] }, reason: 'stolen', by: 'sso/ada', verify: 'sample' },
      event('revocation.started'),
    )
    const [claim] = await advance(ledger, id)
    if (!claim) throw new Error('not claimed')
    const now = ledger.now()
    const waiting = await ledger.settle({ lease: lease.id, attempt: claim.attempt }, { result: 'alive', error: 'still taken' }, event('lease.alive'))
    expect(waiting).toMatchObject({ state: 'closing' })
    expect(waiting.dueAt).toBeLessThanOrEqual(now + 60_000)
    expect(await ledger.revocation(id)).toMatchObject({ failed: 0, pending: 1, verify: 'sample' })
    await ledger.settle({ lease: lease.id, attempt: claim.attempt }, { result: 'revoked', verified: 'dead' }, event('lease.revoked'))
  })

  it('is not finished before what follows from all being matched was done, by whichever broker is there for it', async () => {
    const { ledger, open: openAnother } = fixture
    const { id } = await open({ owner: ['nobody else'] })
    let called = 0
    const dies = async () => {
      called++
      throw new Error('the broker is gone')
    }
    const steps = async () => {
      for (let step = 0; step < 50; step++) if ((await ledger.advanceRevocation(id, 0, dies)).done) return
    }
    await expect(steps()).rejects.toThrow('the broker is gone')
    expect(called).toBe(1)
    expect(await ledger.revocation(id)).toMatchObject({ state: 'running' })
    const other = await openAnother()
    const seen: unknown[] = []
    await other.advanceRevocation(id, 0, async (what) => void seen.push(what))
    expect(seen).toEqual([{ selector: { owner: ['nobody else'] }, reason: 'stolen', by: 'sso/ada' }])
    expect(await other.revocation(id)).toMatchObject({ state: 'finished' })
  })

  it('that matches nothing is finished with its first full look', async () => {
    const { ledger } = fixture
    const { id } = await open({ owner: ['nobody'] })
    expect(await advance(ledger, id)).toEqual([])
    expect(await ledger.revocation(id)).toMatchObject({ state: 'finished', matched: 0 })
    expect(await ledger.revocation('revocation_00aaaaaaaaaaaaaaaaaaaaaaaaaa')).toBeUndefined()
    expect(await ledger.advanceRevocation('nothing')).toEqual({ claims: [], done: true })
    await expect(open({})).rejects.toMatchObject({ code: 'request_invalid' })
  })
})
