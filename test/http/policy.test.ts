import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Mayfly } from '../../src/client/index.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventOf, eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const folder = mkdtempSync(join(tmpdir(), 'mayfly-observed-'))
const OBSERVED = join(folder, 'observed.cedar')
writeFileSync(OBSERVED, '@id("no-signed") forbid(principal, action == Action::"read", resource == Role::"api-signed");')
const shipped = ['obtain', 'guardrails', 'tasks', 'operators'].map((name) => ({
  name: `${name}.cedar`,
  text: readFileSync(join(import.meta.dirname, `../../config/policies/${name}.cedar`), 'utf8'),
}))
const NESTED = `@id("a") permit(principal, action, resource) when { ${'('.repeat(200)}true${')'.repeat(200)} };`

let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let agent: string
let oncall: string
beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({ redisSocket: redis.socketPath, policies: [`{path: "${OBSERVED}", mode: observe}`] })
  call = checking(test.call)
  ;[agent, oncall] = await Promise.all([test.token('triage'), test.token('oncall')])
})
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
  rmSync(folder, { recursive: true })
})
const obtain = (task: string, role: string) => call('POST', '/v1/leases', agent, { task, role })
const simulate = (body: object, token = oncall) => call('POST', '/v1/policy/simulate', token, body)

describe('policies that are only observed', () => {
  it('change no decision; what they would have changed is in its event and in a metric', async () => {
    const task = await test.openTask()
    expect((await obtain(task, 'api-signed')).status).toBe(201)
    expect((await obtain(task, 'api-token')).status).toBe(201)
    const told = (await eventsOf(test, redis.client)).filter((event) => event.type === 'lease.issued' && event.task === task)
    const decisions = Object.fromEntries(told.map(({ role, decision }) => [role, decision]))
    expect(decisions['api-signed']).toMatchObject({ outcome: 'allow', observed: { outcome: 'deny', policies: ['no-signed'] } })
    expect(decisions['api-token'].observed).toEqual({ outcome: 'allow', policies: decisions['api-token'].policies })
    const metrics = await (await fetch(`${test.metricsUrl}/metrics`)).text()
    expect(metrics).toMatch(/mayfly_policy_observed_differences_total\{action="read",decided="allow",observed="deny"\} 1\n/)
  })

  it('are told to nobody who asks for a credential', async () => {
    const task = await test.openTask()
    expect(JSON.stringify([(await obtain(task, 'api-signed')).body, (await call('GET', `/v1/whoami?task=${task}`, agent)).body])).not.toMatch(
      /no-signed|observed/,
    )
  })
})

describe('POST /v1/policy/simulate', () => {
  it('answers what would change in what this broker recorded', async () => {
    const task = await test.openTask({ intent: 'no-such-intent' })
    expect((await call('POST', '/v1/leases', agent, { task, role: 'api-token', can_wait: false })).body.code).toBe('approval_required')
    await test.broker.audit()?.flush()
    const candidate = shipped.map(({ name, text }) => ({
      name,
      text: name === 'guardrails.cedar' ? text.replace(/@id\("unclassified-intent"\)[^;]*;/, '') : text,
    }))
    const { status, body } = await simulate({ policies: candidate })
    expect(status).toBe(200)
    expect(body).toMatchObject({ complete: true, unreadable: { count: 0 } })
    expect(body.changes.denied + body.changes.allowed + body.changes.step_up).toBeGreaterThan(0)
    const example = body.examples.find((one: { request: { task: { intent: string } } }) => one.request.task.intent === 'no-such-intent')
    expect(example).toMatchObject({
      binding: { outcome: 'step-up' },
      request: { action: 'read', agent: { id: 'triage' }, role: { name: 'api-token' } },
    })
    const event = (await eventsOf(test, redis.client)).find(({ id }) => id === example.event)
    expect(event).toMatchObject({ type: 'lease.denied', decision: { outcome: 'step-up', policies: example.binding.policies } })
  })

  it('answers the same as was decided, for every recorded request', async () => {
    const { body } = await simulate({ policies: shipped })
    expect(body.asked).toBeGreaterThan(2)
    expect(body).toMatchObject({ unchanged: body.asked, examples: [] })
    expect(body.versions.candidate).not.toBe('')
  })

  it('answers without policies what the observed ones would change if they were binding', async () => {
    const { body } = await simulate({})
    expect(body.changes).toMatchObject({ allowed: 0, denied: expect.any(Number) })
    expect(body.examples[0]).toMatchObject({ change: 'denied', candidate: { policies: ['no-signed'] }, request: { role: { name: 'api-signed' } } })
  })

  it('answers for one request, as a case is written, also through the SDK', async () => {
    const request = { action: 'freeze', operator: { id: 'ann', groups: ['sre-oncall'] } }
    const policies = shipped.filter(({ name }) => name !== 'operators.cedar')
    const sdk = new Mayfly({ url: test.url, token: oncall })
    expect(await sdk.operator.simulate({ policies, requests: [request] })).toMatchObject({
      asked: 1,
      changes: { denied: 1 },
      examples: [{ request }],
    })
  })

  it('is for operators whom policy lets, and each refusal is an event', async () => {
    const flows = await test.token('flows')
    for (const token of [agent, flows, await test.token('visitor')]) {
      const { status, body } = await simulate({}, token)
      expect([status, body.code]).toEqual([403, 'denied'])
      expect(await eventOf(test, redis.client, body)).toMatchObject({ type: 'operator.refused' })
    }
  })

  it('tells what is wrong with a candidate, and outlives one that kills its engine', async () => {
    const typo = await simulate({ policies: [{ name: 'x.cedar', text: '@id("a") @zap("1") permit(principal, action, resource);' }] })
    expect(typo).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', errors: [{ path: 'x.cedar: a', message: expect.stringContaining('@zap') }] },
    })
    const hostile = await simulate({ policies: [{ name: 'x.cedar', text: NESTED }], requests: [{ action: 'read' }] })
    expect(hostile).toMatchObject({ status: 422, body: { code: 'request_invalid' } })
    const surrogate = await simulate({ policies: [{ name: 'x.cedar', text: '// \ud800' }] })
    expect(surrogate.status).toBeGreaterThanOrEqual(400)
    expect((await obtain(await test.openTask(), 'api-token')).status).toBe(201)
  })

  it('takes a body beyond what others take, and no larger', async () => {
    const padded = (bytes: number) => ({
      policies: [...shipped, { name: 'long.cedar', text: `// ${'x'.repeat(bytes)}` }],
      requests: [{ action: 'inspect' }],
    })
    expect((await simulate(padded(200_000))).status).toBe(200)
    expect((await simulate(padded(1_100_000))).body.code).toBe('too_large')
  })

  it('is done one at a time', async () => {
    const answers = await Promise.all(Array.from({ length: 3 }, () => simulate({ requests: [{ action: 'inspect' }] })))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 429, 429])
    expect(answers.find(({ status }) => status === 429)?.headers.get('retry-after')).toBe('5')
  })
})
