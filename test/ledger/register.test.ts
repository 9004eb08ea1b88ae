import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { Register } from '../../src/types.js'
import { openRegister } from '../providers/register.js'
import { waitFor } from '../support/wait.js'
import { type Fixture, HOUR, startLedger } from './fixture.js'

const ODD = ['arn:aws:iam::123456789012:role/mf {p00}', '*', '{}', '', 'a:lists', 'lists', '\0\n\u{1F41B} ä', 'x'.repeat(5_000)]

let fixture: Fixture
let register: Register
let later: number

beforeEach(async () => {
  fixture = await startLedger()
  register = fixture.ledger.register('aws')
  later = fixture.ledger.now() + HOUR
})
afterEach(() => fixture.stop())

const idsOf = async (list: string, from = register) => (await from.read(list)).entries.map(({ id }) => id)

describe('a list', () => {
  it('is empty, of version 0 and unnamed before anything was added', async () => {
    expect(await register.read('certificates')).toEqual({ version: 0, entries: [] })
    expect(await register.lists()).toEqual([])
  })

  it('adds once, and is the same for another broker', async () => {
    await register.add('certificates', { id: 'a', until: later })
    const once = await register.read('certificates')
    expect(once.entries).toEqual([{ id: 'a', until: later }])
    await register.add('certificates', { id: 'a', until: later })
    expect(await register.read('certificates')).toEqual(once)

    const other = (await fixture.open()).register('aws')
    expect(await other.read('certificates')).toEqual(once)
    expect(await other.lists()).toEqual(['certificates'])
  })

  it('keeps the later end, whatever the order, and tells of it by its version', async () => {
    await register.add('certificates', { id: 'a', until: later })
    const { version: first } = await register.read('certificates')
    await register.add('certificates', { id: 'a', until: later - 1_000 })
    expect(await register.read('certificates')).toEqual({ version: first, entries: [{ id: 'a', until: later }] })
    await register.add('certificates', { id: 'a', until: later + 1_000 })
    const { version, entries } = await register.read('certificates')
    expect(entries).toEqual([{ id: 'a', until: later + 1_000 }])
    expect(version).toBeGreaterThan(first)
  })

  it('takes an end between two milliseconds as the later one', async () => {
    await register.add('certificates', { id: 'a', until: later + 0.1 })
    expect((await register.read('certificates')).entries).toEqual([{ id: 'a', until: later + 1 }])
  })

  it('never takes in what has passed', async () => {
    await register.add('certificates', { id: 'a', until: fixture.ledger.now() - 1_000 })
    expect(await register.read('certificates')).toEqual({ version: 0, entries: [] })
    expect(await register.lists()).toEqual([])
  })

  it('grows its version with each entry, when many brokers add at once too', async () => {
    const other = (await fixture.open()).register('aws')
    const seen = [(await register.read('certificates')).version]
    for (let i = 0; i < 20; i++) {
      await (i % 2 ? register : other).add('certificates', { id: `${i}`, until: later })
      seen.push((await register.read('certificates')).version)
    }
    expect(new Set(seen).size).toBe(21)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))

    await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 2 ? register : other).add('crowd', { id: `${i}`, until: later })))
    expect(new Set(await idsOf('crowd')).size).toBe(200)
  })

  it('drops what has passed, and grows its version with that', async () => {
    await register.add('certificates', { id: 'stays', until: later })
    await register.add('certificates', { id: 'goes', until: fixture.ledger.now() + 300 })
    const before = await register.read('certificates')
    expect(before.entries).toHaveLength(2)
    const after = await waitFor('the entry to pass', async () => {
      const now = await register.read('certificates')
      return now.entries.length === 1 ? now : undefined
    })
    expect(after.entries[0]?.id).toBe('stays')
    expect(after.version).toBeGreaterThan(before.version)
    expect(await register.read('certificates')).toEqual(after)
  })

  it('is named until its emptiness has been looked at again, and its version goes on from there', async () => {
    await register.add('certificates', { id: 'goes', until: fixture.ledger.now() + 300 })
    const { version: first } = await register.read('certificates')
    const { version: emptied } = await waitFor('the entry to pass', async () => {
      const now = await register.read('certificates')
      return now.entries.length === 0 ? now : undefined
    })
    expect(emptied).toBeGreaterThan(first)
    expect(await register.lists()).toEqual(['certificates'])
    expect((await register.read('certificates')).version).toBe(emptied)
    expect(await register.lists()).toEqual([])

    await register.add('certificates', { id: 'new', until: later })
    expect((await register.read('certificates')).version).toBeGreaterThan(emptied)
    expect(await register.lists()).toEqual(['certificates'])
  })

  it('has a version that goes on when the ledger was lost', async () => {
    await register.add('certificates', { id: 'a', until: later })
    const { version } = await register.read('certificates')
    const meta = await fixture.redis.client.hgetall('mf:meta')
    await fixture.redis.client.flushall()
    await fixture.redis.client.hset('mf:meta', meta)
    await waitFor('a later millisecond', async () => {
      const [seconds = '', micros = ''] = (await fixture.redis.client.time()).map(String)
      return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000) > version
    })
    await register.add('certificates', { id: 'b', until: later })
    expect((await register.read('certificates')).version).toBeGreaterThan(version)
  })

  it('may have any name and any entry, and none of them meets another', async () => {
    for (const list of ODD) await register.add(list, { id: `of ${list}`, until: later })
    for (const id of ODD) await register.add('odd entries', { id, until: later })
    for (const list of ODD) expect(await idsOf(list)).toEqual([`of ${list}`])
    expect((await idsOf('odd entries')).sort()).toEqual([...ODD].sort())
    expect((await register.lists()).sort()).toEqual([...ODD, 'odd entries'].sort())
    for (const key of await fixture.redis.client.keys('*register*')) expect(key).toMatch(/^mf:\{p\d\d\}:register:[\w-]{22}(:lists|:[\w-]{22})?$/)
  })

  it('is of one provider alone, whatever its name', async () => {
    const providers = [...ODD, 'aws-2', 'AWS']
    for (const name of providers) await fixture.ledger.register(name).add('certificates', { id: `of ${name}`, until: later })
    expect(await register.read('certificates')).toEqual({ version: 0, entries: [] })
    for (const name of providers) expect(await idsOf('certificates', fixture.ledger.register(name))).toEqual([`of ${name}`])
    const lock = await register.lock('certificates', 60_000)
    expect(lock).toBeDefined()
    expect(await fixture.ledger.register('aws-2').lock('certificates', 60_000)).toBeDefined()
  })

  it('outlives Redis, when Redis keeps what it acknowledged', async () => {
    const lasting = await startLedger({}, ['appendonly yes', 'appendfsync always'])
    try {
      await lasting.ledger.register('aws').add('certificates', { id: 'a', until: later })
      await lasting.redis.restart()
      const again = (await lasting.open()).register('aws')
      expect(await idsOf('certificates', again)).toEqual(['a'])
    } finally {
      await lasting.stop()
    }
  })

  it('takes entries, locks and is read in a Redis that is full', async () => {
    await register.add('certificates', { id: 'before', until: fixture.ledger.now() + 300 })
    await fixture.redis.client.config('SET', 'maxmemory', '1')
    await expect(fixture.redis.client.set('anything', 'else')).rejects.toThrow('OOM')
    await register.add('certificates', { id: 'after', until: later })
    await waitFor('what has passed to go', async () => (await idsOf('certificates')).join() === 'after')
    const lock = await register.lock('certificates', 60_000)
    expect(lock).toBeDefined()
    await lock?.release()
    expect(await register.lock('certificates', 60_000)).toBeDefined()
  })

  it('says so when the ledger is away', async () => {
    await fixture.redis.kill()
    await expect(register.add('certificates', { id: 'a', until: later })).rejects.toMatchObject({ code: 'ledger_unavailable' })
    await expect(register.read('certificates')).rejects.toMatchObject({ code: 'ledger_unavailable' })
    await expect(register.lists()).rejects.toMatchObject({ code: 'ledger_unavailable' })
    await expect(register.lock('certificates', 1_000)).rejects.toMatchObject({ code: 'ledger_unavailable' })
  })
})

describe('the lock', () => {
  it('is one broker’s among many, and the next one’s once it is given back, with a higher token', async () => {
    const brokers = await Promise.all(Array.from({ length: 4 }, async () => (await fixture.open()).register('aws')))
    let highest = 0
    for (let round = 0; round < 5; round++) {
      const locks = (await Promise.all(brokers.map((broker) => broker.lock('certificates', 60_000)))).filter((lock) => lock !== undefined)
      expect(locks).toHaveLength(1)
      expect(locks[0]?.token).toBeGreaterThan(highest)
      highest = locks[0]?.token ?? 0
      await locks[0]?.release()
    }
  })

  it('is of one list', async () => {
    expect(await register.lock('one', 60_000)).toBeDefined()
    expect(await register.lock('two', 60_000)).toBeDefined()
  })

  it('says how long it is surely held: less than asked for, less as time goes, nothing once given back', async () => {
    const asked = performance.now()
    const lock = await register.lock('certificates', 60_000)
    const left = lock?.left() ?? 0
    expect(left).toBeLessThanOrEqual(60_000 * 0.99)
    expect(left).toBeGreaterThan(60_000 * 0.99 - (performance.now() - asked) - 1)
    await waitFor('time to go', () => (lock?.left() ?? 0) < left)
    await lock?.release()
    expect(lock?.left()).toBe(0)
  })

  it('counts from before it was asked for: an answer that comes late finds less left', async () => {
    const { client, pid } = fixture.redis
    await client.ping()
    const server = pid()
    process.kill(server, 'SIGSTOP')
    const asking = register.lock('certificates', 60_000)
    const stoppedAt = performance.now()
    await waitFor('the answer to be late', () => performance.now() - stoppedAt > 300)
    process.kill(server, 'SIGCONT')
    expect((await asking)?.left()).toBeLessThan(60_000 * 0.99 - 299)
  })

  it('is another’s once it ran out; its holder knows before that, and gives back nothing that is not its own', async () => {
    const other = (await fixture.open()).register('aws')
    const first = await register.lock('certificates', 300)
    expect(await other.lock('certificates', 60_000)).toBeUndefined()
    const second = await waitFor('the lock to run out', () => other.lock('certificates', 60_000))
    expect(first?.left()).toBe(0)
    expect(second.token).toBeGreaterThan(first?.token ?? 0)
    await first?.release()
    expect(await register.lock('certificates', 60_000)).toBeUndefined()
    await second.release()
    expect((await register.lock('certificates', 60_000))?.token).toBeGreaterThan(second.token)
  })

  it('is given back twice without harm, and without a ledger', async () => {
    const first = await register.lock('certificates', 60_000)
    await first?.release()
    const second = await register.lock('certificates', 60_000)
    await first?.release()
    expect(await register.lock('certificates', 60_000)).toBeUndefined()
    await fixture.redis.kill()
    await second?.release()
    expect(second?.left()).toBe(0)
  })
})

it('providers test with a register of their own', async () => {
  const { register: own, stop } = await openRegister()
  await own.add('certificates', { id: 'a', until: Date.now() + HOUR })
  expect(await own.lists()).toEqual(['certificates'])
  await stop()
})
