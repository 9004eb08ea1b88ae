import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { doctor } from '../../src/doctor/index.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { writing } from './approval-support.js'

/** Operators whose ids and subjects say nothing of who they are: their tokens show it. */
const OPERATORS = [
  '  - {id: "sso/{sub}", match: {issuer: test, sub: "emp-*"}, groups: [sre-oncall], person: "{email}"}',
  '  - {id: "adm/{sub}", match: {issuer: test, sub: "adm-*"}, groups: [sre-oncall, security], person: ["{upn}", "{email}"]}',
  '  - {id: "bare/{sub}", match: {issuer: test, sub: "bare-*"}, groups: [sre-oncall]}',
  '  - {id: glass, match: {issuer: glass, sub: anybody}, groups: [sre-oncall, security]}',
]

let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let agent: string
beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    ...writing,
    redisSocket: redis.socketPath,
    operators: `${writing.operators}\n${OPERATORS.join('\n')}`,
    issuers: '  glass: {jwks: env:JWKS, issuer: "https://glass.test", audience: mayfly, break_glass: true}',
    agents: '  - {id: kims, match: {issuer: test, sub: kims}, owner: sso/kim@example.com, autonomy: supervised, team: platform}\n',
  })
  call = checking(test.call)
  agent = await test.token('triage')
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const ask = async (role: string, more: object = {}, token = agent): Promise<string> => {
  const task = await test.openTask({ envelope: [{ role }], ...more })
  const { status, body } = await call('POST', '/v1/leases', token, { task, role })
  expect(status).toBe(202)
  return body.approval.id
}
const approve = async (id: string, sub: string, claims: Record<string, string> = {}) =>
  (await call('POST', `/v1/approvals/${id}/approve`, await test.token(sub, claims), {})).body

describe('nobody agrees to what is their own, whatever their account is called', () => {
  it.each([
    ["the agent's owner", { email: 'sre@example.com' }],
    ['in another case', { email: 'SRE@Example.COM' }],
    ['in characters that only look different', { email: 'ｓｒｅ@example.com' }],
  ])('not %s', async (_what, claims) => {
    const id = await ask('api-one')
    expect(await approve(id, 'emp-1', claims)).toMatchObject({ status: 403, code: 'denied', next: 'have somebody else decide' })
    expect(await approve(id, 'emp-1', { email: 'somebody@example.com' })).toMatchObject({ approval: { state: 'granted' } })
  })

  it('not the human that it acts for', async () => {
    const id = await ask('api-token', { human: 'Straße@example.com', intent: 'not-in-the-catalogue' })
    for (const email of ['straße@example.com', 'STRASSE@example.com']) expect((await approve(id, 'emp-2', { email })).code).toBe('denied')
    expect(await approve(id, 'emp-2', { email: 'strass@example.com' })).toMatchObject({ approval: { state: 'granted' } })
  })

  it('not an owner who is called by a longer name', async () => {
    const kims = await ask('api-one', { assignees: [{ agent: 'kims' }] }, await test.token('kims'))
    expect((await approve(kims, 'emp-2', { email: 'kim@example.com' })).code).toBe('denied')
    expect((await approve(kims, 'adm-2', { upn: 'k.smith', email: 'Kim@Example.com' })).code).toBe('denied')
    expect(await approve(kims, 'adm-2', { upn: 'l.smith', email: 'lee@example.com' })).toMatchObject({ approval: { state: 'granted' } })
  })

  it('and whose token does not show who they are decides nothing', async () => {
    const id = await ask('api-one')
    expect(await approve(id, 'emp-3')).toMatchObject({ status: 401, code: 'token_invalid' })
    expect(await approve(id, 'adm-3', { email: 'kim@example.com' })).toMatchObject({ status: 401 })
    expect((await call('GET', `/v1/approvals/${id}`, agent)).body.approval.state).toBe('open')
  })
})

describe('nobody agrees with a break-glass key, which does not show who uses it', () => {
  it('but it may say no', async () => {
    const glass = () => test.token('anybody', { iss: 'https://glass.test' })
    const decide = async (id: string, verb: 'approve' | 'deny') => (await call('POST', `/v1/approvals/${id}/${verb}`, await glass(), {})).body
    const id = await ask('api-both')
    const detail = 'only a person can agree to this, and a break-glass key does not show who uses it'
    expect(await decide(id, 'approve')).toMatchObject({ status: 403, code: 'denied', detail, next: 'agree with an account of your own' })
    expect((await call('GET', `/v1/approvals/${id}`, agent)).body.approval).toMatchObject({ state: 'open', needs: [{ given: 0 }, { given: 0 }] })
    expect(await decide(id, 'deny')).toMatchObject({ approval: { state: 'denied' } })
  })
})

describe('nobody agrees twice', () => {
  it('under two accounts: who is asked for two people is answered by two', async () => {
    const id = await ask('api-both')
    expect(await approve(id, 'emp-4', { email: 'kim@example.com' })).toMatchObject({ approval: { state: 'open' } })
    const again = await approve(id, 'adm-4', { upn: 'k.smith', email: 'KIM@example.com' })
    expect(again).toMatchObject({ status: 409, code: 'conflict', next: 'another operator has to agree too' })
    expect(await approve(id, 'adm-5', { upn: 'l.smith', email: 'lee@example.com' })).toMatchObject({ approval: { state: 'granted' } })
  })

  it('nor at the same time', async () => {
    const id = await ask('api-both')
    const both = await Promise.all([
      approve(id, 'emp-6', { email: 'kim@example.com' }),
      approve(id, 'adm-6', { upn: 'k.smith', email: 'kim@example.com' }),
      approve(id, 'emp-7', { email: 'Kim@example.com' }),
    ])
    expect(both.filter(({ code }) => code === 'conflict')).toHaveLength(2)
    expect((await call('GET', `/v1/approvals/${id}`, agent)).body.approval.state).toBe('open')
  })
})

it('whoami tells whom the broker takes an operator for, and mayfly doctor which rule does not say', async () => {
  const { body } = await call('GET', '/v1/whoami', await test.token('adm-8', { upn: 'k.smith', email: 'kim@example.com' }))
  expect(body.principal).toMatchObject({ id: 'adm/adm-8', persons: ['k.smith', 'kim@example.com'] })
  const found = (await doctor(test.configPath, test.env)).filter(({ what }) => what.includes('person'))
  expect(found.map(({ level, what }) => [level, what.split(':')[0]])).toEqual([
    ['warn', 'operators[2]'],
    ['warn', 'operators[7]'],
  ])
})
