import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'

let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    partitions: 4,
    policy: readFileSync(join(import.meta.dirname, '../../config/policies/optional/thaw-by-two.cedar'), 'utf8'),
    issuers: '  glass: {jwks: env:JWKS, issuer: "https://glass.test", audience: mayfly, break_glass: true}',
    operators: `  - {id: "sso/{sub}", match: {issuer: test, sub: "op-*"}, groups: [sre-oncall], person: "{email}"}
  - {id: "old/{sub}", match: {issuer: test, sub: "old-*"}, groups: [sre-oncall], person: "{email}"}
  - {id: "sec/{sub}", match: {issuer: test, sub: "sec-*"}, groups: [security]}
  - {id: glass, match: {issuer: glass, sub: anybody}, groups: [sre-oncall]}`,
  })
  call = checking(test.call)
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})
const ann = () => test.token('op-ann', { email: 'ann@example.com' })
const bob = () => test.token('op-bob', { email: 'bob@example.com' })
async function frozen(): Promise<string> {
  const { status, body } = await call('POST', '/v1/freezes', await ann(), { selector: { agent: 'triage' }, reason: 'looking' })
  expect(status).toBe(201)
  return body.freeze.id
}
const thaw = (id: string, token: string, reason = 'over') => call('POST', `/v1/freezes/${id}/thaw`, token, { reason })
const isFrozen = async (id: string) => (await call('GET', '/v1/freezes', await ann())).body.freezes.some((one: { id: string }) => one.id === id)
const told = async (id: string, type: string) => (await eventsOf(test, redis.client)).filter((one) => one.type === type && one.detail.freeze === id)

describe('a thaw that policy wants two operators for', () => {
  it('takes one to freeze, is noted for the first, done for the second, and told with both', async () => {
    const id = await frozen()
    const first = await thaw(id, await ann(), 'found nothing')
    expect(first).toMatchObject({
      status: 202,
      body: {
        freeze: { id },
        asked: { needs: [{ group: 'sre-oncall', approvals: 1, given: 0 }], asks: [{ by: 'sso/op-ann', reason: 'found nothing' }] },
      },
    })
    expect(await isFrozen(id)).toBe(true)
    const second = await thaw(id, await bob(), 'looked, too')
    expect(second).toMatchObject({ status: 200, body: { freeze: { id } } })
    expect(second.body.asked).toBeUndefined()
    expect(await isFrozen(id)).toBe(false)
    expect((await told(id, 'freeze.thaw_asked')).map(({ principal, detail }) => [principal.id, detail.reason])).toEqual([
      ['sso/op-ann', 'found nothing'],
      ['sso/op-bob', 'looked, too'],
    ])
    const agreed = [
      expect.objectContaining({ by: 'sso/op-ann', reason: 'found nothing' }),
      expect.objectContaining({ by: 'sso/op-bob', reason: 'looked, too' }),
    ]
    expect(await told(id, 'freeze.thawed')).toMatchObject([{ principal: { id: 'sso/op-bob' }, detail: { agreed } }])
  })

  it('is not agreed to by whoever asked, under any account that shows the same person', async () => {
    const id = await frozen()
    for (let again = 0; again < 2; again++) expect((await thaw(id, await ann())).status).toBe(202)
    const other = await test.token('old-x', { email: 'ANN@example.com' })
    expect(await thaw(id, other)).toMatchObject({ status: 202, body: { asked: { needs: [{ given: 0 }] } } })
    expect(await isFrozen(id)).toBe(true)
    expect((await thaw(id, await bob())).status).toBe(200)
  })

  it('is for those whom policy lets thaw, and shows no face behind a break-glass key', async () => {
    const id = await frozen()
    await thaw(id, await ann())
    expect((await thaw(id, await test.token('sec-eve'))).body.code).toBe('denied')
    const glass = await test.token('anybody', { iss: 'https://glass.test' })
    expect((await thaw(id, glass)).body).toMatchObject({ code: 'denied', detail: expect.stringContaining('does not show who uses it') })
    expect(await isFrozen(id)).toBe(true)
    expect((await thaw(`freeze_00${'a'.repeat(26)}`, await ann())).status).toBe(404)
  })

  it('is done by one of two who ask at the same moment', async () => {
    const id = await frozen()
    const answers = await Promise.all([thaw(id, await ann()), thaw(id, await bob())])
    expect(answers.map(({ status }) => status)).toContain(200)
    expect(await isFrozen(id)).toBe(false)
  })

  it('does not become the thaw of an agent by the way of its resume', async () => {
    const suspended = await call('POST', '/v1/agents/reporter/suspend', await ann(), { reason: 'drill' })
    expect(suspended.status).toBe(202)
    const resumed = await call('POST', '/v1/agents/reporter/resume', await bob(), { reason: 'over' })
    expect(resumed.body).toMatchObject({ code: 'approval_required', step_up: [{ group: 'sre-oncall', approvals: 1 }] })
    const { id } = suspended.body.freeze
    await thaw(id, await ann())
    expect((await thaw(id, await bob())).status).toBe(200)
  })
})
