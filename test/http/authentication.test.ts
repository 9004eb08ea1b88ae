import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventOf } from '../support/events.js'
import { exchange } from '../support/raw.js'
import { startRedis, type TestRedis } from '../support/redis.js'

describe('a caller', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })

  it('without a token is asked for one, and told no error', async () => {
    const { status, headers, body } = await call('GET', '/v1/whoami', '')
    expect({ status, code: body.code }).toEqual({ status: 401, code: 'token_missing' })
    expect(headers.get('www-authenticate')).toBe('Bearer realm="mayfly"')
  })

  it('with a bad token learns its code and an event, which alone says why', async () => {
    const { status, headers, body } = await call('POST', '/v1/leases', `${(await test.token('triage')).slice(0, -8)}AAAAAAAA`, {
      task: 'x',
      role: 'y',
    })
    expect(status).toBe(401)
    expect(headers.get('www-authenticate')).toBe('Bearer realm="mayfly", error="invalid_token"')
    expect(Object.keys(body).toSorted()).toEqual(['code', 'detail', 'instance', 'next', 'status', 'title', 'type'])
    const event = await eventOf(test, redis.client, body)
    expect(event).toMatchObject({
      type: 'request.refused',
      code: 'token_invalid',
      detail: { route: '/v1/leases', method: 'POST', reason: expect.any(String) },
    })
    expect(event.principal).toBeUndefined()

    const unknown = await call('POST', '/v1/leases', await test.token('stranger'), { task: 'x', role: 'y' })
    expect({ ...unknown.body, instance: '' }).toEqual({ ...body, instance: '' })
  })

  it('with two Authorization headers is refused, whichever is good', async () => {
    const good = await test.token('triage')
    for (const second of [good, 'other', '']) {
      const head = `GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${good}\r\nauthorization: Bearer ${second}\r\n\r\n`
      const answer = await exchange(test.url, head)
      expect(answer).toMatch(/^HTTP\/1\.1 401 /)
      expect(answer).toContain('"code":"token_invalid"')
    }
  })

  it.each([
    ['a token in the query', (token: string) => `GET /v1/whoami?access_token=${token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`],
    ['another scheme', (token: string) => `GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic ${token}\r\n\r\n`],
  ])('is nobody with %s', async (_what, head) => {
    expect(await exchange(test.url, head(await test.token('triage')))).toMatch(/^HTTP\/1\.1 401 /)
  })

  it('is told who it is, and nobody is told its token', async () => {
    const token = await test.token('copy-a', { run: 'run-7' })
    const { status, body } = await call('GET', '/v1/whoami', token)
    expect(status).toBe(200)
    const expected = { kind: 'agent', id: 'copy-copy-a', instance: 'run-7', issuer: 'test', owner: 'sre@example.com', autonomy: 'scripted' }
    expect(body).toEqual({ principal: { ...expected, token_expires_at: expect.any(String) } })
    expect(test.logs.join('')).not.toContain(token.split('.')[2])
  })

  it('keeps its own request id when it is plain, and its trace', async () => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    const headers = { 'x-request-id': 'mine_1.2-3', traceparent: `00-${trace}-00f067aa0ba902b7-01` }
    const answer = await call('GET', `/v1/leases/lease_00${'a'.repeat(26)}`, await test.token('triage'), undefined, headers)
    expect(answer.headers.get('x-request-id')).toBe('mine_1.2-3')
    expect((await eventOf(test, redis.client, answer.body)).request).toEqual({ id: 'mine_1.2-3', trace })
    for (const id of ['a b', 'x'.repeat(65), '{}', '[31m']) {
      const other = await call('GET', '/v1/whoami', '', undefined, { 'x-request-id': id })
      expect(other.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    }
  })
})
