import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Credential, Provider, Register } from '../../src/providers/provider.js'
import { BUCKET, openBroker, POLICY_NAME, put, ROLE, sessionOf, startAws } from './aws-upstream.js'
import type { FakeAws } from './fake-aws.js'
import { plan, requestOf } from './harness.js'
import { openRegister } from './register.js'

const HOUR = 3_600_000
const PARAMS = awsSts.params.parse({ role_arn: ROLE })
const FOREIGN = (length: number) => {
  const text = (action: string) => JSON.stringify({ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: `sqs:${action}`, Resource: '*' } })
  return text('a'.repeat(length - text('').length))
}

describe('more revocations of one AWS role than its policy holds', () => {
  let aws: FakeAws
  let provider: Provider
  let told: [string, object][]
  let register: Register
  let stop: () => Promise<void>
  const open = async (options: object = {}) => {
    const opened = await openRegister()
    register = opened.register
    const tell = (what: string, detail: object) => void told.push([what, detail])
    provider = await openBroker(aws, opened.register, { tell }, options)
    stop = async () => {
      await provider.close()
      await opened.stop()
    }
  }
  const mint = async () => {
    const request = requestOf(provider, plan(), PARAMS, 20_000, HOUR)
    const { credential } = await provider.mint(request)
    return { credential, revoke: () => provider.revoke(request.handle, 20_000, { taskEnded: false, usableUntil: request.expiresAt }) }
  }
  const usable = ({ credential }: { credential: Credential }) => aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/a`)
  const document = () => aws.inline(ROLE).get(POLICY_NAME) ?? ''
  const conditions = () => JSON.parse(document()).Statement.map(({ Condition }: { Condition: object }) => Object.keys(Condition)[0])
  beforeEach(async () => {
    told = []
    aws = await startAws()
  })
  afterEach(async () => {
    await stop()
    await aws.stop()
  })

  it('closes the role to all sessions issued so far, says so, and mints younger ones at once', async () => {
    await open()
    const held = await Promise.all(Array.from({ length: 600 }, mint))
    const live = await mint()
    expect([...held, live].every(usable)).toBe(true)
    await Promise.all(held.map(({ revoke }) => revoke()))
    expect(held.filter(usable)).toEqual([])
    expect(usable(live)).toBe(false)
    expect(conditions()).toContain('DateLessThan')
    expect(document().length).toBeLessThanOrEqual(10_240)
    expect(told).toContainEqual(['aws_role_closed', { aws_role: ROLE, issued_before: expect.any(String) }])

    const [next, other] = await Promise.all([mint(), mint()])
    expect([next, other].every(usable)).toBe(true)
    await next.revoke()
    expect(usable(next)).toBe(false)
    expect(usable(other)).toBe(true)
  })

  it('lists a session that is withdrawn once more because it was issued after the closing', async () => {
    await open({ policy_budget: 1000 })
    const early = requestOf(provider, plan(), PARAMS, 20_000, HOUR)
    const about = { taskEnded: false, usableUntil: early.expiresAt }
    await provider.revoke(early.handle, 20_000, about)
    const others = await Promise.all(Array.from({ length: 45 }, mint))
    await Promise.all(others.map(({ revoke }) => revoke()))
    expect(conditions()).toContain('DateLessThan')
    const { credential } = await provider.mint(early)
    await provider.revoke(early.handle, 20_000, about)
    expect(usable({ credential })).toBe(false)
    expect(others.filter(usable)).toEqual([])
  })

  it('lists nobody who was minted well before the closing: it covers them, so that closing all leases of the role does not fill it again', async () => {
    await open({ policy_budget: 1000 })
    const held = await Promise.all(Array.from({ length: 45 }, mint))
    await Promise.all(held.map(({ revoke }) => revoke()))
    const closings = told.length
    expect(closings).toBeGreaterThan(0)
    const old = { taskEnded: false, usableUntil: Date.now() + HOUR, mintedBy: Date.now() - HOUR }
    const planned = Array.from({ length: 60 }, () => requestOf(provider, plan(), PARAMS, 20_000, HOUR).handle)
    for (const outcome of await Promise.all(planned.map((handle) => provider.revoke(handle, 20_000, old)))) expect(outcome).toBe('revoked')
    expect(told).toHaveLength(closings)
    expect(document().length).toBeLessThan(1000)
  })

  it('closes the role where the inline policies of others leave less room than expected', async () => {
    await open()
    await put(aws, FOREIGN(9700), 'theirs')
    const held = await Promise.all(Array.from({ length: 40 }, mint))
    await Promise.all(held.map(({ revoke }) => revoke()))
    expect(held.filter(usable)).toEqual([])
    expect(conditions()).toContain('DateLessThan')
    expect(told.map(([what]) => what)).toContain('aws_role_closed')
  })

  it('says how to mend it where they leave none, and the check has said so before', async () => {
    await open()
    await put(aws, FOREIGN(10_200), 'theirs')
    const lease = await mint()
    await expect(lease.revoke()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('no room') })
    await expect(provider.check([{ name: 'a-role', params: PARAMS }])).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('leave'),
    })
    await put(aws, FOREIGN(5000), 'theirs')
    await provider.check([{ name: 'a-role', params: PARAMS }])
    expect(await lease.revoke()).toBe('revoked')
    expect(usable(lease)).toBe(false)
  })

  it('refuses a mint that cannot wait for the end of the second of the closing', async () => {
    await open()
    const second = Math.floor(Date.now() / 1000) + 30
    await register.add(ROLE, { id: `before:${second}`, until: Date.now() + HOUR })
    const request = requestOf(provider, plan(), PARAMS, 20_000, HOUR)
    await expect(provider.mint({ ...request, deadlineMs: 700 })).rejects.toMatchObject({
      kind: 'throttled',
      message: expect.stringContaining('come again'),
    })
  })
})
