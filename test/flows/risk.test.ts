import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf, type Told } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Two replicas of one installation, with the shipped policies about risk. */
const RISK = resolve(import.meta.dirname, '../../config/policies/risk.cedar')
let redis: TestRedis
let test: TestBroker
let other: TestBroker
let call: TestBroker['call']
let oncall: string

const roles = '  orders-write: {provider: tokens, access: write, sensitivity: internal, max_ttl: 5m, params: {audience: "https://reports.example"}}'
const agents = ['quiet', 'noisy', 'curious', 'held', 'stopped', 'victim'].map(
  (id) => `  - {id: ${id}, match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: supervised, team: platform}\n`,
)

beforeAll(async () => {
  redis = await startRedis()
  const options = {
    redisSocket: redis.socketPath,
    policies: [`"${RISK}"`],
    roles,
    agents: agents.join(''),
    operators: '  - {id: watcher, match: {issuer: test, sub: watcher}, groups: [siem]}\n',
    policy: `@id("siem-raises") permit (principal in Group::"siem", action in [Action::"inspect", Action::"freeze"], resource is Agent);`,
  }
  test = await startTestBroker(options)
  other = await startTestBroker({ ...options, like: test })
  call = checking(test.call)
  oncall = await test.token('oncall')
}, 60_000)
afterAll(async () => {
  await Promise.all([test?.stop(), other?.stop()])
  await redis?.stop()
})

const envelope = [{ role: 'api-token' }, { role: 'orders-write' }]
const openTask = (agent: string) => test.openTask({ assignees: [{ agent }], envelope })
const obtain = async (agent: string, task: string, role: string, by = call) => by('POST', '/v1/leases', await test.token(agent), { task, role })
const riskOf = async (agent: string) => (await call('GET', `/v1/agents/${agent}`, oncall)).body.risk
const setRisk = async (agent: string, ask: object, sub = 'oncall') =>
  call('POST', `/v1/agents/${agent}/risk`, await test.token(sub), { reason: 'the SIEM says so', ...ask })
const stateOf = async (lease: string) => (await call('GET', `/v1/leases/${lease}`, oncall)).body.lease
/** Counting is waited for by nobody. */
const untilRisk = (agent: string, fits: (risk: Told) => boolean) => waitFor(`the risk of ${agent}`, async () => fits(await riskOf(agent)))

describe('what an agent does', () => {
  it('is counted by all replicas together, and told with its reasons', async () => {
    const task = await openTask('noisy')
    for (const by of [call, other.call, call, other.call]) expect((await obtain('noisy', task, 'api-signed', by)).status).toBe(403)
    await untilRisk('noisy', ({ signals }) => signals.refused > 11.5)
    expect(await riskOf('noisy')).toMatchObject({ value: 12, level: 10, signals: { rate: 0, loop: 0, drift: 0 } })
    const [told] = (await eventsOf(other, redis.client)).concat(await eventsOf(test, redis.client)).filter(({ type }) => type === 'agent.risk')
    expect(told).toMatchObject({
      principal: { id: 'noisy', kind: 'agent' },
      role: 'api-signed',
      detail: { agent: 'noisy', from: 0, to: 10, why: ['refused'] },
    })
  })

  it('counts what it obtained, and nothing against one that goes about its work', async () => {
    const task = await openTask('quiet')
    for (const role of ['api-token', 'api-token', 'orders-write']) expect((await obtain('quiet', task, role)).status).toBe(201)
    await untilRisk('quiet', ({ recent }) => recent.writes === 1)
    expect(await riskOf('quiet')).toMatchObject({ value: 0, recent: { reads: 2, writes: 1, escalations: 0 } })
  })

  it('counts against nobody else: not for whom an agent names, nor whose task or lease it asks about', async () => {
    const task = await openTask('victim')
    const { body } = await obtain('victim', task, 'api-token')
    const curious = await test.token('curious')
    for (let i = 0; i < 5; i++) {
      expect((await call('POST', '/v1/leases', curious, { task, role: 'api-token', reason: 'victim' })).status).toBe(404)
      expect((await call('POST', `/v1/leases/${body.lease.id}/renew`, curious, {})).status).toBe(404)
    }
    await untilRisk('curious', ({ signals }) => signals.refused > 29)
    expect(await riskOf('victim')).toMatchObject({ value: 0, signals: { refused: 0, rate: 0 } })
  })
})

describe('an operator', () => {
  it('sets a floor from which writes take a human, at whatever replica, and what is held is decided anew', async () => {
    const task = await openTask('held')
    const [reads, writes] = [await obtain('held', task, 'api-token'), await obtain('held', task, 'orders-write')]
    expect([reads.status, writes.status]).toEqual([201, 201])
    const { status, body } = await setRisk('held', { floor: 60, ttl: 600 })
    expect(status).toBe(200)
    expect(body.risk).toMatchObject({ value: 60, level: 60, floor: { value: 60, by: 'oncall', reason: 'the SIEM says so' } })
    expect(Date.parse(body.risk.floor.until) - Date.parse(body.risk.floor.at)).toBeLessThan(601_000)
    await waitFor('the write to be revoked', async () => (await stateOf(writes.body.lease.id)).state === 'revoked')
    expect(await stateOf(writes.body.lease.id)).toMatchObject({ cause: 'risk_raised' })
    expect(await stateOf(reads.body.lease.id)).toMatchObject({ state: 'active' })
    const closing = (await eventsOf(test, redis.client)).find(({ type, lease }) => type === 'lease.closing' && lease === writes.body.lease.id)
    expect(closing).toMatchObject({ cause: 'risk_raised', decision: { outcome: 'step-up', policies: ['risk-writes-need-a-human'] } })
    expect(await obtain('held', task, 'orders-write')).toMatchObject({ status: 202 })
    // The other replica has not asked for a second at most.
    await waitFor('the other replica to know', async () => (await obtain('held', task, 'orders-write', checking(other.call))).status === 202)
    const lifted = await setRisk('held', { floor: 0 })
    expect(lifted).toMatchObject({ status: 200, body: { risk: { level: 0 } } })
    expect(lifted.body.risk.floor).toBeUndefined()
  })

  it('denies everything from eighty on, until what was counted is forgotten', async () => {
    const task = await openTask('stopped')
    expect((await setRisk('stopped', { floor: 80 })).status).toBe(200)
    expect(await obtain('stopped', task, 'api-token')).toMatchObject({ status: 403, body: { code: 'denied', policies: ['risk-denies'] } })
    expect(await setRisk('stopped', { floor: 0, reset: true })).toMatchObject({ status: 200, body: { risk: { value: 0, signals: { refused: 0 } } } })
    expect((await obtain('stopped', task, 'api-token')).status).toBe(201)
  })

  it('raises with the right to freeze and lowers with the right to thaw; nobody else does either', async () => {
    expect((await setRisk('triage', { floor: 50 }, 'watcher')).status).toBe(200)
    expect((await setRisk('triage', { floor: 70 }, 'watcher')).status).toBe(200)
    expect((await setRisk('triage', { floor: 70, ttl: 60 }, 'watcher')).status).toBe(403)
    expect((await setRisk('triage', { floor: 60 }, 'watcher')).status).toBe(403)
    expect((await setRisk('triage', { floor: 0 }, 'watcher')).status).toBe(403)
    expect((await setRisk('triage', { reset: true, floor: 90 }, 'watcher')).status).toBe(403)
    for (const sub of ['visitor', 'triage', 'flows', 'reports-api']) expect((await setRisk('triage', { floor: 90 }, sub)).status).toBe(403)
    expect(await riskOf('triage')).toMatchObject({ floor: { value: 70, by: 'watcher' } })
    expect((await setRisk('triage', { floor: 0 })).status).toBe(200)
  })

  it('says what, and why', async () => {
    for (const ask of [{}, { floor: 101 }, { floor: -1 }, { floor: 1.5 }, { reset: false }, { floor: 50, reason: '' }])
      expect((await setRisk('triage', ask)).status).toBe(422)
  })

  it('who resumes an agent forgets what was counted, so that its first request does not stop it again', async () => {
    const task = await openTask('noisy')
    for (let i = 0; i < 20; i++) await obtain('noisy', task, 'api-signed')
    await untilRisk('noisy', ({ level }) => level >= 50)
    await call('POST', '/v1/agents/noisy/suspend', oncall, { reason: 'drill' })
    await call('POST', '/v1/agents/noisy/resume', oncall, { reason: 'over' })
    expect(await riskOf('noisy')).toMatchObject({ value: 0 })
  })
})
