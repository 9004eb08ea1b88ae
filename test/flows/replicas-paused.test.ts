import { readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { type BrokerProcess, type Prepared, prepare, SHORT_LIVED, startBrokerProcess } from '../support/broker.js'
import { type Instrumented, instrument } from '../support/failpoints.js'
import { type PausingProxy, startPausingProxy } from '../support/faulty-upstream.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/**
 * A broker that is stopped in the middle of something (SIGSTOP: a paused machine, a frozen container) for longer than its claims last, while
 * another goes on, and that wakes up believing that no time has passed.
 */
const ROLE = 'warehouse-read'
const ENTRY = join(import.meta.dirname, '../support/broker-main.mjs')
/** Instead of 30 s: longer than the upstream's timeout of 2 s and what must be left of a claim. */
const OVERRIDES = JSON.stringify({ visibilityMs: 6_000 })

let postgres: TestPostgres
let redis: TestRedis
let proxy: PausingProxy
let copy: Instrumented
/** Of those that are paused: PostgreSQL is behind a proxy for them. */
let paused: Prepared
let other: Prepared
let awake: BrokerProcess
const running = new Set<BrokerProcess>()

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  proxy = await startPausingProxy({ host: postgres.host, port: postgres.port })
  const url = new URL(await postgres.createBroker(['reporting_ro']))
  const options = { redisSocket: redis.socketPath, postgresTimeout: '2s', partitions: 4 }
  other = await prepare({ ...options, postgresUrl: url.href })
  url.port = String(proxy.port)
  paused = await prepare({ ...options, postgresUrl: url.href, like: other })
  copy = instrument(['issue', 'revoke'])
  awake = await start(other)
}, 60_000)
afterEach(() => Promise.all([...running].filter((broker) => broker !== awake).map((broker) => broker.kill())))
afterAll(async () => {
  await awake?.stop()
  copy?.remove()
  await proxy?.close()
  await Promise.all([postgres?.stop(), redis?.stop()])
  for (const { folder } of [paused, other].filter(Boolean)) rmSync(folder, { recursive: true, force: true })
})

async function start(configuration: Prepared, stopAt?: string): Promise<BrokerProcess> {
  const env = { MAYFLY_TEST_DIST: dirname(copy.main), MAYFLY_TEST_OVERRIDES: OVERRIDES, MAYFLY_FAILPOINT_SIGNAL: 'SIGSTOP' }
  const broker = await startBrokerProcess(configuration, {
    main: ENTRY,
    node: SHORT_LIVED,
    env: { ...env, ...(stopAt !== undefined && { MAYFLY_FAILPOINT: stopAt }) },
  })
  running.add(broker)
  void broker.ended.then(() => running.delete(broker))
  return broker
}

const isStopped = ({ pid }: BrokerProcess) => / T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/\(.*\)/, ''))
const untilStopped = (broker: BrokerProcess) => waitFor('the broker to be stopped', () => isStopped(broker), 20_000)
const logins = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const openTask = () => awake.openTask({ envelope: [{ role: ROLE }] })
const obtain = async (broker: BrokerProcess, task: string) =>
  broker.call('POST', '/v1/leases', await other.token('triage'), { task, role: ROLE, ttl: 300 })
const leaseOf = async (task: string) =>
  (await awake.call('GET', `/v1/leases?task=${task}`, await other.token('oncall'))).body.leases as { id: string; state: string; cause?: string }[]
const settled = (what: string, task: string) =>
  waitFor(
    what,
    async () => {
      const leases = await leaseOf(task)
      return leases.length > 0 && leases.every(({ state }) => state === 'revoked') ? leases : undefined
    },
    30_000,
  )
const works = async (connectionString: string) => {
  const client = new pg.Client({ connectionString })
  return client.connect().then(
    () => client.end().then(() => true),
    () => false,
  )
}
/** From all replicas' metrics. */
async function counted(brokers: readonly BrokerProcess[]): Promise<number> {
  const texts = await Promise.all(brokers.map(async ({ metricsUrl }) => (await fetch(`${metricsUrl}/metrics`)).text()))
  const lines = texts.flatMap((text) => text.split('\n')).filter((line) => /^mayfly_leases_settled_total\{.*outcome="revoked"/.test(line))
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}
/** What both wrote down of a lease, once all is handed over. */
async function told(lease: string): Promise<string[]> {
  const lines = [paused, other].flatMap(({ folder }) => {
    try {
      return readFileSync(join(folder, 'audit/events.jsonl'), 'utf8').split('\n').filter(Boolean)
    } catch {
      return []
    }
  })
  const events = lines.map((line) => JSON.parse(line) as { id: string; type: string; lease?: string })
  // What one wrote and could not confirm any more, the other wrote again.
  const once = new Map(events.filter((event) => event.lease === lease).map(({ id, type }) => [id, type]))
  return [...once.values()].filter((type) => type.startsWith('lease.'))
}

describe('a broker that is paused for longer than its claims last', () => {
  it('between the end upstream and its note: another settles, and nothing is settled, told or taken back twice', async () => {
    const broker = await start(paused, 'revoke:revoke:1:after')
    const before = await counted([awake, broker])
    const task = await openTask()
    const { body } = await obtain(broker, task)
    const id = body.lease.id
    const returned = broker.call('DELETE', `/v1/leases/${id}?wait=20`, await other.token('triage'))
    await untilStopped(broker)
    expect(await logins()).toBe(0)
    expect(await settled('the other to take it over', task)).toMatchObject([{ id, cause: 'released' }])

    const next = await obtain(awake, task)
    expect(next.status).toBe(201)
    broker.signal('SIGCONT')
    expect(await returned).toMatchObject({ status: 200, body: { lease: { id, state: 'revoked' } } })
    expect(await works(next.body.credential.url)).toBe(true)
    expect(await counted([awake, broker])).toBe(before + 1)
    // It is as good as before.
    expect((await obtain(broker, task)).status).toBe(201)
    await awake.call('POST', `/v1/tasks/${task}/complete?wait=20`, await other.token('flows'), {})
    await settled('the end of the task', task)
    await broker.stop()
    await waitFor('the events', async () => (await told(id)).includes('lease.revoked'), 30_000)
    expect((await told(id)).sort()).toEqual(['lease.closing', 'lease.issued', 'lease.reserved', 'lease.revoked'])
  }, 90_000)

  it('between the mint and its note: what it made is gone by then, and is not handed out', async () => {
    const broker = await start(paused, 'issue:issue:2:after')
    const task = await openTask()
    const asked = obtain(broker, task)
    await untilStopped(broker)
    expect(await logins()).toBe(1)
    expect(await settled('the other to take back what nobody reported', task)).toMatchObject([{ cause: 'mint_timeout' }])
    expect(await logins()).toBe(0)

    broker.signal('SIGCONT')
    const { status, body } = await asked
    expect({ status, code: body.code }).toEqual({ status: 409, code: 'task_ended' })
    const [lease] = await settled('what it wrote down all the same', task)
    expect(await logins()).toBe(0)
    await broker.stop()
    await waitFor('the events', async () => (await told(lease?.id ?? '')).includes('lease.revoked'), 30_000)
    expect(await told(lease?.id ?? '')).not.toContain('lease.issued')
  }, 90_000)

  it('before its mint arrives: the upstream refuses by its own clock what comes too late', async () => {
    const broker = await start(paused)
    const task = await openTask()
    proxy.pauseAt('LOGIN PASSWORD')
    const asked = obtain(broker, task)
    await proxy.paused()
    broker.signal('SIGSTOP')
    await untilStopped(broker)
    expect(await settled('the other to give it up', task)).toMatchObject([{ cause: 'mint_timeout' }])
    await proxy.resume()
    expect(await logins()).toBe(0)
    broker.signal('SIGCONT')
    expect((await asked).status).toBeGreaterThanOrEqual(400)
    await settled('what it wrote down', task)
    expect(await logins()).toBe(0)
    expect((await obtain(broker, task)).status).toBe(201)
    await awake.call('POST', `/v1/tasks/${task}/complete?wait=20`, await other.token('flows'), {})
    await waitFor('no login upstream', async () => (await logins()) === 0, 30_000)
  }, 90_000)
})
