import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const TOKEN_SECONDS = 600

describe('within the life of the token that asked', () => {
  let postgres: TestPostgres
  let redis: TestRedis
  let test: TestBroker
  beforeAll(async () => {
    ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
    test = await startTestBroker({
      redisSocket: redis.socketPath,
      postgresUrl: await postgres.createBroker(['reporting_ro']),
      limits: '{within_token_life: true}',
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
})
