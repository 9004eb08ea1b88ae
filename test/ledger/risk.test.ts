import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { hashed, keys, partitionFor } from '../../src/ledger/keys.js'
import type { CountedAct, Ledger } from '../../src/ledger/ledger.js'
import { event, eventsOf, type Fixture, granted, MINUTE, openTask, RULES, startLedger } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

/** An agent of its own for each test. */
let agents = 0
const someone = () => `agent-${++agents}`
let requests = 0
/** What drifts, whatever is known by then. */
const DRIFT = { names: ['write something'], granted: false, offScript: true }
const act = (more: Partial<CountedAct> = {}): CountedAct => ({
  digest: `request ${++requests}`,
  names: ['read warehouse-read'],
  granted: true,
  ...more,
})
const count = (agent: string, more: Partial<CountedAct> = {}, rules = RULES, ledger: Ledger = fixture.ledger) =>
  ledger.countRisk(agent, act(more), rules, event('agent.risk', { detail: { agent } }))
const risk = (agent: string) => fixture.ledger.risk(agent, RULES)
const told = async (agent: string) => (await eventsOf(fixture.ledger)).filter(({ type, detail }) => type === 'agent.risk' && detail?.agent === agent)
const keyOf = (agent: string) => keys.agentRisk(partitionFor(hashed(agent), 4), hashed(agent))
/** Says that what was counted of an agent happened so much earlier. */
async function later(agent: string, ms: number): Promise<void> {
  const key = keyOf(agent)
  const { client } = fixture.redis
  const fields = await client.hgetall(key)
  for (const name of ['at', 'si', 'ws', 'dr', 'fu', 'ft']) if (fields[name] !== undefined) await client.hset(key, name, Number(fields[name]) - ms)
  const known = await client.zrange(`${key}:known`, 0, '-1', 'WITHSCORES')
  for (let i = 0; i < known.length; i += 2) await client.zadd(`${key}:known`, Number(known[i + 1]) - ms, known[i] ?? '')
}

/** At once: what is counted goes out in the order in which it came. */
const many = <T>(times: number, act: (i: number) => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: times }, (_, i) => act(i)))

describe('what an agent does', () => {
  it('adds points by signal, and an agent that nothing was counted of has none', async () => {
    const agent = someone()
    expect(await risk(agent)).toEqual({
      risk: 0,
      value: 0,
      recent: { read: 0, write: 0, escalate: 0 },
      signals: { rate: 0, loop: 0, refused: 0, novelty: 0, drift: 0 },
    })
    expect(await count(agent)).toEqual({ before: 0, risk: 0, recent: { read: 0, write: 0, escalate: 0 }, raised: [] })
    expect(await count(agent, { ...DRIFT, refused: 4 })).toMatchObject({ before: 0, risk: 50, raised: ['refused', 'drift'] })
    expect(await risk(agent)).toMatchObject({ risk: 50, value: 57, signals: { rate: 0, loop: 0, refused: 12, novelty: 0, drift: 45 } })
  })

  it('is a storm where it is faster than its window allows, each time that this is used up', async () => {
    const agent = someone()
    for (const { raised } of await many(99, () => count(agent))) expect(raised).toEqual([])
    expect(await count(agent)).toMatchObject({ risk: 20, raised: ['rate'] })
    expect((await count(agent, { times: 99 })).raised).toEqual(['loop'])
    expect(await count(agent)).toMatchObject({ risk: 100, raised: ['rate'] })
    // The next window begins with nothing.
    await later(agent, MINUTE)
    for (const { raised } of await many(99, () => count(agent))) expect(raised).toEqual([])
    expect((await count(agent)).raised).toEqual(['rate'])
  })

  it('is a loop where it is the same again and again, and not where it is something else', async () => {
    const agent = someone()
    const again = () => count(agent, { digest: 'the same' })
    for (const { raised } of await many(4, again)) expect(raised).toEqual([])
    expect(await again()).toMatchObject({ before: 0, risk: 30, raised: ['loop'] })
    for (const { raised } of await many(4, again)) expect(raised).toEqual([])
    expect(await again()).toMatchObject({ risk: 60, raised: ['loop'] })
    expect((await count(agent, { digest: 'another' })).raised).toEqual([])
    await many(20, again)
    expect((await risk(agent)).signals.loop).toBe(65)
  })

  it('is new where it was never asked before, once the agent is known for long enough', async () => {
    const agent = someone()
    for (const name of ['a', 'b', 'c', 'd']) expect((await count(agent, { names: [name] })).raised).toEqual([])
    await later(agent, 60 * MINUTE)
    expect((await count(agent, { names: ['a'] })).raised).toEqual([])
    expect((await count(agent, { names: ['e', 'a', 'f'] })).raised).toEqual(['novelty'])
    expect((await count(agent, { names: ['e', 'f'] })).raised).toEqual([])
    expect((await risk(agent)).signals.novelty).toBe(12)
    await many(20, (i) => count(agent, { names: [`new ${i}`] }))
    expect((await risk(agent)).signals.novelty).toBe(35)
  })

  it('drifts where it is no step of a script: where it was not granted, or was never asked before', async () => {
    const [refused, known] = [someone(), someone()]
    const write = { names: ['write s3-export'], offScript: true }
    expect((await count(refused, { ...write, granted: false })).raised).toEqual(['drift'])
    expect((await count(refused, { ...write, granted: false })).raised).toEqual(['drift'])
    // What it was let do in its first days is what it is for.
    expect((await count(known, write)).raised).toEqual([])
    await later(known, 60 * MINUTE)
    expect((await count(known, { ...write, names: ['write s3-export', 'to elsewhere'] })).raised).toEqual(['novelty'])
    expect((await count(known, { ...write, granted: false })).raised).toEqual([])
    expect((await count(known, { ...write, names: ['write queue'] })).raised).toEqual(['novelty', 'drift'])
    expect((await risk(known)).driftedAt).toBeGreaterThan(fixture.ledger.now() - MINUTE)
  })

  it('does not become known by being refused', async () => {
    const agent = someone()
    await count(agent)
    await later(agent, 60 * MINUTE)
    const refused = () => count(agent, { names: ['read payroll'], granted: false })
    expect((await refused()).raised).toEqual(['novelty'])
    expect((await refused()).raised).toEqual(['novelty'])
  })
})

describe('risk', () => {
  it('halves with time, until nothing is left of it', async () => {
    const agent = someone()
    await count(agent, DRIFT)
    await count(agent, { ...DRIFT, refused: 5 })
    expect(await risk(agent)).toMatchObject({ risk: 80, value: 80 })
    await later(agent, 10 * MINUTE)
    expect(await risk(agent)).toMatchObject({ risk: 40, value: 40, signals: { drift: 32.5, refused: 7.5 } })
    expect(await count(agent)).toMatchObject({ before: 40, risk: 40 })
    await later(agent, 100 * MINUTE)
    expect(await risk(agent)).toMatchObject({ risk: 0, value: 0 })
  })

  it('is counted together by all replicas', async () => {
    const agent = someone()
    const other = await fixture.open()
    await many(50, () => Promise.all([count(agent), count(agent, {}, RULES, other)]))
    expect(await other.risk(agent, RULES)).toMatchObject({ value: 20 })
    expect(await risk(agent)).toMatchObject({ value: 20 })
  })

  it('counts what was obtained within the last hour, and forgets it after that', async () => {
    const agent = someone()
    await count(agent, { obtained: 'read' })
    await count(agent, { obtained: 'write', times: 2 })
    expect(await count(agent, { obtained: 'write' })).toMatchObject({ recent: { read: 1, write: 3, escalate: 0 } })
    expect(await count(agent)).toMatchObject({ recent: { read: 1, write: 3, escalate: 0 } })
    expect((await risk(agent)).recent).toEqual({ read: 1, write: 3, escalate: 0 })
    const key = keyOf(agent)
    const slots = Object.entries(await fixture.redis.client.hgetall(key)).filter(([name]) => /^o\d$/.test(name))
    for (const [name, text] of slots)
      await fixture.redis.client.hset(
        key,
        name,
        text.replace(/^\d+/, (slot) => String(Number(slot) - 6)),
      )
    expect((await risk(agent)).recent).toEqual({ read: 0, write: 0, escalate: 0 })
  })

  it('is told when it rises and when it is lower than was told, and each drift', async () => {
    const agent = someone()
    await count(agent, { refused: 2 })
    expect(await told(agent)).toEqual([])
    await count(agent, { refused: 2 })
    await count(agent, DRIFT)
    await count(agent, DRIFT)
    await later(agent, 20 * MINUTE)
    await count(agent)
    await count(agent)
    expect((await told(agent)).map(({ detail }) => [detail?.from, detail?.to, detail?.why])).toEqual([
      [0, 10, ['refused']],
      [10, 50, ['drift']],
      [50, 70, ['drift']],
      [70, 10, []],
    ])
  })
})

describe('what an operator says', () => {
  const set = (agent: string, more: object) =>
    fixture.ledger.setRisk(agent, { reason: 'the SIEM', by: 'sso/ada', ...more }, RULES, event('agent.risk', { detail: { agent } }))

  it('is a floor, which counts for as long as it stands, and which no time takes away', async () => {
    const agent = someone()
    expect(await set(agent, { floor: { value: 70 } })).toEqual({ ok: true, before: 0, risk: 70 })
    expect(await fixture.redis.client.pttl(keyOf(agent))).toBe(-1)
    expect(await count(agent, { refused: 1 })).toMatchObject({ before: 70, risk: 70 })
    expect(await fixture.redis.client.pttl(keyOf(agent))).toBe(-1)
    expect((await risk(agent)).floor).toMatchObject({ value: 70, reason: 'the SIEM', by: 'sso/ada', until: undefined })
    await later(agent, 100 * MINUTE)
    expect(await risk(agent)).toMatchObject({ risk: 70 })
    expect(await set(agent, { floor: { value: 0 }, expected: { value: 70 } })).toEqual({ ok: true, before: 70, risk: 0 })
    expect((await risk(agent)).floor).toBeUndefined()
    expect(await told(agent)).toMatchObject([{ detail: { from: 0, to: 70 } }, { detail: { from: 70, to: 0 } }])
  })

  it('may end by itself', async () => {
    const agent = someone()
    const until = fixture.ledger.now() + 10 * MINUTE
    await set(agent, { floor: { value: 90, until } })
    expect(await risk(agent)).toMatchObject({ risk: 90, floor: { until } })
    await later(agent, 11 * MINUTE)
    expect(await risk(agent)).toMatchObject({ risk: 0, floor: undefined })
    expect(await count(agent)).toMatchObject({ before: 0, risk: 0 })
  })

  it('is not carried out on a floor that is another by now', async () => {
    const agent = someone()
    await set(agent, { floor: { value: 90 } })
    expect(await set(agent, { floor: { value: 50 } })).toEqual({ ok: false, refused: 'stale' })
    expect(await set(agent, { floor: { value: 50 }, expected: { value: 90, until: 5 } })).toEqual({ ok: false, refused: 'stale' })
    expect(await risk(agent)).toMatchObject({ risk: 90 })
  })

  it('forgets what was counted, but not what the agent has asked for and obtained before', async () => {
    const agent = someone()
    await many(99, () => count(agent, { digest: 'same', names: ['role a'], refused: 1, obtained: 'read' }))
    expect((await risk(agent)).risk).toBe(100)
    expect(await set(agent, { reset: true })).toEqual({ ok: true, before: 100, risk: 0 })
    expect(await count(agent, { digest: 'same', names: ['role a'] })).toMatchObject({ risk: 0, recent: { read: 99 }, raised: [] })
    await later(agent, 60 * MINUTE)
    expect((await count(agent, { names: ['role a'] })).raised).toEqual([])
  })
})

describe('what is kept of an agent', () => {
  it('is bounded, whatever it asks for, and none of it is for ever', async () => {
    const agent = someone()
    const acts = Array.from({ length: 300 }, (_, i) => ({
      digest: 'x'.repeat(1_000) + i,
      names: [`role ${i}`, `to ${'y'.repeat(500)}${i}`, 'a', 'b', 'c', 'd'],
    }))
    await Promise.all(acts.map((one) => count(agent, one)))
    const { client } = fixture.redis
    const key = keyOf(agent)
    expect(await client.hlen(`${key}:asked`)).toBe(100)
    expect(await client.zcard(`${key}:known`)).toBe(200)
    expect(await client.hlen(key)).toBeLessThan(20)
    for (const [name, most] of [
      [key, RULES.novelty.memoryMs],
      [`${key}:known`, RULES.novelty.memoryMs],
      [`${key}:asked`, RULES.loop.windowMs],
    ] as const) {
      const left = await client.pttl(name)
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThanOrEqual(most)
      expect(await client.memory('USAGE', name)).toBeLessThan(25_000)
    }
  })

  it('is its own alone', async () => {
    const [one, other] = [someone(), someone()]
    await count(one, { ...DRIFT, refused: 15 })
    expect(await risk(one)).toMatchObject({ value: 90 })
    expect(await risk(other)).toMatchObject({ value: 0 })
    expect((await risk(other)).since).toBeUndefined()
  })

  it('is counted where the outbox is full too, and told once it has room', async () => {
    const full = await fixture.open({ outboxLimit: 1 })
    const agent = someone()
    expect(await count(agent, DRIFT, RULES, full)).toMatchObject({ risk: 40, raised: ['drift'] })
    expect(await risk(agent)).toMatchObject({ risk: 40 })
    expect(await told(agent)).toEqual([])
    for (let i = 0; i < 2; i++) await count(agent)
    expect((await told(agent)).map(({ detail }) => [detail?.from, detail?.to])).toEqual([[0, 40]])
  })
})

it('the live leases of an agent are found in whatever partition they are', async () => {
  const { ledger } = fixture
  const agent = someone()
  const who = { id: agent, owner: 'sre@example.com', issuer: 'cluster' }
  const limits = { perTaskLive: 0, perAgentLive: 10 }
  const leases = []
  for (let i = 0; i < 5; i++) {
    const task = await openTask(ledger, { assignees: [{ agent }] })
    leases.push(await granted(ledger, task.id, { agent: who, limits }))
  }
  await ledger.close(leases[0]?.id ?? '', 'released', event('lease.closing'))
  const found = await ledger.leasesOfAgent(agent)
  expect(found.map(({ id }) => id).sort()).toEqual(
    leases
      .slice(1)
      .map(({ id }) => id)
      .sort(),
  )
  expect(await ledger.leasesOfAgent(someone())).toEqual([])
})
