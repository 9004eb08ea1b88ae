import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { oneNode } from '../../src/ledger/nodes.js'
import { askList } from '../../src/ledger/register.js'
import { PAGE, type ReadList, readList } from '../../src/ledger/register-reader.js'
import { createAsk } from '../../src/ledger/store.js'
import type { Register } from '../../src/types.js'
import { waitFor } from '../support/wait.js'
import { type Fixture, HOUR, startLedger } from './fixture.js'

const LIST = 'certificates'
/** More than one page, and no whole number of them. */
const MANY = 2 * PAGE + 500

let fixture: Fixture
let brokers: [Register, Register]
let later: number

beforeEach(async () => {
  fixture = await startLedger()
  brokers = [fixture.ledger.register('ca'), (await fixture.open()).register('ca')]
  later = fixture.ledger.now() + HOUR
})
afterEach(() => fixture.stop())

type Entries = Map<string, number>
const entriesOf = async (from: Pick<Register, 'read'>): Promise<Entries> => {
  const { entries } = await from.read(LIST)
  const ids = new Map(entries.map(({ id, until }) => [id, until]))
  expect(ids.size).toBe(entries.length)
  return ids
}
/** As many at a time as even a busy machine answers within one command's deadline. */
const AT_ONCE = 500
const addAll = async (register: Register, ids: readonly string[], until = later) => {
  for (let from = 0; from < ids.length; from += AT_ONCE)
    await Promise.all(ids.slice(from, from + AT_ONCE).map((id) => register.add(LIST, { id, until })))
}
const numbered = (count: number, prefix = 'certificate-') => Array.from({ length: count }, (_, i) => `${prefix}${i}`)
const allKeys = async () => (await fixture.redis.client.keys('*register*')).sort()
const keyOfList = async () => {
  const found = (await allKeys()).filter((key) => /:register:[^:]+:[\w-]{22}$/.test(key))
  if (found.length !== 1 || found[0] === undefined) throw new Error(`there are ${found.length} lists`)
  return found[0]
}
const redisNow = async () => {
  const [seconds = '', micros = ''] = (await fixture.redis.client.time()).map(String)
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

/** What Redis holds of the list, by one command and without the product: not yet passed at any of the two times, or at the first. */
async function plain(read: () => Promise<Entries>): Promise<{ sure: Entries; possible: Entries; read: Entries }> {
  const { client } = fixture.redis
  const before = await redisNow()
  const answer = await read()
  const all: Entries = new Map()
  for (const key of (await allKeys()).filter((name) => /:register:[^:]+:[\w-]{22}$/.test(name))) {
    const members = await client.zrangebyscore(key, '(0', '+inf', 'WITHSCORES')
    for (let i = 0; i < members.length; i += 2) all.set((members[i] ?? '').slice(1), Number(members[i + 1]))
  }
  const after = await redisNow()
  const past = (time: number) => new Map([...all].filter(([, until]) => until > time))
  // What passed while it was read may have gone from Redis since.
  for (const [id, until] of answer) if (!all.has(id) && until > before && until <= after) all.set(id, until)
  return { sure: past(after), possible: past(before), read: answer }
}

async function expectWhatRedisHolds(register: Pick<Register, 'read'>): Promise<void> {
  const { sure, possible, read } = await plain(() => entriesOf(register))
  expect({ missing: [...sure].filter(([id, until]) => read.get(id) !== until) }).toEqual({ missing: [] })
  expect({ tooMany: [...read].filter(([id, until]) => possible.get(id) !== until) }).toEqual({ tooMany: [] })
}

/** Bytes that Redis has sent to all its clients while this ran, the question itself included. */
async function sentDuring(run: () => Promise<unknown>): Promise<number> {
  const sent = async () => Number(/total_net_output_bytes:(\d+)/.exec(await fixture.redis.client.info('stats'))?.[1])
  const before = await sent()
  await run()
  return (await sent()) - before
}

describe('what a read costs', () => {
  it('is what has changed since this broker read, not what the list holds', async () => {
    const [one, other] = brokers
    const nothing = await sentDuring(async () => undefined)
    await addAll(one, numbered(MANY))
    const whole = await sentDuring(() => other.read(LIST))
    expect(whole).toBeGreaterThan(MANY * 'certificate-0'.length)

    expect((await sentDuring(() => other.read(LIST))) - nothing).toBeLessThan(300)
    await addAll(one, numbered(10, 'new-'))
    expect((await sentDuring(() => other.read(LIST))) - nothing).toBeLessThan(1000)
    expect((await entriesOf(other)).size).toBe(MANY + 10)
    await expectWhatRedisHolds(other)
  })

  it('is in calls of no more than a page each, also of the whole list and of many changes', async () => {
    const [one, other] = brokers
    const calls = async () => Number(/cmdstat_zrev[^:]*:calls=(\d+)/.exec(await fixture.redis.client.info('commandstats'))?.[1] ?? 0)
    await addAll(one, numbered(MANY))
    expect((await entriesOf(other)).size).toBe(MANY)
    expect(await calls()).toBe(Math.ceil(MANY / PAGE))
    await addAll(one, numbered(MANY, 'new-'))
    await fixture.redis.client.config('RESETSTAT')
    expect((await entriesOf(other)).size).toBe(2 * MANY)
    expect(await calls()).toBe(Math.ceil(MANY / PAGE))
    await expectWhatRedisHolds(other)
  })

  it('is the whole list again for who has read nothing for very many changes', async () => {
    const [one, other] = brokers
    await addAll(one, ['first'])
    await other.read(LIST)
    for (let i = 0; i < 12; i++) await addAll(one, numbered(1000, `${i}-`))
    await expectWhatRedisHolds(other)
    const held = await fixture.redis.client.zcount(await keyOfList(), '-inf', '(0')
    expect(held).toBe(10_000)
  })

  it('is two reads for many who ask at once, and each has what was there when it asked', async () => {
    const [one] = brokers
    await addAll(one, ['first'])
    await fixture.redis.client.config('RESETSTAT')
    const early = Array.from({ length: 50 }, () => one.read(LIST))
    await one.add(LIST, { id: 'second', until: later })
    const late = await one.read(LIST)
    expect(late.entries.map(({ id }) => id)).toEqual(['first', 'second'])
    for (const { entries } of await Promise.all(early)) expect(entries[0]?.id).toBe('first')
    const stats = await fixture.redis.client.info('commandstats')
    expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])).toBeLessThan(10)
  })

  it('is bounded when very many have passed at once, and they are in no answer', async () => {
    const [one, other] = brokers
    const until = fixture.ledger.now() + 6000
    await addAll(one, numbered(7000), until)
    await addAll(one, ['stays'])
    expect((await entriesOf(other)).size).toBe(7001)
    await waitFor('them to pass', async () => (await redisNow()) > until)
    expect([...(await entriesOf(other)).keys()]).toEqual(['stays'])
    const count = () => keyOfList().then((key) => fixture.redis.client.zcount(key, '(0', '+inf'))
    expect(await count()).toBe(2001)
    expect([...(await entriesOf(one)).keys()]).toEqual(['stays'])
    expect(await count()).toBe(1)
  })
})

describe('a list that comes back as it was before', () => {
  it('is read as it is now, although a later change has a later version than what was lost', async () => {
    const [one, other] = brokers
    await addAll(one, ['kept'])
    const copies = await dumped()
    await addAll(one, ['lost'])
    const { version } = await other.read(LIST)
    await restore(copies)
    await waitFor('a later millisecond', async () => (await redisNow()) > version)
    await addAll(one, ['added'])
    const read = await other.read(LIST)
    expect(read.entries.map(({ id }) => id).sort()).toEqual(['added', 'kept'])
    expect(read.version).toBeGreaterThan(version)
  })

  it('between two pages, or moves on there, is in the end what Redis holds then', async () => {
    const [one] = brokers
    await addAll(one, ['any'])
    const list = await keyOfList()
    const key = list.slice(0, list.lastIndexOf(':'))
    const { client } = fixture.redis
    type Between = 'nothing' | 'add' | 'move' | 'copy' | 'restore'
    const between = fc.constantFrom<Between>('nothing', 'add', 'move', 'copy', 'restore', 'restore')
    const plan = fc.array(between, { maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(plan, fc.array(plan, { maxLength: 3 }), async (first, more) => {
        await client.del(await allKeys())
        for (const [index, id] of ['a', 'b', 'c', 'd', 'e'].entries()) await one.add(LIST, { id, until: later + index })
        let copies = await dumped()
        let count = 0
        const doing = async (what: Between) => {
          count++
          if (what === 'add') await one.add(LIST, { id: `${count}`, until: later + (count % 7) })
          else if (what === 'move') await one.add(LIST, { id: 'b', until: later + 10 * count })
          else if (what === 'copy') copies = await dumped()
          else if (what === 'restore') await restore(copies)
        }
        let known: ReadList | undefined
        for (const steps of [first, ...more]) {
          const left = [...steps]
          const ask: Parameters<typeof readList>[0] = async (question) => {
            const next = left.shift()
            if (next !== undefined) await doing(next)
            return askList(createAsk(oneNode(client)), key, LIST, question)
          }
          known = await readList(ask, known, 2)
          const read = known
          await expectWhatRedisHolds({ read: async () => read })
          for (const rest of left) await doing(rest)
        }
      }),
      { numRuns: 100 },
    )
  }, 60_000)

  it('is read anew when the changes that it was at are forgotten between two pages of them', async () => {
    const [one] = brokers
    await addAll(one, ['any'])
    const { client } = fixture.redis
    const list = await keyOfList()
    const ask: Parameters<typeof readList>[0] = (question) =>
      askList(createAsk(oneNode(client)), list.slice(0, list.lastIndexOf(':')), LIST, question)
    const known = await readList(ask, undefined, 2)
    await addAll(one, numbered(7))
    let calls = 0
    const read = await readList(
      async (question) => {
        // As when there were too many.
        if (++calls === 2) await client.zremrangebyrank(list, 2, (await client.zcount(list, '-inf', '(0')) - 1)
        return ask(question)
      },
      known,
      2,
    )
    await expectWhatRedisHolds({ read: async () => read })
    expect(read.entries).toHaveLength(8)
  })

  it('never has a version that was of other entries', async () => {
    const [one] = brokers
    await addAll(one, ['kept', 'lost'])
    const { version } = await one.read(LIST)
    await fixture.redis.client.del(await keyOfList())
    const emptied = await one.read(LIST)
    expect(emptied.entries).toEqual([])
    expect(emptied.version).toBeGreaterThan(version)
    expect((await one.read(LIST)).version).toBe(emptied.version)
  })
})

type Copies = readonly { readonly key: string; readonly bytes: Buffer }[]

async function dumped(): Promise<Copies> {
  const copies = await Promise.all((await allKeys()).map(async (key) => ({ key, bytes: await fixture.redis.client.dumpBuffer(key) })))
  return copies.flatMap(({ key, bytes }) => (bytes === null ? [] : [{ key, bytes }]))
}

async function restore(copies: Copies): Promise<void> {
  for (const { key, bytes } of copies) await fixture.redis.client.restore(key, 0, bytes, 'REPLACE')
}

/** One step of what brokers, time and Redis may do to a list. */
type Step =
  | { readonly do: 'add'; readonly broker: 0 | 1; readonly id: string; readonly until: 'soon' | number }
  | { readonly do: 'read'; readonly broker: 0 | 1 }
  | { readonly do: 'pass' }
  | { readonly do: 'flush' }
  | { readonly do: 'copy' }
  | { readonly do: 'delete'; readonly key: number }
  | { readonly do: 'restore'; readonly copy: number; readonly key: number | 'all' }

const broker = fc.constantFrom<0 | 1>(0, 1)
const id = fc.constantFrom('a', 'b', 'c', 'd', '', '-', '+e')
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('add' as const), broker, id, until: fc.constantFrom('soon' as const, 1, 2, 3) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('read' as const), broker }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('copy' as const) }) },
  { weight: 1, arbitrary: fc.constantFrom({ do: 'pass' } as const, { do: 'flush' } as const) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), key: fc.nat(2) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('restore' as const), copy: fc.nat(5), key: fc.oneof(fc.constant('all' as const), fc.nat(2)) }),
  },
)

it('is for each read what Redis holds, whatever brokers do, passes and is lost in between', async () => {
  const { client } = fixture.redis
  const meta = await client.hgetall('mf:meta')
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      await client.flushall()
      await client.hset('mf:meta', meta)
      // The same brokers, which know of the run before.
      run++
      const copies: Copies[] = []
      const seen: { version: number; entries: string }[] = []
      let soonest = 0
      for (const one of steps) {
        if (one.do === 'add') {
          const until = one.until === 'soon' ? (await redisNow()) + 15 : later + one.until
          if (one.until === 'soon') soonest = until
          await brokers[one.broker].add(LIST, { id: one.id, until })
        } else if (one.do === 'read') {
          const last = seen[one.broker]
          const { version, entries } = await brokers[one.broker].read(LIST)
          const now = { version, entries: JSON.stringify(entries) }
          if (last !== undefined) {
            expect(version).toBeGreaterThanOrEqual(last.version)
            if (version === last.version) expect(now.entries).toBe(last.entries)
          }
          seen[one.broker] = now
          await expectWhatRedisHolds(brokers[one.broker])
          const again = await brokers[one.broker].read(LIST)
          seen[one.broker] = { version: again.version, entries: JSON.stringify(again.entries) }
        } else if (one.do === 'pass') await waitFor('it to pass', async () => (await redisNow()) > soonest)
        else if (one.do === 'copy') copies.push(await dumped())
        else if (one.do === 'flush') {
          await client.flushall()
          await client.hset('mf:meta', meta)
        } else if (one.do === 'delete') {
          const keys = await allKeys()
          const key = keys[one.key % Math.max(1, keys.length)]
          if (key !== undefined) await client.del(key)
        } else {
          const copy = copies[one.copy % Math.max(1, copies.length)] ?? []
          const chosen = one.key === 'all' ? copy : copy.filter((_, index) => index === Number(one.key) % copy.length)
          await restore(chosen)
        }
      }
      for (const register of brokers) await expectWhatRedisHolds(register)
    }),
    { numRuns: 150 },
  )
  expect(run).toBeGreaterThanOrEqual(150)
}, 120_000)
