import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { patternOf } from '../../src/providers/aws-sts/document.js'
import { type Iam, openIam } from '../../src/providers/aws-sts/iam.js'
import { openRevocations, type Revocations, type RevocationsOptions } from '../../src/providers/aws-sts/revocations.js'
import type { Register } from '../../src/providers/provider.js'
import { waitFor } from '../support/wait.js'
import { POLICY_NAME, put, ROLE, startAws } from './aws-upstream.js'
import type { FakeAws } from './fake-aws.js'
import { newLeaseId } from './harness.js'
import { openRegister } from './register.js'

const HOUR = 3_600_000
const LOOK_MS = 100
const TIMEOUT_MS = 3000

describe('looking after the policies of revocations', () => {
  let aws: FakeAws
  let iam: Iam
  let register: Register
  const closing: (() => Promise<unknown>)[] = []
  const open = (more: Partial<RevocationsOptions> = {}): Revocations => {
    const told = { tell: () => undefined, owns: async () => undefined }
    return openRevocations({ iam, register, budget: 10_240, timeoutMs: TIMEOUT_MS, now: Date.now, lookMs: LOOK_MS, ...told, ...more })
  }
  const opened = (more?: Partial<RevocationsOptions>) => {
    const revocations = open(more)
    closing.unshift(() => revocations.close())
    return revocations
  }
  const asked = (until = Date.now() + HOUR) => ({ kind: 'lease', pattern: patternOf(newLeaseId()) ?? '', until }) as const
  const add = (revocations: Revocations, one: ReturnType<typeof asked>) => revocations.add(ROLE, one, AbortSignal.timeout(20_000))
  const live = () => aws.inline(ROLE).get(POLICY_NAME)
  const calls = () => aws.calls.length
  beforeEach(async () => {
    const kept = await openRegister()
    register = kept.register
    aws = await startAws()
    iam = await openIam({ region: 'eu-central-1', endpoint: aws.endpoint }, TIMEOUT_MS, POLICY_NAME)
    closing.push(async () => iam.close(), aws.stop, kept.stop)
  })
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })

  it.each<[string, (register: Register) => Partial<Register>]>([
    ['after its entry', () => ({ lock: () => new Promise(() => undefined) })],
    ['with the right to write', (real) => ({ lock: (list) => real.lock(list, TIMEOUT_MS).then(() => new Promise(() => undefined)) })],
  ])('writes what a broker wrote down that died %s', async (_what, dying) => {
    const one = asked()
    void add(open({ register: { ...register, ...dying(register) }, lookMs: HOUR }), one).catch(() => undefined)
    await waitFor('the entry to be durable', async () => (await register.read(ROLE)).entries.length > 0)
    expect(live()).toBeUndefined()
    opened()
    await waitFor('another to write it', () => live()?.includes(one.pattern), 20_000)
  })

  it('takes out what has passed, and in the end the policy', async () => {
    const [brief, long] = [asked(Date.now() - 7000), asked(Date.now() - 4500)]
    // Ten seconds past the end of a session AWS's own clock has ended it for certain.
    await Promise.all([brief, long].map((one) => register.add(ROLE, { id: `lease:${one.pattern}`, until: one.until + 10_000 })))
    opened()
    await waitFor('both to be written', () => live()?.includes(brief.pattern) && live()?.includes(long.pattern))
    await waitFor('the first to go', () => live() !== undefined && !live()?.includes(brief.pattern))
    expect(live()).toContain(long.pattern)
    await waitFor('the policy to go', () => live() === undefined)
    const before = calls()
    const { lists } = register
    let looks = 0
    const counted = async () => {
      looks++
      return lists()
    }
    register = { ...register, lists: counted }
    opened()
    await waitFor('several more looks', () => looks > 5)
    // The new one looks once; nobody asks IAM again about a policy that is known to be gone.
    expect(calls() - before).toBeLessThanOrEqual(2)
  })

  it('puts right what somebody else wrote over it or took away', async () => {
    const revocations = opened()
    const [first, second] = [asked(), asked()]
    await add(revocations, first)
    const stale = live() ?? ''
    await add(revocations, second)
    await put(aws, stale)
    await waitFor('the second to be there again', () => live()?.includes(second.pattern))
    await put(aws, '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}')
    await waitFor('both to be there again', () => live()?.includes(second.pattern) && live()?.includes(first.pattern))
    expect(live()).not.toContain('Allow')
  })

  it('writes once more where the right to write ended before IAM had answered', async () => {
    let locks = 0
    const lapsing: Register = {
      ...register,
      lock: async (list, ms) => {
        const lock = await register.lock(list, ms)
        // As for a process that was paused: no right is left once the answer is there.
        return locks++ > 0 || lock === undefined ? lock : { ...lock, left: () => (live() === undefined ? lock.left() : 0) }
      },
    }
    const one = asked()
    expect(await add(opened({ register: lapsing }), one)).toBe('revoked')
    expect(locks).toBeGreaterThan(1)
    expect(live()).toContain(one.pattern)
  })

  it('sends nothing once the right to write has ended', async () => {
    let isPaused = false
    const paused: Register = {
      ...register,
      lock: async (list, ms) => {
        const lock = await register.lock(list, ms)
        return lock && { ...lock, left: () => (isPaused ? 0 : lock.left()) }
      },
    }
    aws.before = ({ action }) => {
      if (action === 'GetRolePolicy') isPaused = true
    }
    await expect(add(opened({ register: paused, lookMs: HOUR }), asked())).rejects.toMatchObject({ kind: 'timeout' })
    expect(aws.calls.map(({ action }) => action)).not.toContain('PutRolePolicy')
  })

  it('does not write for a role of another account', async () => {
    const refusing = opened({ owns: () => Promise.reject(new Error('another account')) })
    await expect(add(refusing, asked())).rejects.toThrow('another account')
    expect(calls()).toBe(0)
  })

  it('reads a lagging IAM as what it is: nothing is lost by it', async () => {
    aws.delays.readLagMs = 1500
    const revocations = opened()
    const ones = Array.from({ length: 4 }, () => asked())
    for (const one of ones) await add(revocations, one)
    for (const { pattern } of ones) expect(live()).toContain(pattern)
  })
})
