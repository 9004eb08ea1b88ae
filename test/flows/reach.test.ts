import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let oncall: string
let agent: string

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role reporting_ro nologin')
  test = await startTestBroker({ redisSocket: redis.socketPath, postgresUrl: await postgres.createBroker(['reporting_ro']) })
  call = checking(test.call)
  ;[oncall, agent] = await Promise.all([test.token('oncall'), test.token('triage')])
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const reach = async (id: string) => call('GET', `/v1/agents/${id}/reach`, oncall)
const soon = () => new Date(Date.now() + 300_000).toISOString()

it('finds A -> B -> database: what an agent reaches through whom it handed work on to', async () => {
  const task = await test.openTask({ envelope: [{ role: 'api-token', max_ttl: 120 }, { role: 'warehouse-read' }] })
  const child = await call('POST', `/v1/tasks/${task}/children`, agent, {
    assignees: [{ agent: 'reporter' }],
    envelope: [{ role: 'warehouse-read', max_ttl: 60 }],
    deadline_at: soon(),
  })
  expect(child.status).toBe(201)
  const below = child.body.task.id
  const { lease } = (await call('POST', '/v1/leases', await test.token('reporter'), { task: below, role: 'warehouse-read' })).body

  const { status, body } = await reach('triage')
  expect(status).toBe(200)
  expect(body).toMatchObject({ agent: 'triage', source: 'ledger', standing: 'active', complete: true, opens: [{ role: 'api-token', max_ttl: 60 }] })
  expect(body.own).toMatchObject([
    { task, agent: 'triage', role: 'api-token', provider: 'tokens', max_ttl: 120, through: [], holds: 0 },
    {
      task,
      agent: 'triage',
      role: 'warehouse-read',
      provider: 'warehouse',
      access: 'read',
      sensitivity: 'confidential',
      revocation: { mode: 'immediate' },
    },
  ])
  expect(body.handed_on).toMatchObject([
    { task: below, agent: 'reporter', role: 'warehouse-read', provider: 'warehouse', max_ttl: 60, through: [], holds: 1 },
  ])
  expect(body.leases.map(({ id }: { id: string }) => id)).toEqual([lease.id])
  expect(body.roles).toMatchObject([
    { role: 'api-token', holds: 0, tasks: 1, through_others: false },
    { role: 'warehouse-read', holds: 1, tasks: 2, through_others: true },
  ])

  const theirs = (await reach('reporter')).body
  expect(theirs.own).toMatchObject([{ task: below, agent: 'reporter', through: ['triage'], holds: 1 }])
  expect(theirs.handed_on).toEqual([])

  await call('POST', `/v1/tasks/${task}/complete?wait=10`, await test.token('flows'), {})
  expect((await reach('triage')).body).toMatchObject({ own: [], handed_on: [], leases: [], roles: [] })
})

it('shows nothing of what others do in the same task, nor of tasks of others', async () => {
  const shared = await test.openTask({ assignees: [{ agent: 'triage' }, { agent: 'reporter' }] })
  await test.openTask({ assignees: [{ agent: 'copy-copy-x' }] })
  await call('POST', '/v1/leases', await test.token('reporter'), { task: shared, role: 'api-token' })
  const { body } = await reach('triage')
  expect(body.own.map(({ task, agent: who }: { task: string; agent: string }) => [task, who])).toEqual([
    [shared, 'triage'],
    [shared, 'triage'],
  ])
  expect(body).toMatchObject({ handed_on: [], leases: [] })
})

it('lists the configured, and those that are seen, with what each has', async () => {
  await test.openTask({ assignees: [{ agent: 'copy-copy-seen' }] })
  await test.openTask({ assignees: [{ agent: 'stranger' }] })
  const { agents } = (await call('GET', '/v1/agents', oncall)).body
  const of = (id: string) => agents.find((one: { id: string }) => one.id === id)
  expect(of('copy-{sub}')).toMatchObject({ owner: 'sre@example.com', autonomy: 'scripted', issuer: 'test', standing: 'active' })
  expect(of('copy-{sub}').rule).toBeUndefined()
  expect(of('copy-copy-seen')).toMatchObject({ rule: 'copy-{sub}', owner: 'sre@example.com', tasks: 1, live_leases: 0 })
  expect(of('stranger')).toMatchObject({ tasks: 1 })
  expect(of('stranger').owner).toBeUndefined()
})

it('is for operators whom policy lets inspect, and knows nobody that is not', async () => {
  for (const sub of ['triage', 'flows', 'visitor', 'reports-api'])
    for (const path of ['/v1/agents/triage', '/v1/agents/triage/reach', '/v1/agents/triage/offboard'])
      expect((await call('GET', path, await test.token(sub))).status).toBe(403)
  for (const path of ['/v1/agents/nobody', '/v1/agents/nobody/reach', '/v1/agents/triage/offboard', `/v1/agents/${'x'.repeat(300)}`])
    expect((await call('GET', path, oncall)).status).toBe(404)
  expect((await call('GET', `/v1/agents/triage/reach?at=${new Date(Date.now() + 60_000).toISOString()}`, oncall)).status).toBe(422)
  expect((await call('GET', '/v1/agents/triage/reach?at=yesterday', oncall)).status).toBe(422)
})
