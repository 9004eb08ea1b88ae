import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Credential, Provider, Register, RevokeAbout } from '../../src/providers/provider.js'
import type { Handle } from '../../src/types.js'
import { type Fixture, startLedger } from '../ledger/fixture.js'
import { BUCKET, openBroker, POLICY_NAME, put, ROLE, sessionOf, startAws } from './aws-upstream.js'
import type { FakeAws } from './fake-aws.js'
import { Refusal } from './fake-aws-model.js'
import { plan, requestOf } from './harness.js'

const HOUR = 3_600_000
const PARAMS = awsSts.params.parse({ role_arn: ROLE })
interface Held {
  readonly credential: Credential
  readonly handle: Handle
  readonly about: RevokeAbout
}

describe('brokers that share a ledger', () => {
  let aws: FakeAws
  let ledger: Fixture
  let told: string[]
  const opened: Provider[] = []
  const broker = async (options: object = {}) => {
    const register = (await ledger.open()).register('under-test')
    const provider = await openBroker(aws, register, { tell: (what) => void told.push(what) }, options)
    opened.push(provider)
    return provider
  }
  const mint = async (provider: Provider, change: object = {}): Promise<Held> => {
    const request = requestOf(provider, plan(change), PARAMS, 20_000, HOUR)
    const { credential } = await provider.mint(request)
    return { credential, handle: request.handle, about: { taskEnded: false, usableUntil: request.expiresAt } }
  }
  const usable = ({ credential }: Held) => aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/a`)
  const revoke = (provider: Provider, { handle, about }: Held, ms = 20_000) => provider.revoke(handle, ms, about)
  const count = (action: string) => aws.calls.filter((call) => call.action === action).length
  const policyOf = () => aws.inline(ROLE).get(POLICY_NAME)
  const lost = async () => {
    const { client } = ledger.redis
    await client.del(await client.keys('*:register:*'))
  }
  beforeEach(async () => {
    told = []
    ;[aws, ledger] = await Promise.all([startAws(), startLedger()])
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((provider) => provider.close()))
    await Promise.all([aws.stop(), ledger.stop()])
  })

  it('deny 200 sessions that are revoked at once, with few writes to a slow IAM', async () => {
    const [one, other] = [await broker(), await broker()]
    const held = await Promise.all(Array.from({ length: 200 }, (_, index) => mint(index % 2 ? one : other)))
    const alive = await mint(one)
    expect(held.every(usable)).toBe(true)
    aws.before = async ({ action }) => {
      if (action === 'PutRolePolicy') await new Promise((resolve) => setTimeout(resolve, 300))
    }
    const outcomes = await Promise.all(held.map((lease, index) => revoke(index % 3 ? one : other, lease)))
    expect(new Set(outcomes)).toEqual(new Set(['revoked']))
    expect(held.filter(usable)).toEqual([])
    expect(usable(alive)).toBe(true)
    expect(count('PutRolePolicy')).toBeLessThan(12)
  })

  it('take one entry for a task that is over', async () => {
    const provider = await broker()
    const task = `task_17${'c'.repeat(26)}`
    const held = await Promise.all([1, 2, 3].map(() => mint(provider, { task })))
    const other = await mint(provider)
    await Promise.all(held.map((lease) => revoke(provider, { ...lease, about: { ...lease.about, taskEnded: true } })))
    expect(held.filter(usable)).toEqual([])
    expect(usable(other)).toBe(true)
    expect(JSON.parse(policyOf() ?? '').Statement).toEqual([
      expect.objectContaining({ Condition: { StringLike: { 'aws:SourceIdentity': [`*${'c'.repeat(16)}`] } } }),
    ])
  })

  it('ask nothing of IAM for a lease that its own policy has ended', async () => {
    const provider = await broker()
    const lease = await mint(provider)
    expect(await revoke(provider, { ...lease, about: { taskEnded: false, usableUntil: Date.now() - 1000 } })).toBe('absent')
    expect(aws.calls.map(({ action }) => action)).not.toContain('GetRolePolicy')
  })

  it('write again what a write undid that came late', async () => {
    const [one, other] = [await broker(), await broker()]
    const [first, second] = [await mint(one), await mint(other)]
    // As by a network that keeps a request past its sender's timeout: IAM has no way to refuse it.
    await revoke(one, first)
    const stale = policyOf() ?? ''
    await revoke(other, second)
    expect([first, second].some(usable)).toBe(false)
    await put(aws, stale)
    expect([first, second].filter(usable)).toEqual([second])
    await revoke(one, first)
    expect([first, second].some(usable)).toBe(false)
  })

  it('keep what is live when the ledger has lost its lists', async () => {
    const [one, other] = [await broker(), await broker()]
    const held = await Promise.all(Array.from({ length: 5 }, () => mint(one)))
    const task = `task_17${'d'.repeat(26)}`
    const ofTask = await mint(one, { task })
    await Promise.all(held.slice(0, 4).map((lease) => revoke(one, lease)))
    await revoke(one, { ...ofTask, about: { ...ofTask.about, taskEnded: true } })
    await lost()
    for (const lease of held.slice(4)) await revoke(other, lease)
    expect([...held, ofTask].filter(usable)).toEqual([])
    expect(told).toContain('aws_revocations_recovered')
    // And knows it from then on.
    told = []
    const next = await mint(one)
    await revoke(one, next)
    expect([...held, ofTask, next].filter(usable)).toEqual([])
    expect(told).toEqual([])
  })

  it('leave the inline policies of others as they are', async () => {
    const foreign = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:*","Resource":"*"}}'
    await put(aws, foreign, 'theirs')
    await put(aws, foreign, 'mayfly-revocations.contract.another')
    const provider = await broker()
    await revoke(provider, await mint(provider))
    expect(aws.inline(ROLE).get('theirs')).toBe(foreign)
    expect(aws.inline(ROLE).get('mayfly-revocations.contract.another')).toBe(foreign)
    expect(aws.inline(ROLE).size).toBe(3)
  })

  it('give IAM more time each time that it throttles', async () => {
    const provider = await broker()
    const lease = await mint(provider)
    const at: number[] = []
    aws.before = ({ action }) => {
      if (action !== 'PutRolePolicy') return
      at.push(performance.now())
      if (at.length < 4) throw new Refusal('Throttling', 'Rate exceeded', 400)
    }
    for (let attempt = 0; attempt < 3; attempt++) await expect(revoke(provider, lease)).rejects.toMatchObject({ kind: 'throttled' })
    expect(await revoke(provider, lease)).toBe('revoked')
    const [first = 0, second = 0, third = 0, fourth = 0] = at
    expect(second - first).toBeGreaterThan(400)
    expect(third - second).toBeGreaterThan(900)
    expect(fourth - third).toBeGreaterThan(1900)
  })

  it('do not take an entry that a failover lost for one that has passed', async () => {
    const real = ledger.ledger.register('under-test')
    const losing: Register = {
      ...real,
      add: async (list, entry) => {
        await real.add(list, entry)
        if (entry.id.startsWith('lease:')) await lost()
      },
    }
    const provider = await openBroker(aws, losing)
    opened.push(provider)
    const lease = await mint(provider)
    expect(await revoke(provider, lease)).toBe('revoked')
    expect(usable(lease)).toBe(false)
  })

  it('tell throttling, a role that is gone, and a write that IAM does not allow, apart', async () => {
    const provider = await broker()
    const [one, two] = [await mint(provider), await mint(provider)]
    aws.before = refusing('Throttling')
    await expect(revoke(provider, one)).rejects.toMatchObject({ kind: 'throttled' })
    aws.before = refusing('AccessDenied')
    await expect(revoke(provider, one)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('docs/providers/aws-sts.md') })
    expect(told).toEqual(['aws_revocations_unwritten'])
    aws.before = () => undefined
    expect(usable(one)).toBe(true)
    expect(await revoke(provider, one)).toBe('revoked')
    aws.deleteRole(ROLE)
    expect(await revoke(provider, two)).toBe('absent')
  })
})

function refusing(code: string): FakeAws['before'] {
  return ({ action }) => {
    if (action === 'PutRolePolicy') throw new Refusal(code, 'as asked for', 400)
  }
}
