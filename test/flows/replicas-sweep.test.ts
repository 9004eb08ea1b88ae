import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { type BrokerProcess, type Prepared, prepare, SHORT_LIVED, startBrokerProcess } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const LEASES = 500
const AT_ONCE = 16
const PARTITIONS = 4

let redis: TestRedis
let upstream: RedisUpstream
let prepared: Prepared
let brokers: BrokerProcess[]

beforeAll(async () => {
  ;[redis, upstream] = await Promise.all([startRedis(), startRedisUpstream()])
  prepared = await prepare({
    redisSocket: redis.socketPath,
    partitions: PARTITIONS,
    providers: '  cache: {type: redis, url: env:CACHE_URL, concurrency: 4}',
    roles: '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 15m, params: {keys: ["reports:*"], commands: ["+@read"]}}',
    limits: `{requests_per_second: 10000, per_agent_live: ${LEASES}, per_task_live: ${LEASES}}`,
    env: { CACHE_URL: upstream.url },
  })
  brokers = await Promise.all(Array.from({ length: 3 }, () => startBrokerProcess(prepared, { node: SHORT_LIVED })))
}, 60_000)
afterAll(async () => {
  await Promise.all((brokers ?? []).map((broker) => broker.stop()))
  await Promise.all([redis?.stop(), upstream?.redis.stop()])
  if (prepared) rmSync(prepared.folder, { recursive: true, force: true })
})

const nth = (n: number) => brokers[n % brokers.length] as BrokerProcess
async function inTurn(count: number, work: (n: number) => Promise<void>): Promise<void> {
  let next = 0
  const line = async () => {
    for (let n = next++; n < count; n = next++) await work(n)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, line))
}
async function leases(): Promise<{ state: string; attempts: number }[]> {
  const keys = await redis.client.keys('mf:{p*}:lease:*')
  const records = await Promise.all(keys.map((key) => redis.client.hmget(key, 's', 'n')))
  return records.map(([state, attempts]) => ({ state: state ?? '', attempts: Number(attempts ?? 0) }))
}

describe('three brokers', () => {
  it(`share ${LEASES} leases that are due at once: each is taken back by one of them, and none is forgotten`, async () => {
    const tasks: string[] = []
    await inTurn(20, async (n) => {
      tasks[n] = await nth(n).openTask({ envelope: [{ role: 'cache-read' }] })
    })
    const agent = await prepared.token('triage')
    await inTurn(LEASES, async (n) => {
      const { status, body } = await nth(n).call('POST', '/v1/leases', agent, { task: tasks[n % tasks.length], role: 'cache-read', ttl: 600 })
      if (status !== 201) throw new Error(JSON.stringify(body))
    })
    expect(await upstream.users()).toHaveLength(LEASES)

    const ask = { selector: { all: true }, reason: 'all at once', freeze: false }
    expect((await nth(0).call('POST', '/v1/emergency/revoke', await prepared.token('oncall'), ask)).status).toBe(202)
    await waitFor('all to be settled', async () => (await leases()).every(({ state }) => state === 'r'), 60_000)
    expect(await upstream.users()).toEqual([])
    const seen = await leases()
    expect(seen).toHaveLength(LEASES)
    expect(seen.filter(({ attempts }) => attempts !== 1)).toEqual([])
    const [, calls] = /cmdstat_acl\|deluser:calls=(\d+)/.exec(String(await upstream.redis.client.info('commandstats'))) ?? []
    expect(Number(calls)).toBe(LEASES)
  }, 180_000)

  it('hand on the events of one that died, before long', async () => {
    // All that is held by now: the dead one's part has to be somebody else's.
    await nth(0).kill()
    const opened: string[] = []
    for (let n = 0; n < 10 * PARTITIONS; n++) opened.push(await nth(1 + (n % 2)).openTask())
    const written = () => readFileSync(join(prepared.folder, 'audit/events.jsonl'), 'utf8')
    // It held its part for ten seconds.
    await waitFor('every event', () => opened.every((task) => written().includes(task)), 30_000)
  }, 60_000)
})
