import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Longer than anything here waits for: what waits for a hanging upstream does not make it in time. */
const HANGS_SECONDS = 8
const SOON_MS = 4_000

/** The ledger's Redis; an upstream that will hang, behind two providers whose names come first; and one that works. */
let redis: TestRedis
let hanging: RedisUpstream
let working: RedisUpstream
let test: TestBroker
let agent: string

const role = (provider: string) =>
  `  ${provider}-read: {provider: ${provider}, access: read, sensitivity: internal, max_ttl: 5m, max_lifetime: 30m, params: {keys: ["reports:*"], commands: ["+@read"]}}`

beforeAll(async () => {
  ;[redis, hanging, working] = await Promise.all([startRedis(), startRedisUpstream(), startRedisUpstream()])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    providers: `  a-hanging: {type: redis, url: env:HANGING_URL, concurrency: 2, timeout: ${HANGS_SECONDS}s}
  b-hanging: {type: redis, url: env:HANGING_URL, concurrency: 2, timeout: ${HANGS_SECONDS}s}
  works: {type: redis, url: env:WORKING_URL}`,
    roles: ['a-hanging', 'b-hanging', 'works'].map(role).join('\n'),
    env: { HANGING_URL: hanging.url, WORKING_URL: working.url },
  })
  agent = await test.token('triage')
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis, hanging?.redis, working?.redis].map((one) => one?.stop()))
})

const openTask = () => test.openTask({ envelope: ['a-hanging', 'b-hanging', 'works'].map((name) => ({ role: `${name}-read` })) })
const obtain = async (task: string, provider: string, ttl = 300) => {
  const { status, body } = await test.call('POST', '/v1/leases', agent, { task, role: `${provider}-read`, ttl })
  if (status !== 201) throw new Error(JSON.stringify(body))
  return body.lease.id as string
}
const suspend = () => process.kill(hanging.redis.pid(), 'SIGSTOP')
const resume = () => process.kill(hanging.redis.pid(), 'SIGCONT')

describe('an upstream that hangs', () => {
  it('does not keep what is due elsewhere waiting', async () => {
    const task = await openTask()
    for (let n = 0; n < 4; n++) await obtain(task, 'a-hanging', 1)
    suspend()
    try {
      await waitFor('the hanging upstream to be asked', async () => {
        const page = await test.call('GET', '/v1/leases?state=closing&provider=a-hanging', await test.token('oncall'))
        return page.body.leases.length === 4
      })
      await obtain(task, 'works', 1)
      await waitFor('the working upstream to be rid of its user', async () => (await working.users()).length === 0, SOON_MS)
    } finally {
      resume()
    }
    await waitFor('all to be settled', async () => (await hanging.users()).length === 0, 60_000)
  }, 90_000)

  it('does not keep an emergency from reaching the others', async () => {
    const task = await openTask()
    for (const provider of ['a-hanging', 'a-hanging', 'b-hanging', 'b-hanging', 'works']) await obtain(task, provider)
    suspend()
    try {
      const ask = { selector: { all: true }, reason: 'the stop', freeze: false }
      expect((await test.call('POST', '/v1/emergency/revoke', await test.token('oncall'), ask)).status).toBe(202)
      await waitFor('the working upstream to be rid of its user', async () => (await working.users()).length === 0, SOON_MS)
    } finally {
      resume()
    }
    await waitFor('all to be settled', async () => (await hanging.users()).length === 0, 60_000)
  }, 90_000)
})
