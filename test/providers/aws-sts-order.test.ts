import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { patternOf } from '../../src/providers/aws-sts/document.js'
import { entryOf } from '../../src/providers/aws-sts/entries.js'
import { type RolePolicy, rewrite } from '../../src/providers/aws-sts/rewrite.js'
import type { Lock, Register, RegisterEntry } from '../../src/providers/provider.js'
import { evaluate, parsePolicy, type Statement } from './fake-aws-policy.js'
import { newLeaseId } from './harness.js'

/**
 * Whatever the order in which brokers write down, write, die, are paused and look, and whatever the ledger loses: a session whose withdrawal was
 * confirmed, and that has not ended by itself, is denied by the document that is live. One simulated clock; every call to the register or to
 * IAM is a place where another broker may go on.
 */
const TIMEOUT_MS = 5000
const RUNS = 200
const LIST = 'arn:aws:iam::111122223333:role/export'
/** Few enough for a handful of leases to close the role. */
const BUDGET = 320

interface Session {
  readonly lease: string
  readonly until: number
  issuedAt?: number
  isConfirmed: boolean
}

class World {
  now = Date.now()
  live: string | undefined
  #statements: Statement[] = []
  readonly sessions: Session[] = []
  /** What was added, in order: a replica has a beginning of it. */
  #added: RegisterEntry[] = []
  #version = 0
  #lockedUntil = 0
  #token = 0
  #isLost = false

  constructor(
    readonly step: () => Promise<void>,
    readonly pass: () => number,
  ) {}

  /** One place where others may go on, and time with them. */
  async #place(): Promise<void> {
    await this.step()
    this.now += this.pass()
    this.verify()
  }

  get register(): Register {
    return {
      add: async (_list, { id, until }) => {
        await this.#place()
        if (until > this.now) this.#added.push({ id, until })
        this.#version++
        await this.#place()
      },
      read: async () => {
        await this.#place()
        return { version: this.#version, entries: this.#left() }
      },
      lists: async () => [LIST],
      lock: async (_list, ms) => {
        await this.#place()
        if (this.now < this.#lockedUntil) return undefined
        const token = ++this.#token
        const endsAt = this.now + ms
        this.#lockedUntil = endsAt
        const release = async () => {
          if (token === this.#token) this.#lockedUntil = 0
        }
        return { token, left: () => Math.max(0, endsAt - this.now), release }
      },
    }
  }

  /** IAM answers within `ms`, or the request is dropped with its connection. */
  get policy(): RolePolicy {
    const change = async (text: string | undefined, ms: number, isOurs: () => boolean) => {
      await this.#place()
      if (!isOurs()) return 'late'
      const sentAt = this.now
      await this.#place()
      if (this.now - sentAt > ms) throw new Error('dropped')
      this.live = text
      this.#statements = text === undefined ? [] : parsePolicy(text)
      this.verify()
      await this.#place()
      if (this.now - sentAt > ms) throw new Error('its answer came too late')
      return 'written'
    }
    return {
      read: async (ms) => {
        const sentAt = this.now
        await this.#place()
        const answer = { at: this.now, text: this.live }
        if (this.now - sentAt > ms) throw new Error('too late')
        return answer
      },
      write: (text, ms, isOurs) => change(text, ms, isOurs),
      remove: (ms, isOurs) => change(undefined, ms, isOurs),
    }
  }

  /** Everything, or what came last: a failover to a replica that had not got it yet. Only between writes: see the page. */
  lose(isAll: boolean): void {
    if (this.now < this.#lockedUntil) return
    this.#added = isAll ? [] : this.#added.slice(0, -4)
    this.#isLost = true
  }

  denies({ lease, issuedAt = 0 }: Session): boolean {
    const context = { 'aws:principaltag/mayfly-lease': lease, 'aws:tokenissuetime': String(Math.floor(issuedAt / 1000)) }
    return evaluate(this.#statements, { action: 's3:GetObject', resource: '*', context }) === 'explicit deny'
  }

  verify(): void {
    for (const session of this.sessions)
      if (session.isConfirmed && this.now < session.until && !this.denies(session)) throw new Error(`${session.lease} is usable again`)
  }

  get isLost(): boolean {
    return this.#isLost
  }

  #left(): RegisterEntry[] {
    this.#added = this.#added.filter(({ until }) => until > this.now)
    const untils = new Map<string, number>()
    for (const { id, until } of this.#added) untils.set(id, Math.max(until, untils.get(id) ?? 0))
    return [...untils].map(([id, until]) => ({ id, until }))
  }
}

/** Who may go on is drawn, one at a time. */
class Turns {
  readonly #waiting: (() => void)[] = []

  step(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** False when nobody waits. */
  async next(draw: number): Promise<boolean> {
    const [one] = this.#waiting.splice(draw % Math.max(1, this.#waiting.length), 1)
    one?.()
    await new Promise((resolve) => setImmediate(resolve))
    return one !== undefined
  }
}

interface Broker {
  /** From here on it does nothing any more, in the middle of what it does. */
  isDead: boolean
}

/** What a broker does for one session, or for none; it tries a few times, as the ledger would make it. */
async function write(world: World, broker: Broker, session?: Session): Promise<void> {
  const dying = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work
    if (broker.isDead) return new Promise(() => undefined)
    return result
  }
  const { register, policy } = world
  const mortal: Register = {
    ...register,
    add: (list, entry) => dying(register.add(list, entry)),
    read: (list) => dying(register.read(list)),
    lock: (list, ms) => dying(register.lock(list, ms)),
  }
  const given = {
    list: LIST,
    register: mortal,
    policy: {
      read: (ms: number) => dying(policy.read(ms)),
      write: (text: string, ms: number, isOurs: () => boolean) => dying(policy.write(text, ms, isOurs)),
      remove: (ms: number, isOurs: () => boolean) => dying(policy.remove(ms, isOurs)),
    },
    budget: BUDGET,
    timeoutMs: TIMEOUT_MS,
    now: () => world.now,
    tell: () => undefined,
    owns: async () => undefined,
  }
  const asked = session && ({ kind: 'lease', pattern: patternOf(session.lease) ?? '', until: session.until + 10_000 } as const)
  for (let attempt = 0; attempt < 12; attempt++) {
    if (asked) await mortal.add(LIST, entryOf(asked))
    const lock: Lock | undefined = await mortal.lock(LIST, 2 * TIMEOUT_MS)
    if (lock === undefined) continue
    const outcome = await rewrite(given, asked ? [asked] : [], lock).catch(() => 'overtaken' as const)
    if (outcome === 'current') {
      // Only the last withdrawal, after the session was issued, is one: see the contract's revoke during the mint.
      if (session?.issuedAt !== undefined && world.now < session.until) session.isConfirmed = true
      world.verify()
    }
    await lock.release()
    if (outcome === 'current') return
  }
}

type Act =
  | { kind: 'revoke'; lives: number }
  | { kind: 'early'; lives: number }
  | { kind: 'look' }
  | { kind: 'die' }
  | { kind: 'lose'; isAll: boolean }
const lives = fc.integer({ min: 5_000, max: 200_000 })
const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('revoke' as const), lives }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('early' as const), lives }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'look' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'die' } as const) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), isAll: fc.boolean() }) },
)
const draws = fc.infiniteStream(fc.nat({ max: 1000 }))
/** Mostly little, at times longer than a lock lasts. */
const passing = fc.infiniteStream(
  fc.oneof({ weight: 30, arbitrary: fc.integer({ min: 1, max: 60 }) }, { weight: 1, arbitrary: fc.integer({ min: 3000, max: 12_000 }) }),
)

describe('the order in which revocations are written down, written and cleared away', () => {
  it('never leaves a session usable whose withdrawal was confirmed', async () => {
    let [runs, confirmed, closings, losses] = [0, 0, 0, 0]
    await fc.assert(
      fc.asyncProperty(draws, passing, fc.array(act, { minLength: 5, maxLength: 40 }), async (drawn, passed, acts) => {
        const turns = new Turns()
        const draw = () => drawn.next().value ?? 0
        const world = new World(
          () => turns.step(),
          () => passed.next().value ?? 1,
        )
        let broker: Broker = { isDead: false }
        const failures: unknown[] = []
        const run = (work: Promise<void>) => void work.catch((error: unknown) => failures.push(error))
        const session = (life: number): Session => {
          const made = { lease: newLeaseId(), until: world.now + life, isConfirmed: false }
          world.sessions.push(made)
          return made
        }
        for (const one of acts) {
          if (one.kind === 'look') run(write(world, broker))
          if (one.kind === 'lose') world.lose(one.isAll)
          if (one.kind === 'die') {
            broker.isDead = true
            broker = { isDead: false }
          }
          if (one.kind === 'revoke') {
            const made = session(one.lives)
            made.issuedAt = world.now
            run(write(world, broker, made))
          }
          if (one.kind === 'early') {
            const made = session(one.lives)
            const at = broker
            // Withdrawn before and again after it was made.
            run(
              write(world, at, made).then(async () => {
                made.issuedAt = world.now
                await write(world, at, made)
              }),
            )
          }
          for (let left = draw() % 12; left > 0; left--) await turns.next(draw())
        }
        while (await turns.next(draw()));
        world.verify()
        expect(failures).toEqual([])
        runs++
        confirmed += world.sessions.filter(({ isConfirmed }) => isConfirmed).length
        closings += world.live?.includes('IssuedBefore') ? 1 : 0
        losses += world.isLost ? 1 : 0
      }),
      { numRuns: RUNS, endOnFailure: true },
    )
    // It was tried with what it is about.
    expect(runs).toBe(RUNS)
    expect(confirmed).toBeGreaterThan(RUNS)
    expect(closings).toBeGreaterThan(5)
    expect(losses).toBeGreaterThan(5)
  })
})
