import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { HumanProof } from '../../src/types.js'
import { event, type Fixture, newLease, newTask, openTask, startLedger, taskNow, tokenNow } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const proof = (it: Partial<HumanProof> = {}): HumanProof => {
  const token = { tokenFingerprint: 'fingerprint', tokenIssuedAt: tokenNow(fixture.ledger), tokenExpiresAt: fixture.ledger.now() + 600_000 }
  return { issuer: 'sso', subject: 'ada', team: 'analytics', groups: ['finance'], ...token, ...it }
}
const freeze = (human: string) => fixture.ledger.freeze({ selector: { human: [human] }, reason: 'left', by: 'sso/eve' }, event('freeze.set'))
const thaw = (id: string) => fixture.ledger.thaw(id, { reason: 'over', by: 'sso/eve' }, event('freeze.thawed'))
const facts = async (task: string) => {
  const { contextVersion, obtained } = await taskNow(fixture.ledger, task)
  return { contextVersion, obtained }
}

describe('a lease on behalf of a human whom its task does not name', () => {
  const granted = async (human: string, more: object = {}) => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = newLease(ledger, task, { human, humanProof: proof(), ...more })
    expect(await ledger.grant(lease, event())).toMatchObject({ ok: true })
    return lease
  }

  it('keeps who it is, and what their token showed', async () => {
    const shown = proof()
    const { id } = await granted('ada', { humanProof: shown })
    expect(await fixture.ledger.lease(id)).toMatchObject({ human: 'ada', humanProof: shown })
  })

  it('is frozen with the human, in whatever case the name is written', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    for (const name of ['ada@example.com', 'ADA@example.com']) {
      const { freeze: set } = await freeze(name)
      for (const human of ['ada@example.com', 'Ada@Example.com']) {
        expect(await ledger.reserve(newLease(ledger, await taskNow(ledger, task.id), { human }), event())).toMatchObject({
          refused: 'frozen',
          detail: set.id,
        })
        expect(await ledger.openTask(newTask(ledger, { human }), event('task.opened'))).toMatchObject({ refused: 'frozen' })
      }
      for (const human of ['bob', undefined])
        expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { human }), event())).toMatchObject({ ok: true })
      await thaw(set.id)
    }
  })

  it('comes back closing where the freeze came while the upstream minted', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = newLease(ledger, task, { human: 'ada', humanProof: proof(), mintMs: 5_000 })
    expect(await ledger.reserve(lease, event('lease.reserved'))).toMatchObject({ ok: true })
    const { freeze: set } = await freeze('Ada')
    const minted = { handle: { role: 'mf' }, expiresAt: ledger.now() + 60_000 }
    expect(await ledger.activate(lease, minted, event())).toMatchObject({ state: 'closing', cause: 'frozen' })
    await thaw(set.id)
  })

  it('is found by an emergency, in whatever case the name is written', async () => {
    const { ledger } = fixture
    const [plain, capital, other] = [await granted('grace@example.com'), await granted('Grace@Example.com'), await granted('bob@example.com')]
    const matched = await ledger.match({ human: ['GRACE@example.com'] })
    expect(matched.map(({ live }) => live)).toEqual([2])
    const { id } = await ledger.openRevocation(
      { selector: { human: ['GRACE@example.com'] }, reason: 'left', by: 'sso/eve' },
      event('revocation.started'),
    )
    for (let done = false; !done; ) done = (await ledger.advanceRevocation(id, 0)).done
    const states = await Promise.all([plain, capital, other].map(async (lease) => (await ledger.lease(lease.id))?.state))
    expect(states).toEqual(['closing', 'closing', 'active'])
  })

  it('goes with the issuer of the token that it rests on, and so does what its task rests on', async () => {
    const { ledger } = fixture
    const stolen = { issuer: ['people'] }
    const humanProof = proof({ issuer: 'people' })
    const [own, other] = [await granted('ada', { humanProof }), await granted('ada')]
    const task = await openTask(ledger, { human: 'ada', humanProof })
    const child = await openTask(ledger, { parent: task.id })
    const through = newLease(ledger, child)
    await ledger.grant(through, event())
    expect((await ledger.match(stolen)).map(({ live }) => live)).toEqual([2])
    const { freeze: set } = await ledger.freeze({ selector: stolen, reason: 'stolen keys', by: 'sso/eve' }, event('freeze.set'))
    const now = async (id: string) => newLease(ledger, await taskNow(ledger, id))
    expect(await ledger.grant({ ...(await now(own.task)), human: 'ada', humanProof }, event())).toMatchObject({ refused: 'frozen' })
    expect(await ledger.grant(await now(child.id), event())).toMatchObject({ refused: 'frozen' })
    expect(await ledger.grant({ ...(await now(other.task)), human: 'ada', humanProof: proof() }, event())).toMatchObject({ ok: true })
    await thaw(set.id)
  })

  it('is no longer called with once the human, or whoever says who that is, is frozen', async () => {
    const { ledger } = fixture
    const humanProof = proof({ issuer: 'people' })
    const lease = await granted('Ada', { humanProof })
    const { id: task, contextVersion, obtained } = await taskNow(ledger, lease.task)
    const tool = { name: 'tickets/create', access: 'write', sensitivity: 'internal' } as const
    const call = { task, agent: lease.agent, tool, facts: { contextVersion, obtained } }
    const made = () => ledger.callTool({ ...call, lease: lease.id, human: 'Ada', humanProof }, event('tool.called', { task }))
    for (const selector of [{ human: ['ada'] }, { issuer: ['people'] }]) {
      const { freeze: set } = await ledger.freeze({ selector, reason: 'left', by: 'sso/eve' }, event('freeze.set'))
      expect(await made()).toMatchObject({ refused: 'frozen', detail: set.id })
      await thaw(set.id)
    }
    expect(await made()).toEqual({ ok: true })
  })

  it('is renewed with a newer token of the human alone, and keeps that one', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const first = proof()
    const lease = newLease(ledger, task, { human: 'ada', humanProof: first, maxLifetimeSeconds: 3600 })
    await ledger.grant(lease, event())
    const renew = async (humanProof?: HumanProof) => {
      const renewal = { ttlSeconds: 600, facts: await facts(task.id), tokenIssuedAt: tokenNow(ledger), humanProof }
      return ledger.renew(lease.id, renewal, event('lease.renewed'))
    }
    expect(await renew()).toMatchObject({ refused: 'human_not_fresh' })
    expect(await renew(first)).toMatchObject({ refused: 'human_not_fresh' })
    expect(await renew(proof({ tokenIssuedAt: first.tokenIssuedAt - 1 }))).toMatchObject({ refused: 'human_not_fresh' })
    const second = proof({ groups: [] })
    expect(await renew(second)).toMatchObject({ ok: true, lease: { human: 'ada', humanProof: second } })
    expect(await renew(second)).toMatchObject({ refused: 'human_not_fresh' })
    const takes = (humanProof?: HumanProof) =>
      taskNow(ledger, task.id).then((now) =>
        ledger.grant(
          newLease(ledger, now, { human: 'ada', humanProof, supersedes: lease.id, agent: { ...lease.agent, tokenIssuedAt: tokenNow(ledger) } }),
          event(),
        ),
      )
    expect(await takes(second)).toMatchObject({ refused: 'human_not_fresh' })
    expect(await takes()).toMatchObject({ refused: 'human_not_fresh' })
    expect(await takes(proof())).toMatchObject({ ok: true })
  })
})

describe('a task that is for a human', () => {
  it('is for nobody else, whatever was decided', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { human: 'ada', humanProof: proof() })
    expect(await ledger.grant(newLease(ledger, task, { human: 'bob' }), event())).toMatchObject({ refused: 'stale' })
    const lease = newLease(ledger, task)
    await ledger.grant(lease, event())
    // Whoever decided it did not know: it is the task's all the same.
    expect(await ledger.lease(lease.id)).toMatchObject({ human: 'ada', humanProof: undefined })
  })

  it('hands on who that is, and what is known of them, whatever a child is opened with', async () => {
    const { ledger } = fixture
    const shown = proof()
    const parent = await openTask(ledger, { human: 'ada', humanProof: shown })
    const child = await openTask(ledger, { parent: parent.id, human: 'bob', humanProof: proof({ team: 'platform' }) })
    expect([child.human, child.humanProof]).toEqual(['ada', shown])
    const unproven = await openTask(ledger, { parent: (await openTask(ledger, { human: 'ada' })).id, human: 'ada', humanProof: shown })
    expect([unproven.human, unproven.humanProof]).toEqual(['ada', undefined])
    const nobodys = await openTask(ledger, { parent: (await openTask(ledger)).id, human: 'ada', humanProof: shown })
    expect([nobodys.human, nobodys.humanProof]).toEqual([undefined, undefined])
  })
})
