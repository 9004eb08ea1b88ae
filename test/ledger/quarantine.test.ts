import { afterEach, describe, expect, it } from '@jest/globals'
import type { Ledger } from '../../src/ledger/ledger.js'
import type { Kept, Outside } from '../../src/ledger/witness.js'
import { isAfter } from '../../src/stream-id.js'
import { waitFor } from '../support/wait.js'
import { event, eventsOf, type Fixture, granted, HOUR, makeDue, openTask, PLENTY, setFields, startLedger, stateOf } from './fixture.js'

let fixture: Fixture
afterEach(() => fixture?.stop())

/** What a broker remembers, in memory. */
function remembering(kept?: Kept): Outside {
  let known = kept
  return {
    name: 'broker-1',
    kept: () => known,
    note: async (change) => {
      known = { ledger: '', generation: 1, beat: 0, held: new Map(), ...known, ...change }
    },
  }
}
/** A ledger that a broker finds to be further back than it remembers. */
async function quarantined(): Promise<{ ledger: Ledger; other: Ledger }> {
  const ledger = (await fixture.redis.client.hget('mf:meta', 'ledger')) ?? ''
  const held = new Map([[0, `${Date.now() + HOUR}-3`]])
  const other = await fixture.open({ outside: remembering({ ledger, generation: 1, beat: 0, held }) })
  return { ledger: fixture.ledger, other }
}

describe('a ledger in quarantine', () => {
  it('leaves alone what it believes live, until an operator lifts it, and takes back what is closing', async () => {
    fixture = await startLedger()
    const task = await openTask(fixture.ledger, { heartbeatSeconds: 60 })
    const [used, closing] = [await granted(fixture.ledger, task.id), await granted(fixture.ledger, task.id)]
    const over = await openTask(fixture.ledger)
    const { ledger, other } = await quarantined()
    expect(other.quarantined()).toMatchObject({ reason: 'behind', behind: [{ partition: 0, known: expect.stringMatching(/-3$/) }] })

    // Whatever this ledger says of their times may have changed since.
    await setFields(fixture.redis, 'lease', used.id, { xa: ledger.now() - 1_000, rb: ledger.now() - 1_000 })
    await setFields(fixture.redis, 'task', task.id, { hd: ledger.now() - 1_000, ht: ledger.now() - 1_000 })
    await makeDue(fixture.redis, 'due:warehouse', used.id)
    await makeDue(fixture.redis, 'tasks:due', task.id)
    await ledger.close(closing.id, 'released', event('lease.closing'), { left: true })
    await setFields(fixture.redis, 'task', over.id, { dl: ledger.now() - 1_000 })
    await makeDue(fixture.redis, 'tasks:due', over.id)
    const { claims, ended } = await ledger.claim(PLENTY)
    expect(claims.map(({ lease }) => lease.id)).toEqual([closing.id])
    expect(ended).toBe(1)
    expect(await stateOf(ledger, used.id)).toBe('active')
    expect((await ledger.task(task.id, { fresh: true }))?.state).toBe('active')

    expect(await other.liftQuarantine({ by: 'oncall', reason: 'looked' }, event('quarantine.lifted'))).toMatchObject({ ok: true })
    await makeDue(fixture.redis, 'due:warehouse', used.id)
    expect((await ledger.claim(PLENTY)).claims.map(({ lease }) => lease.id)).toEqual([used.id])
  })

  it('is not found by a broker that was away for so long that its name was removed, and is by one that was not', async () => {
    fixture = await startLedger()
    const ledger = (await fixture.redis.client.hget('mf:meta', 'ledger')) ?? ''
    const comesBack = (afterDays: number) =>
      fixture.open({ outside: remembering({ ledger, generation: 1, beat: Date.now() - afterDays * 24 * HOUR, held: new Map() }) })
    expect((await comesBack(40)).quarantined()).toBeUndefined()
    expect((await comesBack(20)).quarantined()).toMatchObject({ reason: 'behind' })
  })

  it('holds for a broker that remembers nothing, and nobody finds it again once it was lifted', async () => {
    fixture = await startLedger()
    const task = await openTask(fixture.ledger)
    const { ledger, other } = await quarantined()
    await expect(granted(ledger, task.id)).rejects.toThrow('quarantined')
    await waitFor('the other broker to know', async () => {
      await ledger.claim(PLENTY)
      return ledger.quarantined() !== undefined
    })
    expect(await ledger.freezes()).toMatchObject([{ kind: 'quarantine', selector: { all: true } }])
    await other.liftQuarantine({ by: 'oncall', reason: 'looked' }, event('quarantine.lifted'))
    await granted(ledger, task.id)
    // Its clock is behind what was remembered: what was told at the quarantine stands behind that all the same.
    await other.claim(PLENTY)
    expect(other.quarantined()).toBeUndefined()
    const told = (await eventsOf(ledger)).map(({ type }) => type)
    expect(told).toEqual(expect.arrayContaining(['quarantine.entered', 'quarantine.behind', 'quarantine.lifted']))
    expect(told.filter((type) => type === 'quarantine.behind')).toHaveLength(1)
  })

  it('lasts over a restart, and a lease is known to last as long as it was renewed to, within its longest life', async () => {
    fixture = await startLedger()
    const lease = await granted(fixture.ledger, (await openTask(fixture.ledger)).id)
    await quarantined()
    const next = await fixture.open()
    expect(next.quarantined()).toMatchObject({ reason: 'behind' })
    expect(await next.restoreExpiry(lease.id, next.now() + 10 * HOUR)).toBe(true)
    const known = await next.lease(lease.id)
    expect(known?.expiresAt).toBe(known?.renewableUntil)
    expect(await next.restoreExpiry(lease.id, next.now())).toBe(false)
  })
})

describe('before anybody has looked', () => {
  /** What audit does with what is told here; a freeze besides. */
  const goOn = async ({ ledger }: Fixture): Promise<void> => {
    await ledger.freeze({ selector: { agent: ['another'] }, reason: 'odd', by: 'oncall' }, event('freeze.set'))
    expect(await ledger.outbox.hold('one', HOUR)).toContain(0)
    for (const partition of [0, 1, 2, 3]) {
      await ledger.record(event('request.refused'))
      const last = (await ledger.outbox.read(partition, 100)).at(-1)
      if (last) expect(await ledger.outbox.confirm(partition, 'one', last.streamId)).toBe(true)
    }
  }

  it('a partition that was emptied issues nothing, although what is told there is written down', async () => {
    fixture = await startLedger()
    const { client } = fixture.redis
    await goOn(fixture)
    await openTask(fixture.ledger)
    await client.del(...(await client.keys('mf:{*')))
    for (let times = 0; times < 4; times++) await goOn(fixture)
    for (let n = 0; n < 16; n++) await expect(openTask(fixture.ledger)).rejects.toThrow('quarantined')
  })

  it('nor does one of before', async () => {
    fixture = await startLedger()
    const { client } = fixture.redis
    const all = await Promise.all((await client.keys('mf:{*')).map(async (key) => [key, await client.dumpBuffer(key)] as const))
    await goOn(fixture)
    await openTask(fixture.ledger)
    await client.del(...(await client.keys('mf:{*')))
    for (const [key, value] of all) if (value) await client.restore(key, 0, value)
    for (let times = 0; times < 4; times++) await goOn(fixture)
    for (let n = 0; n < 16; n++) await expect(openTask(fixture.ledger)).rejects.toThrow('quarantined')
  })
})

describe('stream ids', () => {
  it.each([
    ['2-0', '1-9', true],
    ['1-10', '1-9', true],
    ['1-9', '1-10', false],
    ['1-1', '', true],
    ['', '1-1', false],
    ['1-1', '1-1', false],
  ])('%s is after %s: %s', (a, b, is) => expect(isAfter(a, b)).toBe(is))
})
