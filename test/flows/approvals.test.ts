import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf, type Told } from '../support/events.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let agent: string
let flows: string
let oncall: string

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query(
    'create role reporting_ro nologin; create role reporting_rw nologin; create table orders (id int); insert into orders values (1); ' +
      'grant select on orders to reporting_ro; grant select, update on orders to reporting_rw',
  )
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro', 'reporting_rw']),
    roles:
      '  warehouse-write: {provider: warehouse, access: write, sensitivity: restricted, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [reporting_rw]}}\n' +
      '  api-write: {provider: tokens, access: write, sensitivity: restricted, max_ttl: 5m, max_lifetime: 30m, scope: {table: equal}, params: {audience: "https://reports.example"}}',
    more: 'approvals: {open_per_agent: 40}',
    agents: '  - {id: branded, match: {issuer: test, sub: branded}, owner: sso/second, autonomy: supervised, team: platform}\n',
    operators: [
      '  - {id: second, match: {issuer: test, sub: second}, groups: [sre-oncall]}',
      '  - {id: sre@example.com, match: {issuer: test, sub: owner}, groups: [sre-oncall]}',
      '  - {id: customer, match: {issuer: test, sub: Ann@Example.com}, groups: [sre-oncall]}',
      '  - {id: sso/sre@example.com, match: {issuer: test, sub: owner-by-sso}, groups: [sre-oncall]}',
      '  - {id: FLOWS, match: {issuer: test, sub: flows-person}, groups: [sre-oncall]}',
    ].join('\n'),
  })
  call = checking(test.call)
  ;[agent, flows, oncall] = await Promise.all([test.token('triage'), test.token('flows'), test.token('oncall')])
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const envelope = [{ role: 'warehouse-read' }, { role: 'warehouse-write' }, { role: 'api-write' }, { role: 'api-token' }]
const openTask = (more: Record<string, unknown> = {}) => test.openTask({ envelope, ...more })
const obtain = (task: string, role = 'api-write', more: Record<string, unknown> = {}, token = agent) =>
  call('POST', '/v1/leases', token, { task, role, ...more })
const ask = async (task: string, role?: string, more?: Record<string, unknown>): Promise<string> => {
  const { status, body } = await obtain(task, role, more)
  expect(status).toBe(202)
  return body.approval.id
}
const decide = async (id: string, verb: 'approve' | 'deny', who = oncall, body?: object) => call('POST', `/v1/approvals/${id}/${verb}`, who, body)
const read = async (id: string, who = agent) => (await call('GET', `/v1/approvals/${id}`, who)).body.approval
const loginsUpstream = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const eventsAbout = async (id: string): Promise<Told[]> => (await eventsOf(test, redis.client)).filter((one) => one.approval === id)
const typesAbout = async (id: string) => (await eventsAbout(id)).map(({ type }) => type)

describe('read -> write in the middle of a task', () => {
  it('asks a human, mints nothing until one agrees, and then exactly one working login', async () => {
    const task = await openTask()
    const reading = await obtain(task, 'api-token')
    expect(reading.status).toBe(201)

    const { status, headers, body } = await obtain(task, 'warehouse-write', { reason: 'fix the order', ttl: 600 })
    expect(status).toBe(202)
    expect(headers.get('retry-after')).toBe('3')
    const { id } = body.approval
    expect(headers.get('location')).toBe(`/v1/approvals/${id}`)
    expect(body.approval).toMatchObject({
      state: 'open',
      next: 'wait',
      needs: [{ group: 'sre-oncall', approvals: 1, given: 0 }],
      policies: ['restricted-write-needs-a-human'],
      claimed: { reason: 'fix the order' },
      request: {
        ttl: 600,
        access: 'write',
        sensitivity: 'restricted',
        intent: 'incident-triage',
        owner: 'sre@example.com',
        opened_by: { id: 'flows' },
      },
    })
    expect(await loginsUpstream()).toBe(0)
    expect((await obtain(task, 'warehouse-write', { ttl: 600 })).body.approval.id).toBe(id)
    expect((await obtain(task, 'warehouse-write', { ttl: 600, approval: id })).body).toMatchObject({ status: 403, code: 'approval_invalid' })

    expect((await call('GET', '/v1/approvals', oncall)).body.approvals.map((one: { id: string }) => one.id)).toContain(id)
    const agreed = await decide(id, 'approve', oncall, { reason: 'seen the incident' })
    expect(agreed).toMatchObject({ status: 200, body: { approval: { state: 'granted', decisions: [{ by: 'oncall', groups: ['sre-oncall'] }] } } })
    expect(await read(id)).toMatchObject({ state: 'granted', next: 'present' })
    expect(await read(id)).not.toHaveProperty('decisions')
    expect(await loginsUpstream()).toBe(0)

    const granted = await obtain(task, 'warehouse-write', { ttl: 600, approval: id })
    expect(granted.status).toBe(201)
    const client = new pg.Client({ connectionString: granted.body.credential.url })
    await client.connect()
    await client.query('update orders set id = 2')
    await client.end()
    expect(await read(id)).toMatchObject({ state: 'spent', next: 'none', lease: granted.body.lease.id })
    expect((await obtain(task, 'warehouse-write', { ttl: 600, approval: id })).body.code).toBe('approval_invalid')
    expect(await loginsUpstream()).toBe(1)
    expect(await typesAbout(id)).toEqual(['approval.asked', 'approval.given', 'approval.spent'])
    const [asked, given, spent] = await eventsAbout(id)
    expect(asked).toMatchObject({ principal: { id: 'triage' }, task, role: 'warehouse-write', detail: { claimed: { reason: 'fix the order' } } })
    expect(given).toMatchObject({ principal: { kind: 'operator', id: 'oncall' }, detail: { state: 'granted', reason: 'seen the incident' } })
    expect(spent).toMatchObject({ lease: granted.body.lease.id, principal: { id: 'triage' } })
    await call('POST', `/v1/tasks/${task}/complete?wait=10`, flows, {})
    expect(await loginsUpstream()).toBe(0)
  })

  it('is refused at once when the caller cannot wait', async () => {
    const { body } = await obtain(await openTask(), 'api-write', { can_wait: false })
    expect(body).toMatchObject({ code: 'approval_required', status: 403, step_up: [{ group: 'sre-oncall', approvals: 1 }] })
  })

  it('lets an agent work on a task of its own, whose intent nobody has classified', async () => {
    const deadline_at = new Date(Date.now() + 60_000).toISOString()
    const own = await call('POST', '/v1/tasks', agent, { intent: 'anything', envelope: [{ role: 'api-token', max_ttl: 60 }], deadline_at })
    const task = own.body.task.id
    const id = await ask(task, 'api-token')
    expect((await decide(id, 'approve')).status).toBe(200)
    expect((await obtain(task, 'api-token', { approval: id })).status).toBe(201)
  })
})

describe('an approval is good for the very request that it was given for', () => {
  it.each([
    ['another TTL', { ttl: 120 }],
    ['another scope', { scope: { table: 'b' } }],
    ['no scope', {}],
    ['another tool', { scope: { table: 'a' }, ttl: 60, tool: 'sql' }],
    ['another destination', { scope: { table: 'a' }, ttl: 60, destination: 'ftp://elsewhere' }],
  ])('and not for %s', async (_, more) => {
    const task = await openTask()
    const id = await ask(task, 'api-write', { scope: { table: 'a' }, ttl: 60 })
    await decide(id, 'approve')
    expect((await obtain(task, 'api-write', { ...more, approval: id })).body.code).toBe('approval_invalid')
    expect((await obtain(task, 'warehouse-write', { ttl: 60, approval: id })).body.code).toBe('approval_invalid')
    expect((await obtain(task, 'api-write', { ttl: 60, scope: { table: 'a' }, reason: 'in other words', approval: id })).status).toBe(201)
  })

  it('and not for another task, another agent or another copy of the agent', async () => {
    const assignees = [{ agent: 'copy-copy-a' }, { agent: 'reporter' }]
    const [task, other] = [await openTask({ assignees }), await openTask({ assignees })]
    const [one, two] = await Promise.all([test.token('copy-a', { run: '1' }), test.token('copy-a', { run: '2' })])
    const reporter = await test.token('reporter')
    const { id } = (await obtain(task, 'api-write', {}, one)).body.approval
    await decide(id, 'approve')
    for (const [where, who] of [
      [task, two],
      [task, reporter],
      [other, one],
    ] as const) {
      expect((await obtain(where, 'api-write', { approval: id }, who)).body.code).toBe('approval_invalid')
      if (where === task) expect((await call('GET', `/v1/approvals/${id}`, who)).status).toBe(404)
    }
    expect((await call('GET', `/v1/approvals/${id}`, flows)).status).toBe(200)
    expect((await call('GET', `/v1/approvals/${id}`, await test.token('other-flows'))).status).toBe(404)
    expect((await call('GET', `/v1/approvals/${id}`, await test.token('visitor'))).status).toBe(404)
    expect((await obtain(task, 'api-write', { approval: id }, one)).status).toBe(201)
  })

  it('is decided anew for a renewal', async () => {
    const task = await openTask()
    for (const role of ['api-write', 'warehouse-write']) {
      const first = await ask(task, role, { ttl: 60 })
      await decide(first, 'approve')
      const { lease } = (await obtain(task, role, { ttl: 60, approval: first })).body
      const renew = async (body: object) => call('POST', `/v1/leases/${lease.id}/renew`, await test.token('triage'), body)
      expect((await renew({ ttl: 120, approval: first })).body.code).toBe('approval_invalid')
      const asked = await renew({ ttl: 120 })
      expect(asked).toMatchObject({ status: 202, body: { approval: { state: 'open', request: { renews: lease.id } } } })
      expect((await renew({ ttl: 120, approval: asked.body.approval.id })).body.code).toBe('approval_invalid')
      await decide(asked.body.approval.id, 'approve')
      expect((await renew({ ttl: 120, approval: asked.body.approval.id })).status).toBe(200)
      expect(await read(asked.body.approval.id)).toMatchObject({ state: 'spent' })
      expect((await renew({ ttl: 120, approval: asked.body.approval.id })).status).not.toBe(200)
    }
    await call('POST', `/v1/tasks/${task}/complete?wait=10`, flows, {})
  })
})

describe('nobody agrees to what is their own', () => {
  it.each([
    ["the agent's owner", 'owner', {}],
    ['the human that it acts for', 'Ann@Example.com', { human: 'ann@example.com' }],
    ['who opened the task', 'flows-person', {}],
    ['the owner by a longer name', 'owner-by-sso', {}],
  ])('not %s', async (_, sub, more) => {
    // The human's own authority is asked too, and this one may only read.
    const task = await openTask({ ...more, intent: 'not-in-the-catalogue' })
    const id = await ask(task, 'api-token')
    const refused = await decide(id, 'approve', await test.token(sub))
    expect(refused.body).toMatchObject({ status: 403, code: 'denied' })
    expect(await read(id)).toMatchObject({ state: 'open', needs: [{ given: 0 }] })
    expect((await decide(id, 'approve')).body.approval.state).toBe('granted')
  })

  it('nor the owner where it is the owner that is called by a longer name', async () => {
    const task = await openTask({ assignees: [{ agent: 'branded' }] })
    const id = (await obtain(task, 'api-write', {}, await test.token('branded'))).body.approval.id
    expect((await decide(id, 'approve', await test.token('second'))).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await decide(id, 'approve')).body.approval.state).toBe('granted')
  })

  it('nor the owner of an agent that handed the task on', async () => {
    const part = { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'api-write' }] }
    const child = (await call('POST', `/v1/tasks/${await openTask()}/children`, agent, part)).body.task.id
    const id = (await obtain(child, 'api-write', {}, await test.token('reporter'))).body.approval.id
    for (const sub of ['owner', 'owner-by-sso'])
      expect((await decide(id, 'approve', await test.token(sub))).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await decide(id, 'approve')).body.approval.state).toBe('granted')
  })

  it.each(['triage', 'flows', 'reports-api'])('and never a token of an agent, orchestrator or gateway: %s', async (sub) => {
    const id = await ask(await openTask())
    for (const verb of ['approve', 'deny'] as const)
      expect((await decide(id, verb, await test.token(sub))).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await call('GET', '/v1/approvals', await test.token(sub))).status).toBe(403)
    expect((await read(id)).state).toBe('open')
  })

  it('nor an operator whom policy does not let', async () => {
    const id = await ask(await openTask())
    const visitor = await test.token('visitor')
    expect((await decide(id, 'approve', visitor)).body.code).toBe('denied')
    expect((await decide(id, 'deny', visitor)).body.code).toBe('denied')
    expect((await call('GET', '/v1/approvals', visitor)).body.code).toBe('denied')
    expect((await read(id)).state).toBe('open')
  })
})

describe('a decision is final', () => {
  it('is made once', async () => {
    const id = await ask(await openTask())
    await decide(id, 'approve')
    for (const verb of ['approve', 'deny'] as const)
      expect((await decide(id, verb, await test.token('second'))).body).toMatchObject({ status: 409, code: 'conflict' })
    expect((await read(id)).state).toBe('granted')
  })

  it('and a no holds for the same request', async () => {
    const task = await openTask()
    const id = await ask(task, 'api-write', { scope: { table: 'a' } })
    expect((await decide(id, 'deny', oncall, { reason: 'not now' })).body.approval).toMatchObject({ state: 'denied', next: 'ask_differently' })
    expect((await obtain(task, 'api-write', { scope: { table: 'a' } })).body).toMatchObject({ status: 403, code: 'approval_denied' })
    expect((await obtain(task, 'api-write', { scope: { table: 'a' }, approval: id })).body.code).toBe('approval_denied')
    expect((await decide(id, 'approve', await test.token('second'))).body.code).toBe('conflict')
    expect((await obtain(task, 'api-write', { scope: { table: 'b' } })).status).toBe(202)
    expect(await typesAbout(id)).toEqual(['approval.asked', 'approval.denied'])
  })

  it('ends with the task', async () => {
    const task = await openTask()
    const [open, granted] = [await ask(task, 'api-write'), await ask(task, 'warehouse-write')]
    await decide(granted, 'approve')
    await call('POST', `/v1/tasks/${task}/complete?wait=10`, flows, {})
    for (const id of [open, granted]) {
      expect(await read(id)).toMatchObject({ state: 'expired', cause: 'task_completed' })
      expect((await typesAbout(id)).at(-1)).toBe('approval.expired')
    }
    expect((await decide(open, 'approve', await test.token('second'))).body.code).toBe('conflict')
    expect((await obtain(task, 'warehouse-write', { approval: granted })).body.code).toBe('task_ended')
  })
})

it('asks for a bounded number of things at once', async () => {
  const task = await openTask()
  const tables = Array.from({ length: 9 }, (_, n) => ({ scope: { table: `t${n}` } }))
  const asked = await Promise.all(tables.map((more) => obtain(task, 'api-write', more)))
  expect(asked.filter(({ status }) => status === 202)).toHaveLength(8)
  expect(asked.find(({ status }) => status !== 202)?.body.code).toBe('quota_exceeded')
  expect((await obtain(await openTask(), 'api-write')).status).toBe(202)
  const [first] = asked.filter(({ status }) => status === 202)
  await decide(first?.body.approval.id, 'deny')
  await waitFor('room for one more', async () => (await obtain(task, 'api-write', { scope: { table: 'more' } })).status === 202)
})

it('asks for a bounded number of things at once, in however many children of one task', async () => {
  const [reporter, root] = [await test.token('reporter'), await openTask()]
  const handOn = async (parent: string): Promise<string> =>
    (await call('POST', `/v1/tasks/${parent}/children`, agent, { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'api-write' }] })).body.task
      .id
  const children = [await handOn(root), await handOn(root), await handOn(root)]
  const table = (n: number) => ({ scope: { table: `t${n}` } })
  const asked = await Promise.all(children.flatMap((child) => [1, 2, 3, 4].map((n) => obtain(child, 'api-write', table(n), reporter))))
  expect(asked.filter(({ status }) => status === 202)).toHaveLength(8)
  expect(asked.find(({ status }) => status !== 202)?.body).toMatchObject({ status: 429, code: 'quota_exceeded' })
  // Another agent of the tree has questions of its own, and another tree too.
  expect((await obtain(root, 'api-write')).status).toBe(202)
  expect((await obtain(await handOn(await openTask()), 'api-write', table(1), reporter)).status).toBe(202)
  // What is over makes room, in whichever task it was asked: what was decided, what ended, and what a change of context made void.
  const open = asked.filter(({ status }) => status === 202).map(({ body }) => body.approval)
  await decide(open[0].id, 'deny')
  expect((await obtain(children[2] ?? '', 'api-write', table(5), reporter)).status).toBe(202)
  expect((await obtain(children[2] ?? '', 'api-write', table(6), reporter)).body.code).toBe('quota_exceeded')
  await call('PATCH', `/v1/tasks/${open[1].task}/context`, agent, { confidence: 0.5 })
  expect((await obtain(children[2] ?? '', 'api-write', table(6), reporter)).status).toBe(202)
  await call('POST', `/v1/tasks/${root}/complete`, flows)
  expect(await redis.client.keys(`mf:*:task:${root}:asking`)).toEqual([])
})

it('asks for a bounded number of things at once, in however many tasks that the agent opens for itself', async () => {
  const copy = await test.token('copy-asker', { run: 'r1' })
  const own = { intent: 'anything', envelope: [{ role: 'api-token', max_ttl: 60 }], deadline_at: new Date(Date.now() + 600_000).toISOString() }
  const tasks: string[] = []
  for (let n = 0; n < 6; n++) tasks.push((await call('POST', '/v1/tasks', copy, own)).body.task.id)
  const asks = tasks.flatMap((task) => Array.from({ length: 8 }, (_, ttl) => obtain(task, 'api-token', { ttl: ttl + 1 }, copy)))
  const asked = await Promise.all(asks)
  expect(asked.filter(({ status }) => status === 202)).toHaveLength(40)
  expect(asked.find(({ status }) => status !== 202)?.body).toMatchObject({ status: 429, code: 'quota_exceeded' })
  expect((await obtain(await openTask())).status).toBe(202)
  await call('POST', `/v1/tasks/${tasks[0]}/cancel`, copy)
  const again = await Promise.all(Array.from({ length: 8 }, (_, ttl) => obtain(`${tasks[5]}`, 'api-token', { ttl: ttl + 1 }, copy)))
  expect(again.filter(({ status }) => status === 202)).toHaveLength(8)
})
