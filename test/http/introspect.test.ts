import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createLocalJWKSet, jwtVerify, SignJWT } from 'jose'
import { checkAnswer, routeOf } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const INACTIVE = { active: false }

describe('introspection, RFC 7662', () => {
  let redis: TestRedis
  let test: TestBroker
  let agent: string
  let gateway: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    ;[agent, gateway] = await Promise.all([test.token('triage'), test.token('reports-api')])
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })

  const post = async (body: string, caller: string, type = 'application/x-www-form-urlencoded') => {
    const sent = await fetch(`${test.url}/oauth2/introspect`, {
      method: 'POST',
      headers: { ...(caller !== '' && { authorization: `Bearer ${caller}` }), 'content-type': type },
      body,
    })
    const answer = { status: sent.status, headers: sent.headers, body: JSON.parse(await sent.text()) }
    checkAnswer(routeOf('POST', '/oauth2/introspect'), answer)
    return answer
  }
  const introspect = async (token: string, caller = gateway) => (await post(`token=${encodeURIComponent(token)}`, caller)).body
  const issue = async (task?: string) => {
    const { body } = await test.call('POST', '/v1/leases', agent, { task: task ?? (await test.openTask()), role: 'api-token' })
    return { token: String(body.credential.token), lease: body.lease }
  }

  it('tells the resource server what the token says, while its lease is live', async () => {
    const { token, lease } = await issue()
    const answer = await introspect(token)
    expect(answer).toMatchObject({
      active: true,
      token_type: 'Bearer',
      iss: 'https://mayfly.test',
      aud: 'https://reports.example',
      sub: 'triage',
      client_id: 'triage',
      jti: lease.id,
      task: lease.task,
      role: 'api-token',
      exp: Date.parse(lease.expires_at) / 1000 - (Date.parse(lease.expires_at) % 1000) / 1000,
    })
  })

  it('is exactly {"active":false} from the moment the lease is returned or its task ends', async () => {
    const returned = await issue()
    await test.call('DELETE', `/v1/leases/${returned.lease.id}`, agent)
    expect(await introspect(returned.token)).toEqual(INACTIVE)
    const task = await test.openTask()
    const ended = await issue(task)
    expect((await introspect(ended.token)).active).toBe(true)
    await test.call('POST', `/v1/tasks/${task}/complete`, await test.token('flows'))
    expect(await introspect(ended.token)).toEqual(INACTIVE)
  })

  it('is exactly {"active":false} for whatever is no live token of ours', async () => {
    const { token } = await issue()
    const [head, body] = token.split('.')
    const forged = await new SignJWT({ jti: 'x' }).setProtectedHeader({ alg: 'HS256' }).setExpirationTime('1h').sign(new Uint8Array(32))
    for (const other of ['x', 'a.b.c', `${head}.${body}.`, `${token}x`, forged, agent, 'x'.repeat(9000), '\u0000'])
      expect(await introspect(other)).toEqual(INACTIVE)
  })

  it('is exactly {"active":false} for who may not ask: other gateways, agents, orchestrators, operators without leave', async () => {
    const { token } = await issue()
    for (const sub of ['triage', 'flows', 'visitor']) expect(await introspect(token, await test.token(sub))).toEqual(INACTIVE)
    expect((await introspect(token, await test.token('oncall'))).active).toBe(true)
  })

  it.each([
    ['a repeated parameter', 'token=a&token=a'],
    ['a repeated hint', 'token=a&token_type_hint=x&token_type_hint=y'],
    ['no token', 'token_type_hint=access_token'],
    ['an empty token', 'token='],
    ['nothing', ''],
  ])('refuses %s as invalid_request', async (_what, body) => {
    expect(await post(body, gateway)).toMatchObject({ status: 400, body: { error: 'invalid_request' } })
  })

  it('takes a form and nothing else, with a token and not without', async () => {
    expect(await post('{"token":"a"}', gateway, 'application/json')).toMatchObject({ status: 400, body: { error: 'invalid_request' } })
    const nobody = await post('token=a', '')
    expect(nobody).toMatchObject({ status: 401, body: { error: 'invalid_client' } })
    expect(nobody.headers.get('www-authenticate')).toBe('Bearer realm="mayfly"')
    expect((await post('token=a&unknown=1&token_type_hint=refresh_token', gateway)).body).toEqual(INACTIVE)
  })

  it('is not needed to check a signature: the published keys verify it', async () => {
    const { token } = await issue()
    const metadata = await (await fetch(`${test.url}/.well-known/openid-configuration`)).json()
    expect(metadata).toMatchObject({ issuer: 'https://mayfly.test', jwks_uri: 'https://mayfly.test/.well-known/jwks.json' })
    const answer = await fetch(`${test.url}/.well-known/jwks.json`)
    expect(answer.headers.get('cache-control')).toBe('public, max-age=300')
    const jwks = JSON.parse(await answer.text())
    expect(JSON.stringify(jwks)).not.toContain('"d":')
    const { payload } = await jwtVerify(token, createLocalJWKSet(jwks), { issuer: 'https://mayfly.test', audience: 'https://reports.example' })
    expect(payload.sub).toBe('triage')
  })
})
