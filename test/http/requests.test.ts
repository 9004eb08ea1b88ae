import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Problem } from '../../src/api.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventOf, eventsOf } from '../support/events.js'
import { exchange } from '../support/raw.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

describe('a request that must not work', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let agent: string
  let task: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
    agent = await test.token('triage')
    task = await test.openTask()
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })

  const nothingIssued = async () => expect((await eventsOf(test, redis.client)).filter(({ type }) => /^lease\./.test(type))).toEqual([])
  const post = async (body: string | Uint8Array, headers: Record<string, string> = {}) => {
    const answer = await fetch(`${test.url}/v1/leases`, {
      method: 'POST',
      headers: { authorization: `Bearer ${agent}`, 'content-type': 'application/json', ...headers },
      body,
    })
    return { status: answer.status, body: Problem.parse(await answer.json()) }
  }

  it.each([
    ['a duplicate key', (id: string) => `{"task":"${id}","role":"api-token","role":"api-signed"}`, 400, 'malformed'],
    ['__proto__', (id: string) => `{"task":"${id}","role":"api-token","__proto__":{"ttl":1}}`, 400, 'malformed'],
    ['constructor', (id: string) => `{"task":"${id}","role":"api-token","scope":{"constructor":"x"}}`, 400, 'malformed'],
    ['a deep body', (id: string) => `{"task":"${id}","role":"api-token","scope":${'['.repeat(20)}${']'.repeat(20)}}`, 400, 'malformed'],
    ['junk behind the body', (id: string) => `{"task":"${id}","role":"api-token"}{}`, 400, 'malformed'],
    ['a list', (id: string) => `[{"task":"${id}","role":"api-token"}]`, 422, 'request_invalid'],
    ['an unknown field', (id: string) => `{"task":"${id}","role":"api-token","admin":true}`, 422, 'request_invalid'],
    ['a NUL in a name', (id: string) => `{"task":"${id}","role":"api\\u0000token"}`, 422, 'request_invalid'],
    ['a line separator in a name', (id: string) => `{"task":"${id}","role":"api\\u2028token"}`, 422, 'request_invalid'],
    ['half a character in a reason', (id: string) => `{"task":"${id}","role":"api-token","reason":"\\ud800"}`, 422, 'request_invalid'],
    ['a TTL that is no number', (id: string) => `{"task":"${id}","role":"api-token","ttl":"60"}`, 422, 'request_invalid'],
    ['a TTL beyond numbers', (id: string) => `{"task":"${id}","role":"api-token","ttl":1e400}`, 422, 'request_invalid'],
    ['a task of another form', () => '{"task":"task_{p00}:*","role":"api-token"}', 422, 'request_invalid'],
    ['64 kB and more', (id: string) => `{"task":"${id}","role":"${'x'.repeat(66_000)}"}`, 413, 'too_large'],
  ])('by %s is one event and nothing else', async (_what, body, status, code) => {
    const answer = await post(body(task))
    expect(answer).toMatchObject({ status, body: { status, code, instance: expect.stringMatching(/^urn:uuid:/) } })
    expect(await eventOf(test, redis.client, answer.body)).toMatchObject({ type: 'request.refused', code, principal: { id: 'triage' } })
    await nothingIssued()
  })

  it('by its content type or encoding says so', async () => {
    const body = JSON.stringify({ task, role: 'api-token' })
    for (const [name, value] of [
      ['content-type', 'text/plain'],
      ['content-type', 'application/json; charset=utf-16'],
      ['content-encoding', 'gzip'],
    ] as const)
      expect(await post(body, { [name]: value })).toMatchObject({ status: 415, body: { code: 'unsupported_media_type' } })
    await nothingIssued()
  })

  it('by what is wrong with which field says so', async () => {
    const { body } = await call('POST', '/v1/leases', agent, { task: 'nope', role: '', ttl: 0, admin: true })
    expect(body.code).toBe('request_invalid')
    expect(body.errors.map(({ path }: { path: string }) => path).toSorted()).toEqual(['', 'role', 'task', 'ttl'])
  })

  it.each([
    '{}',
    'lease_{p00}',
    'lease_00:*',
    '*',
    '%00',
    'lease_00aaaaaaaaaaaaaaaaaaaaaaaaaa%00',
    '..%2f..',
    'lease_00AAAAAAAAAAAAAAAAAAAAAAAAAA',
    '%F0%9F%92%A9',
  ])('by the id %s names nothing', async (id) => {
    for (const [method, path] of [
      ['GET', `/v1/leases/${id}`],
      ['DELETE', `/v1/leases/${id}`],
      ['POST', `/v1/leases/${id}/renew`],
      ['GET', `/v1/tasks/${id}`],
      ['POST', `/v1/tasks/${id}/complete`],
    ] as const)
      expect(await test.call(method, path, agent)).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })

  it('by a path that cannot be decoded is malformed', async () => {
    expect(await test.call('GET', '/v1/leases/%ff', agent)).toMatchObject({ status: 400, body: { code: 'malformed' } })
  })

  it('by its method is told which there are', async () => {
    const answer = await test.call('PUT', '/v1/leases', agent, {})
    expect(answer).toMatchObject({ status: 405, body: { code: 'method_not_allowed' } })
    expect(answer.headers.get('allow')).toBe('POST, GET, HEAD')
    const options = await test.call('OPTIONS', '/v1/leases', agent)
    expect(options.status).toBe(405)
    expect((await test.call('DELETE', '/v1/tasks', agent)).headers.get('allow')).toBe('POST, GET, HEAD')
  })

  it.each(['/v1/leases/', '/V1/leases', '/v1//leases', '/v1/nothing', '/', '/v1/leases/x/y/z', '/metrics', '/oauth2/token', '/v1/events'])(
    'by its path %s is not found',
    async (path) => {
      expect(await test.call('POST', path, agent, {})).toMatchObject({ status: 404, body: { code: 'not_found' } })
    },
  )

  it('by a query that the call does not take is invalid', async () => {
    const body = { task, role: 'api-token' }
    expect(await call('POST', '/v1/leases?ttl=5', agent, body)).toMatchObject({ status: 422 })
    expect(await call('GET', '/v1/whoami?task=a&task=b', agent)).toMatchObject({ status: 422 })
    expect(await call('GET', '/v1/whoami?__proto__=a', agent)).toMatchObject({ status: 422 })
    expect(await call('POST', `/v1/tasks/${task}/complete?wait=61`, await test.token('flows'), {})).toMatchObject({ status: 422 })
  })

  it('by a repeated header that means something is malformed', async () => {
    const body = JSON.stringify({ task, role: 'api-token' })
    for (const twice of ['Host: y', 'Content-Type: text/plain', 'Idempotency-Key: b']) {
      const head = `POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: a\r\n${twice}\r\n`
      const answer = await exchange(
        test.url,
        `${head}Authorization: Bearer ${agent}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
      )
      expect(answer).toMatch(/^HTTP\/1\.1 400 /)
      expect(answer).toContain('"code":"malformed"')
    }
    await nothingIssued()
  })

  it('by an Idempotency-Key that no log could show is malformed', async () => {
    for (const key of ['a b', 'x'.repeat(256)])
      expect(await call('POST', '/v1/leases', agent, { task, role: 'api-token' }, { 'idempotency-key': key })).toMatchObject({ status: 400 })
    await nothingIssued()
  })

  it('never gets the address of its choice into an event', async () => {
    const nothing = `/v1/leases/lease_00${'a'.repeat(26)}`
    const { body } = await call('GET', nothing, agent, undefined, { 'x-forwarded-for': '10.9.8.7', 'x-forwarded-proto': 'https' })
    expect(await eventOf(test, redis.client, body)).toMatchObject({ code: 'not_found', detail: { peer: '127.0.0.1' } })
    expect(JSON.stringify(await eventsOf(test, redis.client))).not.toContain('10.9.8.7')
  })

  it('leaves one line in the log, without its token, its body or a control character', async () => {
    const body = { task, role: 'api-token', reason: 'reason-canary', scope: { canary: 'scope-canary' } }
    const { headers } = await call('POST', '/v1/leases', agent, body)
    const line = await waitFor('the line', () => test.logs.find((one) => one.includes(headers.get('x-request-id') ?? '?')))
    expect(JSON.parse(line)).toMatchObject({ msg: 'request', route: '/v1/leases', method: 'POST', status: 403, kind: 'agent', principal: 'triage' })
    const all = test.logs.join('')
    for (const secret of [agent, agent.split('.')[1] ?? '', 'reason-canary', 'scope-canary']) expect(all).not.toContain(secret)
    expect(all.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u2028\u2029]/u)
  })

  it('is limited, per caller, and an operator is not in the way of agents nor they in its', async () => {
    const slow = await startTestBroker({ redisSocket: redis.socketPath, like: test, limits: '{requests_per_second: 2}' })
    try {
      const [flood, other, operator] = await Promise.all([slow.token('triage'), slow.token('reporter'), slow.token('oncall')])
      const answers = await Promise.all(Array.from({ length: 6 }, () => slow.call('GET', '/v1/whoami', flood)))
      const limited = answers.filter(({ status }) => status === 429)
      expect(limited.length).toBeGreaterThanOrEqual(3)
      for (const { headers, body } of limited) {
        expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
        expect(body).toMatchObject({ code: 'rate_limited' })
        expect(body.instance).toBeUndefined()
      }
      expect((await slow.call('GET', '/v1/whoami', other)).status).toBe(200)
      expect((await slow.call('GET', '/v1/freezes', operator)).status).toBe(200)
    } finally {
      await slow.stop()
    }
  })
})
