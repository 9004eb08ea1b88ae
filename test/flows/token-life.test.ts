import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { newPeople, type TestPeople } from '../support/people.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const TOKEN_SECONDS = 600

describe('within the life of the token that asked', () => {
  let postgres: TestPostgres
  let redis: TestRedis
  let test: TestBroker
  let people: TestPeople
  beforeAll(async () => {
    ;[postgres, redis, people] = await Promise.all([startPostgres(), startRedis(), newPeople()])
    test = await startTestBroker({
      redisSocket: redis.socketPath,
      postgresUrl: await postgres.createBroker(['reporting_ro']),
      limits: '{within_token_life: true}',
      issuers: `  sso: {jwks: env:SSO, issuer: "${people.issuer}", audience: mayfly, typ: [at+jwt]}`,
      more: 'humans: [{id: "{sub}", match: {issuer: sso, sub: "*"}}]',
      env: { SSO: people.jwks },
    })
  }, 60_000)
  afterAll(async () => {
    await test?.stop()
    await Promise.all([postgres?.stop(), redis?.stop()])
  })
  const secondsLeft = (time: string) => (Date.parse(time) - Date.now()) / 1000

  it('a lease is obtained, and renewed where the upstream extends it', async () => {
    const agent = await test.token('triage')
    const task = await test.openTask({ envelope: [{ role: 'warehouse-read' }], deadline_at: new Date(Date.now() + 3_000_000).toISOString() })
    const long = await test.call('POST', '/v1/leases', agent, { task, role: 'warehouse-read', ttl: 900 })
    expect(secondsLeft(long.body.lease.expires_at)).toBeLessThanOrEqual(TOKEN_SECONDS)
    const { lease } = (await test.call('POST', '/v1/leases', agent, { task, role: 'warehouse-read', ttl: 60 })).body
    const renewed = await test.call('POST', `/v1/leases/${lease.id}/renew`, await test.token('triage'), { ttl: 900 })
    expect(renewed.body).toMatchObject({ lease: { id: lease.id } })
    expect(secondsLeft(renewed.body.lease.expires_at)).toBeLessThanOrEqual(TOKEN_SECONDS)
    expect(secondsLeft(renewed.body.lease.expires_at)).toBeGreaterThan(60)
  })

  it('and within that of the human: a task that is for somebody yields nothing once what showed it is over', async () => {
    const agent = await test.token('triage')
    const until = (seconds: number, sub: string) => {
      return people.token('ann', { aud: 'mayfly', exp: Date.now() / 1000 + seconds, may_act: { iss: 'https://issuer.test', sub } })
    }
    const task = await test.openTask()
    const brief = { task, role: 'api-token', on_behalf_of: await until(60, 'triage') }
    expect(secondsLeft((await test.call('POST', '/v1/leases', agent, brief)).body.lease.expires_at)).toBeLessThanOrEqual(60)

    const [short, long] = await Promise.all([20, 300].map(async (seconds) => test.openTask({ on_behalf_of: await until(seconds, 'flows') })))
    const obtain = (of = '') => test.call('POST', '/v1/leases', agent, { task: of, role: 'api-token' })
    expect(secondsLeft((await obtain(long)).body.lease.expires_at)).toBeLessThanOrEqual(300)
    expect(secondsLeft((await obtain(short)).body.lease.expires_at)).toBeLessThanOrEqual(20)
    // What the ledger keeps of the token says when it ends.
    const [key = ''] = await redis.client.keys(`*:task:${short}`)
    const proof = JSON.parse((await redis.client.hget(key, 'hp')) ?? '{}')
    await redis.client.hset(key, 'hp', JSON.stringify({ ...proof, tokenExpiresAt: Date.now() - 1_000 }))
    expect(await test.broker.house().ledger.task(short ?? '', { fresh: true })).toMatchObject({ human: 'ann' })
    expect(await obtain(short)).toMatchObject({ status: 403, body: { code: 'on_behalf_of_required' } })
    const again = await test.call('POST', '/v1/leases', agent, { task: short, role: 'api-token', on_behalf_of: await until(60, 'triage') })
    expect(again.status).toBe(201)
  })
})
