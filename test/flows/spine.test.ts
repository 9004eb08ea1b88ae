import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { startTestBroker, type TestBroker, taskRequest } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker
let agent: string
let flows: string

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query(
    'create role reporting_ro nologin; create table orders (id int); insert into orders values (1); grant select on orders to reporting_ro',
  )
  test = await startTestBroker({ redisSocket: redis.socketPath, postgresUrl: await postgres.createBroker(['reporting_ro']) })
  agent = await test.token('triage')
  flows = await test.token('flows')
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const envelope = [{ role: 'warehouse-read' }, { role: 'api-token' }]
const openTask = (more: Record<string, unknown> = {}) => test.openTask({ envelope, ...more })
const obtain = (task: string, token = agent, more: Record<string, unknown> = {}) =>
  test.call('POST', '/v1/leases', token, { task, role: 'warehouse-read', ...more })
const rolesUpstream = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const nothingUpstream = () => waitFor('no login upstream', async () => (await rolesUpstream()) === 0)

async function connected(url: string) {
  const client = new pg.Client({ connectionString: url })
  let cut = false
  client.on('error', () => {})
  client.on('end', () => {
    cut = true
  })
  await client.connect()
  return { client, isCut: () => cut }
}

describe('a workload token becomes a working login, and dies with its task', () => {
  it.each(['complete', 'fail', 'cancel'])('on %s the open session is cut and a new login is refused', async (how) => {
    const task = await openTask()
    const { status, body, headers } = await obtain(task)
    expect(status).toBe(201)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body.lease).toMatchObject({ task, role: 'warehouse-read', state: 'active', revocation: { mode: 'immediate' } })
    const { client, isCut } = await connected(body.credential.url)
    expect((await client.query('select id from orders')).rows).toEqual([{ id: 1 }])

    const ended = await test.call('POST', `/v1/tasks/${task}/${how}?wait=10`, flows, { reason: 'done' })
    expect(ended).toMatchObject({ status: 200, body: { closing: 1, leases: [{ id: body.lease.id, state: 'revoked' }] } })
    await waitFor('the session to be cut', isCut)
    await expect(connected(body.credential.url)).rejects.toThrow()
    await nothingUpstream()
    expect((await obtain(task)).body.code).toBe('task_ended')
  })

  it('gives the least TTL of all bounds', async () => {
    const task = await openTask({ envelope: [{ role: 'warehouse-read', max_ttl: 120 }], deadline_at: new Date(Date.now() + 60_000).toISOString() })
    const { body } = await obtain(task, agent, { ttl: 600 })
    const ttl = (Date.parse(body.lease.expires_at) - Date.parse(body.lease.issued_at)) / 1000
    expect(ttl).toBeGreaterThan(50)
    expect(ttl).toBeLessThanOrEqual(60)
    expect(Date.parse(body.credential.expires_at)).toBe(Date.parse(body.lease.expires_at))
    await test.call('POST', `/v1/tasks/${task}/complete?wait=10`, flows, {})
  })

  it('expires by itself: the sweeper drops the login when its time is over', async () => {
    const task = await openTask()
    const { body } = await obtain(task, agent, { ttl: 1 })
    const { isCut } = await connected(body.credential.url)
    await waitFor('the session to be cut', isCut)
    await nothingUpstream()
    const record = await waitFor('the lease to be settled', async () => {
      const { body: answer } = await test.call('GET', `/v1/leases/${body.lease.id}`, agent)
      return answer.lease.state === 'revoked' ? answer.lease : undefined
    })
    expect(record.cause).toBe('expired')
  })

  it('revokes when a heartbeat is missed, and when the deadline passes', async () => {
    const silent = await openTask({ heartbeat_seconds: 1 })
    const short = await openTask({ deadline_at: new Date(Date.now() + 1_500).toISOString() })
    await Promise.all([obtain(silent), obtain(short)])
    await nothingUpstream()
    const states = await Promise.all([silent, short].map(async (task) => (await test.call('GET', `/v1/tasks/${task}`, flows)).body.task.state))
    expect(states).toEqual(['failed', 'expired'])
  })

  it('lets an agent return its lease and renew it, within its longest life', async () => {
    const task = await openTask()
    const { body } = await obtain(task, agent, { ttl: 60 })
    const renewed = await test.call('POST', `/v1/leases/${body.lease.id}/renew`, await test.token('triage'), { ttl: 300 })
    expect(renewed.status).toBe(200)
    expect(renewed.body.credential).toBeUndefined()
    expect(Date.parse(renewed.body.lease.expires_at)).toBeGreaterThan(Date.parse(body.lease.expires_at))
    const { client } = await connected(body.credential.url)
    await client.end()
    const released = await test.call('DELETE', `/v1/leases/${body.lease.id}?wait=10`, agent)
    expect(released).toMatchObject({ status: 200, body: { lease: { state: 'revoked', cause: 'released' } } })
    expect((await test.call('POST', `/v1/leases/${body.lease.id}/renew`, agent, {})).body.code).toBe('lease_ended')
    await nothingUpstream()
  })

  it('renews what cannot be extended by a successor, and the first credential dies', async () => {
    const task = await openTask()
    const first = await test.call('POST', '/v1/leases', agent, { task, role: 'api-token', ttl: 60 })
    const second = await test.call('POST', `/v1/leases/${first.body.lease.id}/renew`, await test.token('triage'), { ttl: 120 })
    expect(second.status).toBe(200)
    expect(second.body.credential.token).not.toBe(first.body.credential.token)
    const gateway = await test.token('reports-api')
    const introspect = (token: string) =>
      fetch(`${test.url}/oauth2/introspect`, {
        method: 'POST',
        headers: { authorization: `Bearer ${gateway}` },
        body: new URLSearchParams({ token }),
      })
    expect(await (await introspect(second.body.credential.token)).json()).toMatchObject({ active: true, jti: second.body.lease.id })
    expect(await (await introspect(first.body.credential.token)).json()).toEqual({ active: false })
    await test.call('POST', `/v1/tasks/${task}/complete`, flows, {})
    expect(await (await introspect(second.body.credential.token)).json()).toEqual({ active: false })
  })

  it('closes the first lease when the same Idempotency-Key comes again, because a secret is never shown twice', async () => {
    const task = await openTask()
    const ask = () => test.call('POST', '/v1/leases', agent, { task, role: 'warehouse-read' }, { 'idempotency-key': 'once' })
    const [first, second] = [await ask(), await ask()]
    expect(second.body.lease.id).not.toBe(first.body.lease.id)
    await waitFor('the first login to be dropped', async () => (await rolesUpstream()) === 1)
    expect((await test.call('GET', `/v1/leases/${first.body.lease.id}`, agent)).body.lease.cause).toBe('superseded')
    await test.call('POST', `/v1/tasks/${task}/complete?wait=10`, flows, {})
    await nothingUpstream()
  })
})

describe('what is not the caller’s does not exist', () => {
  it.each([
    ['GET', '', undefined],
    ['POST', '/heartbeat', {}],
    ['POST', '/complete', {}],
  ] as const)('%s of another’s task%s looks like none', async (method, path, body) => {
    const task = await openTask()
    const none = `${task.slice(0, -1)}${task.endsWith('a') ? 'b' : 'a'}`
    for (const stranger of ['reporter', 'other-flows']) {
      const theirs = await test.call(method, `/v1/tasks/${task}${path}`, await test.token(stranger), body)
      const nothing = await test.call(method, `/v1/tasks/${none}${path}`, await test.token(stranger), body)
      expect(theirs.status).toBe(404)
      expect({ ...theirs.body, instance: '' }).toEqual({ ...nothing.body, instance: '' })
    }
  })

  it('and neither is another’s lease', async () => {
    const task = await openTask()
    const { body } = await test.call('POST', '/v1/leases', agent, { task, role: 'api-token' })
    const stranger = await test.token('reporter')
    expect((await test.call('GET', `/v1/leases/${body.lease.id}`, stranger)).status).toBe(404)
    expect((await test.call('DELETE', `/v1/leases/${body.lease.id}`, stranger)).status).toBe(404)
    expect((await test.call('POST', `/v1/leases/${body.lease.id}/renew`, stranger, {})).status).toBe(404)
    expect((await test.call('GET', `/v1/leases/${body.lease.id}`, agent)).body.lease.state).toBe('active')
  })

  it('keeps two running copies of one agent apart', async () => {
    const one = await test.token('copy-a', { run: '1' })
    const two = await test.token('copy-a', { run: '2' })
    const agentId = 'copy-copy-a'
    const bound = await openTask({ assignees: [{ agent: agentId, bind_instance: true }], envelope: [{ role: 'api-token' }] })
    const ask = (token: string) => test.call('POST', '/v1/leases', token, { task: bound, role: 'api-token' })
    const first = await ask(one)
    expect(first.status).toBe(201)
    expect((await ask(two)).status).toBe(404)
    expect((await test.call('DELETE', `/v1/leases/${first.body.lease.id}`, two)).status).toBe(404)
  })
})

describe('an agent’s own word', () => {
  it('classifies nothing and opens no more than the configuration lets it', async () => {
    const own = { ...taskRequest(), assignees: undefined, envelope: [{ role: 'api-token', max_ttl: 60 }], confidence: 1, classification: 'public' }
    const opened = await test.call('POST', '/v1/tasks', agent, own)
    expect(opened.body.task).toMatchObject({ classified: false, confidence: 0, classification: 'restricted', assignees: [{ agent: 'triage' }] })
    const asked = await test.call('POST', '/v1/leases', agent, { task: opened.body.task.id, role: 'api-token' })
    expect(asked).toMatchObject({ status: 202, body: { approval: { state: 'open', policies: ['unclassified-intent'] } } })
    const wider = await test.call('POST', '/v1/tasks', agent, { ...own, envelope: [{ role: 'warehouse-read' }] })
    expect(wider.body.code).toBe('outside_envelope')
  })
})
