import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import pg from 'pg'
import { type BrokerProcess, type Prepared, prepare, SHORT_LIVED, startBrokerProcess } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Wall clocks of brokers that are an hour off, each way, on one ledger whose clock is right. */
const HOUR = 3_600_000
const PRELOAD = ['--import', pathToFileURL(join(import.meta.dirname, '../support/clock.mjs')).href]
const TTL_SECONDS = 300
/** What a busy machine takes for a request. */
const SLACK_MS = 20_000

let postgres: TestPostgres
let redis: TestRedis
let prepared: Prepared
let ahead: BrokerProcess
let behind: BrokerProcess

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  prepared = await prepare({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    partitions: 4,
  })
  const start = (skewMs: number) => startBrokerProcess(prepared, { node: [...SHORT_LIVED, ...PRELOAD], env: { MAYFLY_TEST_SKEW_MS: String(skewMs) } })
  ;[ahead, behind] = await Promise.all([start(HOUR), start(-HOUR)])
}, 60_000)
afterAll(async () => {
  await Promise.all([ahead?.stop(), behind?.stop()])
  await Promise.all([postgres?.stop(), redis?.stop()])
  if (prepared) rmSync(prepared.folder, { recursive: true, force: true })
})

const brokers = () => [
  { name: 'an hour ahead', broker: ahead },
  { name: 'an hour behind', broker: behind },
]
const obtain = async (broker: BrokerProcess, task: string, role: string, ttl = TTL_SECONDS) =>
  broker.call('POST', '/v1/leases', await prepared.token('triage'), { task, role, ttl })
const openTask = (broker: BrokerProcess, role: string) => broker.openTask({ envelope: [{ role }] })
/** That a time is what it should be, by the clock of this process. */
const expectAbout = (ms: number, from: number, plusSeconds: number) => {
  expect(ms).toBeGreaterThanOrEqual(from + plusSeconds * 1000 - 2_000)
  expect(ms).toBeLessThanOrEqual(from + plusSeconds * 1000 + SLACK_MS)
}
const works = async (connectionString: string) => {
  const client = new pg.Client({ connectionString })
  return client.connect().then(
    () => client.end().then(() => true),
    () => false,
  )
}

describe('a broker whose clock is an hour off', () => {
  it('has its own clock', async () => {
    const times = brokers().map(({ broker }) => Number(/"time":(\d+)/.exec(broker.output())?.[1]))
    expectAbout(times[0] ?? 0, Date.now() - SLACK_MS, HOUR / 1000)
    expectAbout(times[1] ?? 0, Date.now() - SLACK_MS, -HOUR / 1000)
  })

  it('gives credentials the end that the ledger means, in its answer, at the upstream and in what it signs', async () => {
    for (const { broker } of brokers()) {
      const began = Date.now()
      const { status, body } = await obtain(broker, await openTask(broker, 'warehouse-read'), 'warehouse-read')
      expect(status).toBe(201)
      expectAbout(Date.parse(body.lease.expires_at), began, TTL_SECONDS)
      const [login] = await postgres.query('select extract(epoch from rolvaliduntil) * 1000 as until from pg_roles where rolname = $1', [
        body.credential.username,
      ])
      expect(Number(login?.until)).toBe(Date.parse(body.lease.expires_at))

      const signed = await obtain(broker, await openTask(broker, 'api-signed'), 'api-signed')
      const { iat = 0, exp = 0 } = decodeJwt(signed.body.credential.token)
      expectAbout(iat * 1000, began, 0)
      expectAbout(exp * 1000, began, TTL_SECONDS)
      // How long it goes on after a revoke that only its own end can bring about.
      expect(signed.body.lease.revocation.residual_seconds).toBeGreaterThan(TTL_SECONDS - SLACK_MS / 1000)
      expect(signed.body.lease.revocation.residual_seconds).toBeLessThan(TTL_SECONDS + 90)
    }
  }, 60_000)

  it('ends nothing early and nothing late, its own and those of the other', async () => {
    for (const [from, other] of [
      [ahead, behind],
      [behind, ahead],
    ] as const) {
      const task = await openTask(from, 'warehouse-read')
      const [short, long] = [await obtain(from, task, 'warehouse-read', 2), await obtain(from, task, 'warehouse-read')]
      expect([short.status, long.status]).toEqual([201, 201])
      const end = Date.parse(short.body.lease.expires_at)
      const oncall = await prepared.token('oncall')
      const lease = await waitFor(
        'the short one to be taken back',
        async () => {
          const { body } = await other.call('GET', `/v1/leases/${short.body.lease.id}`, oncall)
          return body.lease.state === 'revoked' ? body.lease : undefined
        },
        30_000,
      )
      expect(Date.parse(lease.settled_at)).toBeGreaterThanOrEqual(end)
      expect(await works(short.body.credential.url)).toBe(false)
      // Both have swept by then.
      expect(await works(long.body.credential.url)).toBe(true)
      expect((await other.call('POST', `/v1/tasks/${task}/complete?wait=5`, await prepared.token('flows'), {})).status).toBe(200)
      await waitFor('the long one to be taken back with its task', async () => !(await works(long.body.credential.url)))
    }
  }, 90_000)

  it('takes tokens by the clock of the ledger', async () => {
    const now = Math.floor(Date.now() / 1000)
    const [good, old, early] = [
      await prepared.token('triage'),
      await prepared.token('triage', { iat: now - 3_000, exp: now - 2_400 }),
      await prepared.token('triage', { nbf: now + 1_800 }),
    ]
    for (const { name, broker } of brokers()) {
      const ask = async (token: string) => (await broker.call('GET', '/v1/whoami', token)).status
      // The second was good until forty minutes ago; the third will be, in half an hour.
      expect({ name, good: await ask(good), old: await ask(old), early: await ask(early) }).toEqual({ name, good: 200, old: 401, early: 401 })
    }
  })

  it('takes them by it while its own clock is being set', async () => {
    const now = Math.floor(Date.now() / 1000)
    const [flip, good, old] = [ahead, await prepared.token('triage'), await prepared.token('triage', { iat: now - 3_000, exp: now - 2_400 })]
    for (let times = 0; times < 2; times++) {
      flip.signal('SIGUSR2')
      // The next look at the ledger's clock is up to a second away.
      for (let n = 0; n < 20; n++) {
        const asked = [good, old].map(async (token) => (await flip.call('GET', '/v1/whoami', token)).status)
        expect(await Promise.all(asked)).toEqual([200, 401])
      }
    }
  })

  it('takes back at its end what it renewed', async () => {
    for (const { broker } of brokers()) {
      const task = await openTask(broker, 'warehouse-read')
      const first = await obtain(broker, task, 'warehouse-read', 60)
      const began = Date.now()
      const renewed = await broker.call('POST', `/v1/leases/${first.body.lease.id}/renew`, await prepared.token('triage'), { ttl: 120 })
      expect(renewed.status).toBe(200)
      expectAbout(Date.parse(renewed.body.lease.expires_at), began, 120)
      await broker.call('POST', `/v1/tasks/${task}/complete?wait=5`, await prepared.token('flows'), {})
    }
  })

  it('hands on the events of what it did under the time of the ledger', async () => {
    const began = Date.now()
    for (const { broker } of brokers()) {
      const task = await openTask(broker, 'api-token')
      const { body } = await broker.call('GET', `/v1/tasks/${task}`, await prepared.token('flows'))
      expectAbout(Date.parse(body.task.opened_at), began, 0)
    }
  })
})
