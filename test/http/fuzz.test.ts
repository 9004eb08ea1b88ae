import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { ROUTES } from '../../src/http/routes/index.js'
import { attack } from '../fuzz/attack.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const SEED = 20_261_129
const RUNS = 600

describe('whatever is sent to it', () => {
  let redis: TestRedis
  let test: TestBroker
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, partitions: 4 })
  }, 30_000)
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })

  it('it answers as its OpenAPI description says, and goes on', async () => {
    const { requests, routes, problems } = await attack(test, { seed: SEED, runs: RUNS })
    expect(problems).toEqual([])
    expect(requests).toBe(RUNS)
    const offered = ROUTES.filter(({ surfaces }) => surfaces.some((one) => one !== 'metrics')).map(({ method, path }) => `${method} ${path}`)
    const reached = new Set(Object.keys(routes).map((line) => line.replace(/ \d+$/, '')))
    expect(offered.filter((line) => !reached.has(line))).toEqual([])
    // Most of what is there was also reached by somebody who may.
    expect(Object.keys(routes).filter((line) => / 20\d$/.test(line)).length).toBeGreaterThan(20)

    expect(test.logs.filter((line) => line.includes('"level":50'))).toEqual([])
    const oncall = await test.token('oncall')
    for (const { id } of (await test.call('GET', '/v1/freezes', oncall)).body.freezes)
      await test.call('POST', `/v1/freezes/${id}/thaw`, oncall, { reason: 'over' })
    const task = await test.openTask()
    expect((await test.call('POST', '/v1/leases', await test.token('triage'), { task, role: 'api-token' })).status).toBe(201)
    // No key is called as somebody outside would have it.
    const keys = await redis.client.keys('*')
    expect(keys.filter((key) => !/^mf:(?:\{p\d\d\}:)?[\w:.\-{}]+$/.test(key))).toEqual([])
  }, 300_000)
})
