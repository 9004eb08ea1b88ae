import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type BrokerProcess, type Prepared, prepare, SHORT_LIVED, startBrokerProcess } from '../support/broker.js'
import { type HoldingProxy, startHoldingProxy } from '../support/holding-proxy.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** An approval that a lease holds while the upstream mints is freed or spent, never both, whatever dies then. */
let postgres: TestPostgres
let redis: TestRedis
let proxy: HoldingProxy
let prepared: Prepared
let broker: BrokerProcess

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role writers nologin')
  proxy = await startHoldingProxy({ host: postgres.host, port: postgres.port })
  const url = new URL(await postgres.createBroker(['writers']))
  url.port = String(proxy.port)
  prepared = await prepare({
    redisSocket: redis.socketPath,
    postgresUrl: url.href,
    postgresTimeout: '2s',
    roles: '  warehouse-write: {provider: warehouse, access: write, sensitivity: restricted, max_ttl: 15m, params: {member_of: [writers]}}',
  })
  broker = await startBrokerProcess(prepared, { node: SHORT_LIVED })
}, 60_000)
afterAll(async () => {
  await broker?.kill()
  await proxy?.close()
  await Promise.all([postgres?.stop(), redis?.stop()])
  if (prepared) rmSync(prepared.folder, { recursive: true, force: true })
})

const loginsUpstream = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const obtain = async (task: string, more: object = {}) =>
  broker.call('POST', '/v1/leases', await prepared.token('triage'), { task, role: 'warehouse-write', ...more })
const stateOf = async (id: string) => (await broker.call('GET', `/v1/approvals/${id}`, await prepared.token('triage'))).body.approval.state

async function granted(): Promise<{ task: string; approval: string }> {
  const task = await broker.openTask({ envelope: [{ role: 'warehouse-write' }] })
  const { id } = (await obtain(task)).body.approval
  await broker.call('POST', `/v1/approvals/${id}/approve`, await prepared.token('oncall'), {})
  return { task, approval: id }
}

describe('an approval that a lease holds', () => {
  it('is free again when the broker died while the upstream minted, and is spent by the next lease alone', async () => {
    const { task, approval } = await granted()
    proxy.holdAfter('CREATE ROLE')
    const asked = obtain(task, { approval }).catch(() => undefined)
    await proxy.held()
    expect(await stateOf(approval)).toBe('bound')
    expect((await obtain(task, { approval })).body.code).toBe('approval_invalid')
    await broker.kill()
    await asked
    proxy.release()
    broker = await startBrokerProcess(prepared, { node: SHORT_LIVED })
    await waitFor('the lease to be settled and its approval freed', async () => (await stateOf(approval)) === 'granted', 30_000)
    expect(await loginsUpstream()).toBe(0)
    const again = await Promise.all([obtain(task, { approval }), obtain(task, { approval })])
    expect(again.map(({ status }) => status).toSorted()).toEqual([201, 403])
    expect(await stateOf(approval)).toBe('spent')
    expect(await loginsUpstream()).toBe(1)
    await broker.call('POST', `/v1/tasks/${task}/complete?wait=10`, await prepared.token('flows'), {})
  }, 60_000)

  it('is free again when the upstream failed, and over when its task ended meanwhile', async () => {
    const { task, approval } = await granted()
    proxy.holdAfter('CREATE ROLE')
    const late = await obtain(task, { approval })
    expect(late.status).toBe(504)
    proxy.release()
    await waitFor('the approval to be freed', async () => (await stateOf(approval)) === 'granted', 30_000)

    proxy.holdAfter('CREATE ROLE')
    const asked = obtain(task, { approval })
    await proxy.held()
    await broker.call('POST', `/v1/tasks/${task}/complete`, await prepared.token('flows'), {})
    proxy.release()
    expect((await asked).status).not.toBe(201)
    await waitFor('the approval to be over', async () => (await stateOf(approval)) === 'expired', 30_000)
    await waitFor('no login upstream', async () => (await loginsUpstream()) === 0, 30_000)
  }, 60_000)
})
