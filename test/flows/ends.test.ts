import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { type PausingProxy, startPausingProxy } from '../support/faulty-upstream.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

let redis: TestRedis
let postgres: TestPostgres
let proxy: PausingProxy
let test: TestBroker
let agent: string
let flows: string
let oncall: string

beforeAll(async () => {
  ;[redis, postgres] = await Promise.all([startRedis(), startPostgres()])
  proxy = await startPausingProxy({ host: postgres.host, port: postgres.port })
  const url = new URL(await postgres.createBroker(['reporting_ro']))
  url.port = String(proxy.port)
  test = await startTestBroker({ redisSocket: redis.socketPath, postgresUrl: url.href })
  ;[agent, flows, oncall] = await Promise.all([test.token('triage'), test.token('flows'), test.token('oncall')])
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await proxy?.close()
  await Promise.all([redis?.stop(), postgres?.stop()])
  if (test) await rm(test.folder, { recursive: true, force: true })
})

const obtain = async (task: string, role: string, ttl = 60): Promise<string> => {
  const { status, body } = await test.call('POST', '/v1/leases', agent, { task, role, ttl })
  if (status !== 201) throw new Error(JSON.stringify(body))
  return body.lease.id
}
const complete = (task: string) => test.call('POST', `/v1/tasks/${task}/complete?wait=20`, flows, {})

describe('waiting for the end of a task', () => {
  it('waits for leases that another call has claimed, too', async () => {
    const task = await test.openTask({ envelope: [{ role: 'warehouse-read' }] })
    const lease = await obtain(task, 'warehouse-read')
    proxy.pauseAt('NOLOGIN')
    const first = complete(task)
    await proxy.paused()
    const second = complete(task)
    // Answered one after the other on the broker's one connection to Redis: by the third, the second end has been there.
    for (let n = 0; n < 3; n++) expect((await test.call('GET', `/v1/tasks/${task}`, flows)).body.task.state).toBe('completed')
    await proxy.resume()
    for (const { body } of await Promise.all([first, second])) expect(body).toMatchObject({ closing: 1, leases: [{ id: lease, state: 'revoked' }] })
  }, 60_000)
})

describe('a renewal', () => {
  it('that its task overtook is told that the lease has ended', async () => {
    const task = await test.openTask({ envelope: [{ role: 'warehouse-read' }] })
    const lease = await obtain(task, 'warehouse-read')
    const fresh = await test.token('triage')
    proxy.pauseAt('VALID UNTIL')
    const renewing = test.call('POST', `/v1/leases/${lease}/renew`, fresh, { ttl: 600 })
    await proxy.paused()
    expect((await complete(task)).body.leases).toMatchObject([{ state: 'revoked' }])
    await proxy.resume()
    expect(await renewing).toMatchObject({ body: { code: 'lease_ended' } })
  }, 60_000)
})

describe('an emergency that comes no further than its freeze', () => {
  it('says so, to who asked and in the trail', async () => {
    const keys = Array.from({ length: 64 }, (_, partition) => `mf:{p${String(partition).padStart(2, '0')}}:revocations`)
    // A record that cannot be indexed cannot be written.
    await Promise.all(keys.map((key) => redis.client.set(key, 'in the way')))
    const selector = { agent: ['nobody'] }
    const { status, body } = await test.call('POST', '/v1/emergency/revoke', oncall, { selector, reason: 'r', freeze: true })
    await redis.client.del(...keys)
    const [freeze] = (await test.call('GET', '/v1/freezes', oncall)).body.freezes
    expect(freeze).toMatchObject({ selector })
    expect({ status, body }).toMatchObject({ status: 503, body: { code: 'ledger_unavailable', detail: expect.stringContaining(freeze.id) } })
    const told = (await eventsOf(test, redis.client)).find(({ type }) => type === 'freeze.set')
    expect(told).toMatchObject({ detail: { selector, emergency: true } })
  })
})
