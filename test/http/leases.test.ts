import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const AUDIENCE = 'params: {audience: "https://reports.example"}'
const ROLES = `
  secrets: {provider: tokens, access: read, sensitivity: restricted, max_ttl: 5m, ${AUDIENCE}}
  post: {provider: tokens, access: write, sensitivity: internal, max_ttl: 5m, ${AUDIENCE}}
`

describe('leases over HTTP', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let agent: string
  let task: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, roles: ROLES })
    call = checking(test.call)
    agent = await test.token('triage')
    task = await test.openTask()
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  const obtain = (headers: Record<string, string> = {}) => call('POST', '/v1/leases', agent, { task, role: 'api-token', ttl: 60 }, headers)
  const stateOf = async (id: string) => (await call('GET', `/v1/leases/${id}`, agent)).body.lease

  it('tell the secret once, uncached, and never again', async () => {
    const { status, headers, body } = await obtain()
    expect(status).toBe(201)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(headers.get('x-powered-by')).toBeNull()
    expect(headers.get('etag')).toBeNull()
    expect(body.credential).toMatchObject({
      type: 'jwt',
      token_type: 'Bearer',
      env: { MAYFLY_JWT: body.credential.token },
      expires_at: body.lease.expires_at,
    })
    const read = await call('GET', `/v1/leases/${body.lease.id}`, agent)
    expect(read.body).toEqual({ lease: body.lease })
    expect(JSON.stringify([read.body, (await call('GET', `/v1/tasks/${task}`, agent)).body])).not.toContain(body.credential.token)
  })

  it('with a key are closed by their repeat, which mints anew', async () => {
    const first = await obtain({ 'idempotency-key': 'job-1' })
    const second = await obtain({ 'idempotency-key': 'job-1' })
    expect(second.status).toBe(201)
    expect(second.body.lease.id).not.toBe(first.body.lease.id)
    expect(second.body.credential.token).not.toBe(first.body.credential.token)
    await waitFor('the first to be revoked', async () => (await stateOf(first.body.lease.id)).state === 'revoked')
    expect((await stateOf(first.body.lease.id)).cause).toBe('superseded')
    expect((await stateOf(second.body.lease.id)).state).toBe('active')
  })

  it('with the same key of two copies of an agent leave each other alone', async () => {
    const shared = await test.openTask({ assignees: [{ agent: 'copy-copy-a' }] })
    const [one, two] = await Promise.all([test.token('copy-a', { run: '1' }), test.token('copy-a', { run: '2' })])
    const ask = (token: string) => call('POST', '/v1/leases', token, { task: shared, role: 'api-token' }, { 'idempotency-key': 'same' })
    const first = await ask(one)
    await ask(two)
    expect((await call('GET', `/v1/leases/${first.body.lease.id}`, one)).body.lease.state).toBe('active')
  })

  it('are taken back when the caller left before its answer', async () => {
    const body = JSON.stringify({ task, role: 'api-token' })
    const head = `POST /v1/leases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${agent}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
    for (const leave of ['destroy', 'end'] as const) {
      const before = (await eventsOf(test, redis.client)).filter(({ cause }) => cause === 'caller_gone').length
      await waitFor('a lease to be closed because nobody waited for it', async () => {
        const socket = connect(Number(new URL(test.url).port), '127.0.0.1')
        await new Promise((resolve) => socket.once('connect', resolve))
        socket.on('error', () => undefined)
        socket.write(head + body, () => socket[leave]())
        await new Promise((resolve) => socket.once('close', resolve))
        const events = await eventsOf(test, redis.client)
        return events.filter(({ type, cause }) => type === 'lease.closing' && cause === 'caller_gone').length > before
      })
    }
    const live = await waitFor('the rest to settle', async () => {
      const { body: now } = await call('GET', `/v1/tasks/${task}`, await test.token('flows'))
      return now.leases.every(({ state }: { state: string }) => state === 'active') && now.leases
    })
    expect(live.every(({ cause }: { cause?: string }) => cause === undefined)).toBe(true)
  })

  it('are returned at once, or when the upstream has confirmed for who waits', async () => {
    const [one, two] = [await obtain(), await obtain()]
    const returned = await call('DELETE', `/v1/leases/${one.body.lease.id}`, agent)
    expect(returned.body.lease).toMatchObject({ cause: 'released' })
    expect(['closing', 'revoked']).toContain(returned.body.lease.state)
    const waited = await call('DELETE', `/v1/leases/${two.body.lease.id}?wait=10`, agent)
    expect(waited.body.lease).toMatchObject({ state: 'revoked', cause: 'released' })
    expect((await call('DELETE', `/v1/leases/${two.body.lease.id}`, agent)).body.lease.state).toBe('revoked')
  })

  it('that only expire are told so, and waiting for them ends with the time given', async () => {
    const { body } = await call('POST', '/v1/leases', agent, { task, role: 'api-signed', ttl: 300 })
    expect(body.lease.revocation).toMatchObject({ mode: 'at-expiry' })
    const started = performance.now()
    const waited = await call('DELETE', `/v1/leases/${body.lease.id}?wait=0.3`, agent)
    expect(waited.body.lease.state).toBe('closing')
    expect(performance.now() - started).toBeGreaterThanOrEqual(290)
  })

  it('are renewed by a successor where nothing can be extended', async () => {
    const { body } = await obtain()
    const renewed = await call('POST', `/v1/leases/${body.lease.id}/renew`, await test.token('triage'), { ttl: 120 })
    expect(renewed.status).toBe(200)
    expect(renewed.body.credential.token).toEqual(expect.any(String))
    expect((await stateOf(body.lease.id)).cause).toBe('superseded')
    expect((await call('POST', `/v1/leases/${body.lease.id}/renew`, agent)).body.code).toBe('lease_ended')
  })

  it('are foretold by whoami, with what stands in the way', async () => {
    const mixed = await test.openTask({ intent: 'something-new', envelope: [{ role: 'api-token' }] })
    const clear = (await call('GET', `/v1/whoami?task=${task}`, agent)).body
    expect(clear.principal.id).toBe('triage')
    expect(clear.obtainable.map(({ role, decision }: { role: string; decision: string }) => [role, decision])).toEqual([
      ['api-token', 'allow'],
      ['api-signed', 'allow'],
    ])
    const unclear = (await call('GET', `/v1/whoami?task=${mixed}`, agent)).body.obtainable[0]
    expect(unclear.decision).not.toBe('allow')
    expect(unclear.policies.length + unclear.reasons.length).toBeGreaterThan(0)
    const refused = await call('POST', '/v1/leases', agent, { task: mixed, role: 'api-token', can_wait: false })
    expect(refused.body).toMatchObject({ code: unclear.code, policies: unclear.policies })
    expect((await call('GET', `/v1/whoami?task=${task}`, await test.token('flows'))).status).toBe(422)
  })

  it('are foretold as they are decided: what was read closes the way out', async () => {
    const leak = await test.openTask({ envelope: [{ role: 'secrets' }, { role: 'post' }] })
    expect((await call('POST', '/v1/leases', agent, { task: leak, role: 'secrets' })).status).toBe(201)
    const [, post] = (await call('GET', `/v1/whoami?task=${leak}`, agent)).body.obtainable
    const refused = (await call('POST', '/v1/leases', agent, { task: leak, role: 'post' })).body
    expect(refused.policies).toEqual(['restricted-read-then-external-write'])
    expect(post).toMatchObject({ role: 'post', decision: 'deny', policies: refused.policies })
  })

  it('are foretold with the refusal that they would meet, and what to do, and nothing is told or changed by asking', async () => {
    const doomed = await test.openTask({ envelope: [{ role: 'api-token', max_ttl: 60 }, { role: 'api-signed' }] })
    const vague = await test.openTask({ intent: 'something-new', envelope: [{ role: 'api-token' }] })
    const oncall = await test.token('oncall')
    const foretold = async (of: string, by = agent) => (await call('GET', `/v1/whoami?task=${of}`, by)).body
    const before = (await eventsOf(test, redis.client)).length
    expect(await foretold(doomed)).toMatchObject({
      task: { id: doomed, state: 'active' },
      obtainable: [{ decision: 'allow', ttl: 60 }, { decision: 'allow' }],
    })
    const [asked] = (await foretold(vague)).obtainable
    expect(asked).toMatchObject({ decision: 'step-up', code: 'approval_required', step_up: [{ approvals: 1 }], next: expect.any(String) })
    expect((await eventsOf(test, redis.client)).length).toBe(before)

    const { body } = await call('POST', '/v1/freezes', oncall, { selector: { role: 'api-signed', task: doomed }, reason: 'a look' })
    const [token, signed] = (await foretold(doomed)).obtainable
    const refused = (await call('POST', '/v1/leases', agent, { task: doomed, role: 'api-signed' })).body
    expect(token.decision).toBe('allow')
    expect(signed).toMatchObject({ decision: 'deny', code: refused.code, next: refused.next, reasons: [refused.detail] })
    expect(refused.code).toBe('frozen')
    await call('POST', `/v1/freezes/${body.freeze.id}/thaw`, oncall, { reason: 'seen' })
    expect((await foretold(doomed)).obtainable[1].decision).toBe('allow')

    await call('POST', `/v1/tasks/${doomed}/complete`, await test.token('flows'), {})
    const ended = await foretold(doomed)
    expect(ended.task.state).toBe('completed')
    expect(ended.obtainable.map(({ decision, code }: { decision: string; code: string }) => [decision, code])).toEqual([
      ['deny', 'task_ended'],
      ['deny', 'task_ended'],
    ])
  })

  it('leave no trace of their key for longer than they may live', async () => {
    await obtain({ 'idempotency-key': 'remembered' })
    const left = await Promise.all((await redis.client.keys('mf:*:idem:*')).map((key) => redis.client.pttl(key)))
    expect(left.length).toBeGreaterThan(0)
    for (const ms of left) expect(ms).toBeLessThanOrEqual(1_802_000)
  })
})

describe('tasks over HTTP', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let flows: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
    flows = await test.token('flows')
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  const request = (more: object = {}) => ({
    intent: 'incident-triage',
    assignees: [{ agent: 'triage' }],
    envelope: [{ role: 'api-token', max_ttl: 120, max_leases: 3 }],
    deadline_at: new Date(Date.now() + 600_000).toISOString(),
    ...more,
  })

  it('are opened as asked, and once under one external id', async () => {
    const ask = request({ external_id: 'run-1', labels: { team: 'a' }, heartbeat_seconds: 30, confidence: 0.876 })
    const opened = await call('POST', '/v1/tasks', flows, ask)
    expect(opened.status).toBe(201)
    expect(opened.body.task).toMatchObject({
      state: 'active',
      opened_by: { kind: 'orchestrator', id: 'flows' },
      confidence: 0.87,
      envelope: ask.envelope,
      labels: { team: 'a' },
      deadline_at: ask.deadline_at,
      heartbeat_seconds: 30,
    })
    const again = await call('POST', '/v1/tasks', flows, ask)
    expect(again).toMatchObject({ status: 200, body: { task: { id: opened.body.task.id } } })
    expect((await call('POST', '/v1/tasks', flows, { ...ask, intent: 'deploy' })).body.code).toBe('conflict')
    expect((await call('GET', `/v1/tasks/${opened.body.task.id}`, flows)).body.task.external_id).toBe('run-1')
  })

  it.each([
    ['a deadline in the past', { deadline_at: '2020-01-01T00:00:00Z' }],
    ['a deadline without a zone', { deadline_at: '2099-01-01T00:00:00' }],
    ['a deadline that no calendar has', { deadline_at: '2099-02-30T00:00:00Z' }],
    ['an unknown role', { envelope: [{ role: 'nothing' }] }],
    ['a role twice', { envelope: [{ role: 'api-token' }, { role: 'api-token' }] }],
    ['nobody to do it', { assignees: undefined }],
    ['a confidence beyond 1', { confidence: 1.1 }],
  ])('are not opened with %s', async (_what, more) => {
    const { status, body } = await call('POST', '/v1/tasks', flows, request(more))
    expect({ status, code: body.code }).toEqual({ status: 422, code: 'request_invalid' })
    expect(body.errors[0].path).not.toBe('')
  })

  it('tell with ?wait the outcome of each lease, and end once', async () => {
    const { id } = (await call('POST', '/v1/tasks', flows, request())).body.task
    const agent = await test.token('triage')
    const leases = await Promise.all([1, 2].map(async () => (await call('POST', '/v1/leases', agent, { task: id, role: 'api-token' })).body.lease.id))
    const ended = await call('POST', `/v1/tasks/${id}/fail?wait=10`, flows, { reason: 'gave up' })
    expect(ended.body).toMatchObject({ state: 'failed', closing: 2 })
    expect(ended.body.leases.map(({ id, state }: { id: string; state: string }) => [id, state]).toSorted()).toEqual(
      leases.map((lease) => [lease, 'revoked']).toSorted(),
    )
    expect((await call('POST', `/v1/tasks/${id}/complete`, flows)).body.state).toBe('failed')
    expect((await call('GET', `/v1/tasks/${id}`, flows)).body).toMatchObject({ task: { state: 'failed', reason: 'gave up' }, leases: [] })
    expect((await call('POST', `/v1/tasks/${id}/heartbeat`, agent)).body.state).toBe('failed')
  })
})
