import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { pino } from 'pino'
import { createApp } from '../../src/http/app.js'
import { type Listening, listen } from '../../src/http/listen.js'
import type { AppOptions } from '../../src/http/surroundings.js'
import { generateSigningKeys, openSigner } from '../../src/signer.js'
import { checkAnswer, routeOf } from '../support/answers.js'
import { startTestBroker, type TestBroker, taskRequest } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

describe('running it', () => {
  let redis: TestRedis
  let test: TestBroker
  const open: Listening[] = []
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  afterEach(() => Promise.all(open.splice(0).map((one) => one.close(0))))

  const start = async (options: Partial<AppOptions> = {}) => {
    const app = createApp({
      house: test.broker.house,
      identity: test.broker.identity,
      signer: () => undefined,
      agents: () => [],
      simulate: () => Promise.reject(new Error('nothing is simulated here')),
      history: () => Promise.reject(new Error('nothing is recorded here')),
      log: pino({ level: 'silent' }),
      surface: 'all',
      trustProxy: [],
      requestsPerSecond: 1000,
      isDraining: () => false,
      isReady: () => true,
      ...options,
    })
    const listening = await listen(app, { host: '127.0.0.1', port: 0 })
    open.push(listening)
    return async (method: string, path: string, sub = '', body?: unknown) => {
      const answer = await fetch(`${listening.url}${path}`, {
        method,
        headers: {
          ...(sub && { authorization: `Bearer ${await test.token(sub, { run: 'run-1' })}` }),
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      })
      const text = await answer.text()
      return { status: answer.status, headers: answer.headers, body: answer.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text }
    }
  }

  it('offers on each listener what belongs there', async () => {
    const [pub, operator, metrics, all] = await Promise.all((['public', 'operator', 'metrics', 'all'] as const).map((surface) => start({ surface })))
    const statuses = async (path: string) =>
      Promise.all([pub, operator, metrics, all].map(async (call) => (await call?.('GET', path, 'oncall'))?.status))
    expect(await statuses('/v1/freezes')).toEqual([404, 200, 404, 200])
    expect(await statuses('/v1/agents')).toEqual([404, 200, 404, 200])
    expect(await statuses('/v1/whoami')).toEqual([200, 200, 404, 200])
    expect(await statuses('/healthz')).toEqual([200, 200, 200, 200])
    expect(await statuses('/metrics')).toEqual([404, 404, 200, 404])
    expect(await statuses('/openapi.json')).toEqual([200, 200, 404, 200])
    // A listener of their own is where operators are served, and nobody else is.
    const task = `/v1/tasks/${await test.openTask()}`
    expect(await statuses(task)).toEqual([403, 200, 404, 200])
    expect((await operator?.('GET', task, 'flows'))?.status).toBe(403)
    expect((await operator?.('POST', '/v1/tasks', 'flows', taskRequest()))?.status).toBe(405)
    expect((await pub?.('GET', '/v1/leases', 'oncall'))?.status).toBe(405)
  })

  it('describes on each listener what it offers there', async () => {
    const call = await start({ surface: 'public' })
    const { body } = await call('GET', '/openapi.json')
    expect(body.openapi).toBe('3.1.0')
    expect(Object.keys(body.paths)).toContain('/v1/leases')
    expect(body.paths['/v1/leases']).not.toHaveProperty('get')
    expect(body.paths).not.toHaveProperty(['/v1/freezes'])
  })

  it('is ready unless it starts or drains, and says how its parts are', async () => {
    let [ready, draining] = [false, false]
    const call = await start({ isReady: () => ready, isDraining: () => draining })
    const readiness = async () => {
      const answer = await call('GET', '/readyz')
      checkAnswer(routeOf('GET', '/readyz'), answer)
      return answer
    }
    expect(await readiness()).toMatchObject({ status: 503, body: { state: 'starting' } })
    ready = true
    expect(await readiness()).toMatchObject({
      status: 200,
      body: {
        state: 'ready',
        ledger: { reachable: true },
        issuers: [{ name: 'test', state: 'ready' }],
        providers: expect.arrayContaining([{ name: 'tokens', circuit: 'closed' }]),
      },
    })
    draining = true
    expect(await readiness()).toMatchObject({ status: 503, body: { state: 'draining' } })
  })

  it('issues nothing while it drains, and still ends, returns and stops', async () => {
    let draining = false
    const call = await start({ isDraining: () => draining })
    const task = await test.openTask()
    const lease = (await call('POST', '/v1/leases', 'triage', { task, role: 'api-signed' })).body.lease.id
    draining = true
    for (const [path, sub, body] of [
      ['/v1/leases', 'triage', { task, role: 'api-token' }],
      ['/v1/tasks', 'flows', taskRequest()],
      [`/v1/leases/${lease}/renew`, 'triage', {}],
    ] as const) {
      const refused = await call('POST', path, sub, body)
      expect(refused).toMatchObject({ status: 503, body: { code: 'draining' } })
      expect(refused.headers.get('connection')).toBe('close')
      expect(refused.headers.get('retry-after')).toBe('1')
    }
    // Nothing holds a drain: this lease only expires, and nobody is kept waiting for that.
    const started = performance.now()
    expect((await call('DELETE', `/v1/leases/${lease}?wait=30`, 'triage')).body.lease.state).toBe('closing')
    expect((await call('POST', `/v1/tasks/${task}/complete?wait=30`, 'flows')).status).toBe(200)
    expect((await call('POST', '/v1/emergency/revoke', 'oncall', { selector: { task }, reason: 'drill', freeze: false })).status).toBe(202)
    expect(performance.now() - started).toBeLessThan(15_000)
  })

  it('measures with bounded labels', async () => {
    const [call, metrics] = await Promise.all([start({ surface: 'public' }), start({ surface: 'metrics' })])
    for (let n = 0; n < 20; n++) await call('GET', `/v1/tasks/task_00${String.fromCharCode(97 + n).repeat(26)}`, `copy-${n}`)
    for (let n = 0; n < 20; n++) await call('GET', `/nothing/${n}`)
    const { status, body, headers } = await metrics('GET', '/metrics')
    expect(status).toBe(200)
    expect(headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
    expect(body).toContain('mayfly_http_request_duration_seconds_count{route="/v1/tasks/{id}",method="get",status="404"}')
    expect(body).toContain('route="unmatched"')
    expect(body.replace(/^# .*$/gm, '')).not.toMatch(/copy-|nothing|aaaaaaa/)
    for (const name of [
      'mayfly_ledger_reachable 1',
      'mayfly_policy_memo_hit_ratio',
      'mayfly_token_cache_hit_ratio',
      'mayfly_leases_live',
      'mayfly_freezes 0',
    ])
      expect(body).toContain(name)
  })

  it('tells a defect to its log and to nobody else', async () => {
    const lines: string[] = []
    const log = pino({ level: 'info' }, { write: (line: string) => lines.push(line) })
    const agents = () => {
      throw new SyntaxError('Unexpected token s3cret-canary in JSON')
    }
    const call = await start({ log, agents })
    const answer = await call('GET', '/v1/agents', 'oncall')
    checkAnswer(routeOf('GET', '/v1/agents'), answer)
    expect(answer).toMatchObject({ status: 500, body: { code: 'internal' } })
    const line = lines.map((one) => JSON.parse(one)).find(({ error }) => error === 'SyntaxError')
    expect(line).toMatchObject({
      request: answer.headers.get('x-request-id'),
      at: expect.arrayContaining([expect.stringContaining('operations.test')]),
    })
    expect(JSON.stringify([lines, answer.body])).not.toContain('s3cret')
  })

  it('publishes keys under the path that its issuer has', async () => {
    const keys = await generateSigningKeys()
    const signer = await openSigner({ issuer: 'https://mayfly.example/tenant/a', keys })
    const call = await start({ signer: () => signer })
    const here = await call('GET', '/.well-known/openid-configuration/tenant/a')
    checkAnswer(routeOf('GET', '/.well-known/openid-configuration/tenant/a'), here)
    expect(here.body).toMatchObject({ issuer: 'https://mayfly.example/tenant/a', jwks_uri: 'https://mayfly.example/.well-known/jwks.json' })
    for (const path of [
      '/.well-known/openid-configuration',
      '/.well-known/openid-configuration/tenant',
      '/.well-known/openid-configuration/tenant/a/',
    ])
      expect((await call('GET', path)).status).toBe(404)
    const without = await start()
    expect((await without('GET', '/.well-known/jwks.json')).status).toBe(404)
  })
})

describe('without its ledger', () => {
  it('says 503 to who asks, stays ready and alive, and is itself again when the ledger is back', async () => {
    const redis = await startRedis(['appendonly yes'])
    const test = await startTestBroker({ redisSocket: redis.socketPath })
    try {
      const [agent, task] = [await test.token('triage'), await test.openTask()]
      const obtain = () => test.call('POST', '/v1/leases', agent, { task, role: 'api-token' })
      const metrics = async () => (await fetch(`${test.metricsUrl}/metrics`)).text()
      expect((await obtain()).status).toBe(201)
      await redis.kill()
      const refused = await obtain()
      expect(refused).toMatchObject({ status: 503, body: { code: 'ledger_unavailable' } })
      checkAnswer(routeOf('POST', '/v1/leases'), refused)
      await waitFor('readiness to notice', async () => !(await test.call('GET', '/readyz', '')).body.ledger.reachable)
      expect((await test.call('GET', '/readyz', '')).status).toBe(200)
      expect((await test.call('GET', '/healthz', '')).status).toBe(200)
      expect(await metrics()).toContain('mayfly_ledger_reachable 0')
      expect((await test.call('GET', '/v1/whoami', agent)).status).toBe(200)
      expect((await test.call('GET', '/v1/whoami', '')).status).toBe(401)
      expect((await test.call('GET', '/v1/freezes', await test.token('visitor'))).status).toBe(503)
      await redis.restart()
      await waitFor('issuing again', async () => (await obtain()).status === 201)
      await waitFor('the metric to say so', async () => (await metrics()).includes('mayfly_ledger_reachable 1'))
    } finally {
      await test.stop()
      await redis.stop()
    }
  })
})
