import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from '@jest/globals'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Provider } from '../../src/providers/provider.js'
import { BUCKET, openBroker, POLICY_NAME, put, ROLE, sessionOf, startAws } from './aws-upstream.js'
import type { FakeAws } from './fake-aws.js'
import { plan, requestOf } from './harness.js'
import { openRegister } from './register.js'

interface Written {
  readonly Statement: { readonly Sid?: string; readonly Condition?: object; readonly Principal?: object }[]
}
const page = readFileSync(new URL('../../docs/providers/aws-sts.md', import.meta.url), 'utf8')
const policies = [...page.matchAll(/^```json\n([\s\S]*?)^```$/gm)].map(([, text = '']): Written => JSON.parse(text))
const policyWith = (sid: string): Written => policies.find(({ Statement }) => Statement.some(({ Sid }) => Sid === sid)) ?? { Statement: [] }
const BROKER = policyWith('WriteRevocations')
const BOUNDARY = { arn: 'arn:aws:iam::111122223333:policy/mayfly-boundary', policy: JSON.stringify(policyWith('TheMostAnyOfThemMayDo')) }
const EVERYTHING = JSON.stringify({ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: '*', Resource: '*' } })
const PARAMS = awsSts.params.parse({ role_arn: ROLE })

describe("the policies on the provider's page", () => {
  let aws: FakeAws
  let provider: Provider
  const closing: (() => Promise<unknown>)[] = []
  const start = async (broker: Written, boundary: typeof BOUNDARY | 'none' = BOUNDARY, options: object = {}) => {
    const { register, stop } = await openRegister()
    const role = { policy: EVERYTHING, ...(boundary === 'none' ? {} : { boundary }) }
    aws = await startAws(undefined, { brokerPolicy: JSON.stringify(broker), roles: { [ROLE]: role } })
    provider = await openBroker(aws, register, {}, options)
    closing.push(() => provider.close(), aws.stop, stop)
  }
  const mint = async () => {
    const request = requestOf(provider, plan(), PARAMS, 5000)
    return { ...(await provider.mint(request)), request }
  }
  const check = () => provider.check([{ name: 'a-role', params: PARAMS }])
  const without = (sid: string): Written => ({ ...BROKER, Statement: BROKER.Statement.filter((one) => one.Sid !== sid) })
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })

  it('are enough to mint, to check and to revoke early', async () => {
    await start(BROKER)
    await check()
    const { credential, request } = await mint()
    expect(aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/a`)).toBe(true)
    await provider.revoke(request.handle, 5000, { taskEnded: false, usableUntil: request.expiresAt })
    expect(aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/a`)).toBe(false)
  })

  it('leave a role within its boundary whatever is written into its policies', async () => {
    await start(BROKER)
    await put(aws, EVERYTHING, 'by-somebody-with-the-credentials-of-the-broker')
    const { credential } = await mint()
    for (const action of ['ec2:RunInstances', 'iam:CreateUser', 's3:DeleteObject'])
      expect(aws.authorize(sessionOf(credential), action, `${BUCKET}/a`)).toBe(false)
  })

  it('do not let the broker write to a role that has no boundary, and the check says so', async () => {
    await start(BROKER, 'none')
    await expect(check()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('docs/providers/aws-sts.md') })
    await expect(put(aws, EVERYTHING)).rejects.toThrow('not authorized')
    expect(aws.inline(ROLE).size).toBe(0)
  })

  it.each(['ReadRevocations', 'WriteRevocations'])('need all they say: without %s the check tells it', async (sid) => {
    await start(without(sid))
    await expect(check()).rejects.toMatchObject({ kind: 'refused' })
    const { request } = await mint()
    await expect(provider.revoke(request.handle, 5000)).rejects.toMatchObject({ kind: 'refused' })
  })

  it('are less where nothing is revoked early', async () => {
    const plain = policies.find(({ Statement }) => Statement.every(({ Sid, Principal }) => Sid === undefined && Principal === undefined))
    await start(plain ?? { Statement: [] }, 'none', { early_revocation: false })
    await check()
    await mint()
    expect(aws.calls.map(({ action }) => action)).toEqual(['GetCallerIdentity', 'AssumeRole'])
  })

  it('leave nothing behind by a check', async () => {
    await start(BROKER)
    await check()
    expect(aws.inline(ROLE).size).toBe(0)
    await put(aws, EVERYTHING)
    await check()
    expect([...aws.inline(ROLE).keys()]).toEqual([POLICY_NAME])
  })

  it('say what the provider says of itself', async () => {
    await start(BROKER)
    expect(page).toContain(`**Residual: ${provider.residualSeconds} s.**`)
    expect(provider.revocation).toBe('deny-policy')
    const plain = await openBroker(aws, undefined, {}, { early_revocation: false })
    expect({ revocation: plain.revocation, residual: plain.residualSeconds }).toEqual({ revocation: 'at-expiry', residual: 5 })
    await plain.close()
  })
})
