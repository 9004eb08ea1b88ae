import { symlink, unlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { pino } from 'pino'
import { createBroker } from '../../src/broker.js'
import { loadConfig } from '../../src/config.js'
import { initLedger } from '../../src/ledger/index.js'
import { type Callers, callersOf, startTestBroker, type TestBroker, type TestBrokerOptions } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** A Redis that went backwards, in every way that it may: nothing is issued on it, and nothing in use dies, until an operator has looked. */
const PARTITIONS = 8
/** Credentials that live when all is lost; `LIVE=1000` for the figure in docs/operations.md. */
const LIVE = Number(process.env.LIVE ?? 5)
const log = pino({ level: 'silent' })

let postgres: TestPostgres
let postgresUrl: string
const stops: (() => Promise<void>)[] = []

beforeAll(async () => {
  postgres = await startPostgres()
  await postgres.query('create role reporting_ro nologin')
  postgresUrl = await postgres.createBroker(['reporting_ro'])
}, 60_000)
afterAll(() => postgres?.stop())
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop().catch(() => undefined)
  const left = await postgres.query("select rolname from pg_roles where rolname like 'mf-test-%'")
  for (const { rolname } of left) await postgres.query(`drop role "${rolname}"`)
})

async function redisNow(config: readonly string[] = []): Promise<TestRedis> {
  const redis = await startRedis(config)
  stops.push(redis.stop)
  return redis
}
async function brokerNow(options: Omit<TestBrokerOptions, 'postgresUrl'>): Promise<TestBroker> {
  const test = await startTestBroker({ postgresUrl, partitions: PARTITIONS, ...options })
  stops.push(test.stop)
  return test
}
/** Another broker with the same folder: what it remembers is there. */
async function again(test: TestBroker): Promise<Callers & { readonly broker: TestBroker['broker'] }> {
  await test.broker.stop()
  const broker = await createBroker(await loadConfig(test.configPath, test.env), { log })
  const { public: url } = await broker.start()
  stops.push(() => broker.stop())
  return { ...callersOf(url, test), broker }
}

const envelope = [{ role: 'warehouse-read' }, { role: 'api-token' }]
const openTask = (on: Callers, more = {}) => on.openTask({ envelope, ...more })
const obtain = async (on: Callers, test: TestBroker, task: string, more = {}) =>
  on.call('POST', '/v1/leases', await test.token('triage'), { task, role: 'warehouse-read', ttl: 600, ...more })
/** Nothing while the ledger is away. */
const look = async (on: Callers, test: TestBroker) =>
  (await on.call('GET', '/v1/quarantine', await test.token('oncall'))).body.quarantine ?? { state: 'unknown' }
const lift = async (on: Callers, test: TestBroker) => on.call('POST', '/v1/quarantine/lift', await test.token('oncall'), { reason: 'looked at it' })
const whenSeen = (on: Callers, test: TestBroker, state: string) =>
  waitFor(`the ledger to be ${state}`, async () => {
    const seen = await look(on, test)
    return seen.state === state && (state !== 'quarantined' || seen.logs.length > 0) ? seen : undefined
  })
const upstream = async (): Promise<string[]> =>
  (await postgres.query("select rolname from pg_roles where rolname like 'mf-test-%'")).map(({ rolname }) => String(rolname)).sort()
const written = (test: TestBroker) => waitFor('events to be written', async () => (await test.broker.house().ledger.outbox.length()) === 0)
const leaseNow = async (on: Callers, test: TestBroker, id: string) =>
  (await on.call('GET', `/v1/leases/${id}`, await test.token('oncall'))).body.lease

/** Every key as it is now; the answer puts them back, in one step and on connections that stay. */
async function backup({ client }: TestRedis): Promise<() => Promise<void>> {
  const all = await Promise.all(
    (await client.keys('*')).map(async (key) => ({ key, value: await client.dumpBuffer(key), ttl: Math.max(0, await client.pttl(key)) })),
  )
  return async () => {
    const step = client.multi().flushall()
    for (const { key, value, ttl } of all) if (value) step.restore(key, ttl, value)
    await step.exec()
  }
}

describe('a ledger that was emptied', () => {
  it('issues nothing on a connection that stays, and what was live is listed once it was made anew', async () => {
    const redis = await redisNow()
    const test = await brokerNow({ redisSocket: redis.socketPath, limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 100000}' })
    const [task, frozen] = [await openTask(test), await openTask(test)]
    for (let made = 0; made < LIVE; ) {
      const some = await Promise.all(Array.from({ length: Math.min(20, LIVE - made) }, () => obtain(test, test, task)))
      expect(some.filter(({ status }) => status !== 201)).toEqual([])
      made += some.length
    }
    expect(await upstream()).toHaveLength(LIVE)
    const oncall = await test.token('oncall')
    await test.call('POST', '/v1/freezes', oncall, { selector: { task: frozen }, reason: 'odd' })
    await written(test)

    let isEmpty = false
    let issued = 0
    let isOver = false
    const flows = await test.token('flows')
    const load = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const wasEmpty = isEmpty
        const opened = await test.call('POST', '/v1/tasks', flows, { ...taskBody(), envelope })
        const lease = await obtain(test, test, opened.status === 201 ? opened.body.task.id : task, { role: 'api-token' })
        if (wasEmpty) issued += [opened, lease].filter(({ status }) => status === 201).length
        if (wasEmpty) expect([opened.body.code, ['quarantined', 'not_found']]).toEqual(['quarantined', expect.arrayContaining([lease.body.code])])
      }
    })
    await redis.client.flushall()
    isEmpty = true
    expect((await whenSeen(test, test, 'lost')).state).toBe('lost')
    expect((await test.call('GET', '/readyz', '')).body).toMatchObject({ state: 'ready', ledger: { quarantine: { reason: 'lost' } } })
    expect((await lift(test, test)).body).toMatchObject({ code: 'quarantined', next: expect.stringContaining('--after-loss') })
    isOver = true
    await Promise.all(load)
    expect(issued).toBe(0)

    await initLedger({ instance: 'test', partitions: PARTITIONS, redis: { socketPath: redis.socketPath }, afterLoss: true })
    const seen = await whenSeen(test, test, 'quarantined')
    expect(seen).toMatchObject({ reason: 'lost', logs: [{ gaps: [], applied: { frozen: 1 } }] })
    expect(seen.logs[0].unknown.find(({ provider }: { provider: string }) => provider === 'warehouse')).toMatchObject({ leases: LIVE })
    expect((await test.call('POST', '/v1/tasks', flows, { ...taskBody(), envelope })).body.code).toBe('quarantined')
    expect(await upstream()).toHaveLength(LIVE)

    const { body } = await lift(test, test)
    expect(body.quarantine).toMatchObject({ state: 'lifted', lifted: { by: 'oncall', reason: 'looked at it' } })
    expect((await obtain(test, test, await openTask(test))).status).toBe(201)
    expect((await test.call('GET', '/v1/freezes', oncall)).body.freezes).toMatchObject([{ selector: { task: [frozen] } }])
    expect((await look(test, test)).state).toBe('lifted')

    // What the new ledger does not know is found upstream, and taken back when an operator says so.
    const before = performance.now()
    await waitFor(
      'all that was forgotten to be found and revoked',
      async () => {
        const ask = { providers: ['warehouse'], revoke: true, wait: true, deadline: 60 }
        const { status } = await test.call('POST', '/v1/reconciliations', await test.token('oncall'), ask)
        return status === 200 && (await upstream()).length === 1
      },
      120_000,
    )
    if (process.env.LIVE) process.stderr.write(`${LIVE} forgotten logins found and revoked in ${Math.round(performance.now() - before)} ms\n`)
  }, 300_000)

  it('is recognised at the start, by a broker that is told to make a ledger of what is empty', async () => {
    const redis = await redisNow()
    const test = await brokerNow({ redisSocket: redis.socketPath })
    await obtain(test, test, await openTask(test))
    await written(test)
    await test.broker.stop()
    await redis.client.flushall()
    const broker = await createBroker(await loadConfig(test.configPath, test.env), { log, initLedger: true })
    stops.push(() => broker.stop())
    const on = callersOf((await broker.start()).public, test)
    expect(await whenSeen(on, test, 'quarantined')).toMatchObject({ reason: 'another', logs: [{ unknown: [{ provider: 'warehouse', leases: 1 }] }] })
    await lift(on, test)
    // Once is enough.
    await broker.stop()
    const next = await createBroker(await loadConfig(test.configPath, test.env), { log })
    stops.push(() => next.stop())
    expect((await look(callersOf((await next.start()).public, test), test)).state).toBe('lifted')
  }, 30_000)
})

describe('a backup that was restored', () => {
  it('kills nothing that is in use, knows what was ended, frozen and renewed since, and issues again at the word of an operator', async () => {
    const redis = await redisNow()
    const test = await brokerNow({ redisSocket: redis.socketPath })
    const other = await brokerNow({ redisSocket: redis.socketPath, like: test })
    const oncall = await test.token('oncall')
    const [kept, over] = [await openTask(test), await openTask(test)]
    const used = (await obtain(test, test, kept, { ttl: 20 })).body.lease
    const ended = (await obtain(test, test, over)).body.lease
    const restore = await backup(redis)

    const renewed = await test.call('POST', `/v1/leases/${used.id}/renew`, await test.token('triage'), { ttl: 900 })
    expect(renewed.status).toBe(200)
    const fresh = (await obtain(test, test, kept)).body.lease
    expect((await test.call('POST', `/v1/tasks/${over}/complete?wait=10`, await test.token('flows'), {})).body.leases).toMatchObject([
      { state: 'revoked' },
    ])
    const { freeze } = (await test.call('POST', '/v1/freezes', oncall, { selector: { agent: 'reporter' }, reason: 'odd' })).body
    await Promise.all([written(test), written(other)])
    const before = await upstream()
    expect(before).toHaveLength(2)

    await restore()
    // At once by who remembers, within a second by others.
    expect((await obtain(test, test, over)).body.code).toBe('quarantined')
    for (const on of [test, other]) {
      const opened = async () => on.call('POST', '/v1/tasks', await test.token('flows'), { ...taskBody(), envelope })
      await waitFor('nothing to be opened', async () => (await opened()).body.code === 'quarantined')
      // Its end may have been done again by then.
      expect(['quarantined', 'task_ended']).toContain((await obtain(on, test, over)).body.code)
      expect((await on.call('POST', `/v1/leases/${used.id}/renew`, await test.token('triage'), { ttl: 900 })).body.code).toBe('quarantined')
    }
    const seen = await waitFor('both logs to be read', async () => {
      const quarantine = await look(test, test)
      return quarantine.logs?.length === 2 ? quarantine : undefined
    })
    expect(seen).toMatchObject({ state: 'quarantined', reason: 'behind' })
    const sum = (name: string) =>
      seen.logs.reduce((total: number, { applied }: { applied: Record<string, number> }) => total + (applied[name] ?? 0), 0)
    expect([sum('ended'), sum('frozen'), sum('extended')]).toEqual([1, 1, 1])
    expect(seen.logs.flatMap(({ examples }: { examples: { lease: string }[] }) => examples.map(({ lease }) => lease))).toEqual([fresh.id])
    // What was ended since is ended, and taken back once more; what is used lives as long as it was renewed to.
    expect((await test.call('GET', `/v1/tasks/${over}`, await test.token('flows'))).body.task.state).toBe('completed')
    await waitFor('the lease of the ended task', async () => (await leaseNow(test, test, ended.id)).state === 'revoked')
    expect(await leaseNow(test, test, used.id)).toMatchObject({ state: 'active', expires_at: renewed.body.lease.expires_at })
    expect((await test.call('GET', '/v1/freezes', oncall)).body.freezes.map(({ id }: { id: string }) => id)).toContain(freeze.id)
    expect(await upstream()).toEqual(before)

    // What narrows goes on.
    const doomed = await test.call('POST', '/v1/emergency/revoke', oncall, { selector: { task: [kept] }, reason: 'INC', dry_run: true })
    expect(doomed.body.matched).toBe(1)

    expect((await lift(other, test)).status).toBe(200)
    await waitFor('both to go on', async () => {
      const answers = await Promise.all([test, other].map(async (on) => obtain(on, test, kept, { role: 'api-token' })))
      return answers.every(({ status }) => status === 201)
    })
    expect((await leaseNow(test, test, used.id)).state).toBe('active')
    expect(await upstream()).toEqual(before)
  }, 60_000)

  it('is recognised at the start, whatever a broker that remembers nothing did to it before', async () => {
    const redis = await redisNow()
    const test = await brokerNow({ redisSocket: redis.socketPath })
    const task = await openTask(test)
    const beat = async () => Object.entries(await redis.client.hgetall('mf:meta')).find(([field]) => field.startsWith('beat:'))?.[1]
    const first = await waitFor('the broker to leave its name in the ledger', beat)
    const restore = await backup(redis)
    await waitFor('it to do so again', async () => (await beat()) !== first)
    await obtain(test, test, task)
    await written(test)
    await test.broker.stop()
    await restore()
    // One event in each partition: none is behind any more.
    const stranger = await brokerNow({ redisSocket: redis.socketPath, like: test })
    for (let n = 0; n < 40; n++) await openTask(stranger)
    await written(stranger)
    expect((await look(stranger, test)).state).toBe('none')
    const broker = await createBroker(await loadConfig(test.configPath, test.env), { log })
    stops.push(() => broker.stop())
    const on = callersOf((await broker.start()).public, test)
    expect(await whenSeen(on, test, 'quarantined')).toMatchObject({ reason: 'behind' })
    await waitFor(
      'the other to know',
      async () => (await stranger.call('POST', '/v1/tasks', await test.token('flows'), { ...taskBody(), envelope })).body.code === 'quarantined',
    )
  }, 60_000)
})

describe('a failover', () => {
  it('that lost nothing is none of this, and one that lost what was acknowledged is', async () => {
    const port = await freePort()
    const primary = await redisNow([`port ${port}`])
    const [good, bad] = [await redisNow(), await redisNow()]
    const test0 = join(primary.socketPath, '../address')
    await symlink(primary.socketPath, test0)
    const test = await brokerNow({ redisSocket: test0 })
    const task = await openTask(test)
    for (const one of [good, bad]) await one.client.replicaof('127.0.0.1', port)
    const inStep = (one: TestRedis) =>
      waitFor('the replica to have it all', async () => {
        const [a, b] = await Promise.all(
          [primary, one].map(async ({ client }) => /master_repl_offset:(\d+)/.exec(await client.info('replication'))?.[1]),
        )
        return a !== undefined && a === b && /master_link_status:up/.test(await one.client.info('replication'))
      })
    await Promise.all([inStep(good), inStep(bad)])
    const turnTo = async (from: TestRedis, to: TestRedis) => {
      await to.client.replicaof('NO', 'ONE')
      await unlink(test0)
      await symlink(to.socketPath, test0)
      await from.kill()
    }
    await bad.client.replicaof('NO', 'ONE')
    expect((await obtain(test, test, task)).status).toBe(201)
    await written(test)
    await inStep(good)
    await turnTo(primary, good)
    await waitFor('issuing to go on', async () => (await obtain(test, test, task, { role: 'api-token' }).catch(() => undefined))?.status === 201)
    expect((await look(test, test)).state).toBe('none')

    await turnTo(good, bad)
    expect(await whenSeen(test, test, 'quarantined')).toMatchObject({ reason: 'behind' })
    expect((await obtain(test, test, task)).body.code).toBe('quarantined')
  }, 60_000)
})

describe('nothing is wrong', () => {
  it('with a broker or a Redis that starts again, an AOF that is rewritten, an outbox that is trimmed, or no event at all', async () => {
    const redis = await redisNow(['appendonly yes', 'appendfsync always'])
    const test = await brokerNow({ redisSocket: redis.socketPath })
    const goesOn = async (on: Callers) =>
      waitFor('issuing to go on', async () => {
        const task = await openTask(on).catch(() => undefined)
        return task !== undefined && (await obtain(on, test, task, { role: 'api-token' })).status === 201
      })
    await redis.restart()
    await goesOn(test)
    await written(test)
    await redis.client.bgrewriteaof()
    await waitFor('the rewrite', async () => /aof_rewrite_in_progress:0/.test(await redis.client.info('persistence')))
    await redis.restart()
    const on = await again(test)
    await goesOn(on)
    await written(test).catch(() => undefined)
    expect((await look(on, test)).state).toBe('none')
  }, 60_000)
})

function taskBody() {
  return {
    intent: 'incident-triage',
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: [{ agent: 'triage' }],
    deadline_at: new Date(Date.now() + 600_000).toISOString(),
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
