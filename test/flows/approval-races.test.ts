import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'
import { changeContext, writing } from './approval-support.js'

let postgres: TestPostgres
let redis: TestRedis
/** Two replicas of one installation. */
let one: TestBroker
let two: TestBroker
let agent: string
let oncall: string

const warehouse =
  '  warehouse-write: {provider: warehouse, access: write, sensitivity: restricted, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [reporting_ro]}}'

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role reporting_ro nologin')
  const options = {
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    ...writing,
    roles: `${writing.roles}\n${warehouse}`,
    limits: '{requests_per_second: 10000, per_agent_live: 0}',
  }
  one = await startTestBroker(options)
  two = await startTestBroker({ ...options, like: one })
  ;[agent, oncall] = await Promise.all([one.token('triage'), one.token('oncall')])
}, 60_000)
afterAll(async () => {
  await Promise.all([one?.stop(), two?.stop()])
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const openTask = (roles: readonly string[]) => one.openTask({ envelope: roles.map((role) => ({ role })) })
const obtain = (at: TestBroker, task: string, role: string, more: object = {}) => at.call('POST', '/v1/leases', agent, { task, role, ...more })
const decide = (at: TestBroker, id: string, verb: string, token: string) => at.call('POST', `/v1/approvals/${id}/${verb}`, token, {})
const read = async (id: string, at = one) => (await at.call('GET', `/v1/approvals/${id}`, agent)).body.approval
const approve = async (id: string, ...subs: string[]) => {
  for (const sub of subs) await decide(one, id, 'approve', await one.token(sub))
}

describe('at once', () => {
  it.each(['api-one', 'warehouse-write'])('20 requests on two replicas spend one approval of %s: one lease', async (role) => {
    const task = await openTask([role])
    const { id } = (await obtain(one, task, role)).body.approval
    await approve(id, 'oncall')
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => obtain(n % 2 ? one : two, task, role, { approval: id })))
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    for (const { status, body } of answers) if (status !== 201) expect(body).toMatchObject({ status: 403, code: 'approval_invalid' })
    const lease = answers.find(({ status }) => status === 201)?.body.lease.id
    expect(await read(id, two)).toMatchObject({ state: 'spent', lease })
    const live = await one.call('GET', `/v1/tasks/${task}`, await one.token('flows'))
    expect(live.body.leases).toHaveLength(1)
    await one.call('POST', `/v1/tasks/${task}/complete?wait=10`, await one.token('flows'), {})
  })

  it('20 askers of the same thing have one approval, and one event tells of it', async () => {
    const task = await openTask(['api-one'])
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => obtain(n % 2 ? one : two, task, 'api-one')))
    const ids = new Set(answers.map(({ body }) => body.approval.id))
    expect(ids.size).toBe(1)
    const asked = [...(await eventsOf(one, redis.client)), ...(await eventsOf(two, redis.client))].filter(
      ({ type, task: of }) => type === 'approval.asked' && of === task,
    )
    expect(new Set(asked.map(({ id }) => id)).size).toBe(1)
  })

  it('50 approvers are counted one by one, and the ones that are not needed are told so', async () => {
    const task = await openTask(['api-five'])
    const { id } = (await obtain(one, task, 'api-five')).body.approval
    const tokens = await Promise.all(Array.from({ length: 50 }, (_, n) => one.token(`many-${n}`)))
    const answers = await Promise.all(tokens.map((token, n) => decide(n % 2 ? one : two, id, 'approve', token)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5)
    for (const { status, body } of answers) if (status !== 200) expect(body.code).toBe('conflict')
    const { approval } = (await one.call('GET', `/v1/approvals/${id}`, oncall)).body
    expect(approval).toMatchObject({ state: 'granted', needs: [{ group: 'sre-oncall', approvals: 5, given: 5 }] })
    expect(new Set(approval.decisions.map(({ by }: { by: string }) => by)).size).toBe(5)
    expect((await obtain(two, task, 'api-five', { approval: id })).status).toBe(201)
  })

  it('one approver who agrees 20 times has agreed once', async () => {
    const task = await openTask(['api-five'])
    const { id } = (await obtain(one, task, 'api-five')).body.approval
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => decide(n % 2 ? one : two, id, 'approve', oncall)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    expect(await read(id)).toMatchObject({ state: 'open', needs: [{ given: 1 }] })
    expect((await obtain(one, task, 'api-five', { approval: id })).body.code).toBe('approval_invalid')
  })

  it('a yes and a no are one of them, for everybody', async () => {
    for (let n = 0; n < 20; n++) {
      const task = await openTask(['api-one'])
      const { id } = (await obtain(one, task, 'api-one')).body.approval
      const second = await one.token(`many-${n}`)
      const [yes, no] = await Promise.all([decide(one, id, 'approve', oncall), decide(two, id, 'deny', second)])
      expect([yes.status, no.status].toSorted()).toEqual([200, 409])
      expect((await read(id)).state).toBe(yes.status === 200 ? 'granted' : 'denied')
      expect((await obtain(one, task, 'api-one', { approval: id })).status).toBe(yes.status === 200 ? 201 : 403)
    }
  })
})

describe('several groups', () => {
  it('each have to agree, as often as asked; one operator counts once in each that they are in', async () => {
    const task = await openTask(['api-both'])
    const { id, needs } = (await obtain(one, task, 'api-both')).body.approval
    expect(needs).toEqual([
      { group: 'security', approvals: 1, given: 0 },
      { group: 'sre-oncall', approvals: 2, given: 0 },
    ])
    await approve(id, 'both')
    expect((await read(id)).needs.map(({ given }: { given: number }) => given)).toEqual([1, 1])
    await approve(id, 'guard')
    expect(await read(id)).toMatchObject({ state: 'open', needs: [{ given: 2 }, { given: 1 }] })
    await approve(id, 'oncall')
    expect((await read(id)).state).toBe('granted')
    expect((await obtain(one, task, 'api-both', { approval: id })).status).toBe(201)
  })
})

describe('a change of context', () => {
  it('makes void what was asked, given and refused before it', async () => {
    const task = await openTask(['api-one'])
    const tables = ['open', 'granted', 'denied'].map((table) => ({ scope: { table } }))
    const ids = await Promise.all(tables.map(async (more) => (await obtain(one, task, 'api-one', more)).body.approval.id))
    await approve(ids[1], 'oncall')
    await decide(one, ids[2], 'deny', oncall)
    // The other replica remembers the task as it was.
    expect((await obtain(two, task, 'api-one', tables[0])).body.approval.id).toBe(ids[0])
    await changeContext(one, task)
    expect(await read(ids[0])).toMatchObject({ state: 'expired', cause: 'context_changed', next: 'ask_again' })
    expect((await decide(two, ids[0], 'approve', oncall)).body.code).toBe('approval_invalid')
    expect((await obtain(two, task, 'api-one', { ...tables[1], approval: ids[1] })).body.code).toBe('approval_invalid')
    const again = await Promise.all(tables.map((more) => obtain(two, task, 'api-one', more)))
    expect(again.map(({ status }) => status)).toEqual([202, 202, 202])
    expect(again.map(({ body }) => body.approval.id)).not.toContain(ids[0])
    expect((await one.call('GET', '/v1/approvals', oncall)).body.approvals.map((it: { id: string }) => it.id)).not.toContain(ids[1])
  })

  it('below a task takes away nothing that was given or refused for it', async () => {
    const task = await openTask(['api-one'])
    const [given, denied] = [{ scope: { table: 'given' } }, { scope: { table: 'denied' } }]
    const [id, no] = await Promise.all([given, denied].map(async (more) => (await obtain(one, task, 'api-one', more)).body.approval.id))
    await approve(id, 'oncall')
    await decide(one, no, 'deny', oncall)
    const part = { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'api-one' }] }
    const child = (await one.call('POST', `/v1/tasks/${task}/children`, agent, part)).body.task.id
    expect((await one.call('PATCH', `/v1/tasks/${child}/context`, agent, { confidence: 0.7 })).status).toBe(200)
    expect((await obtain(two, task, 'api-one', denied)).body.code).toBe('approval_denied')
    expect((await obtain(two, task, 'api-one', { ...given, approval: id })).status).toBe(201)
  })

  it('that changes no fact leaves what was consented to', async () => {
    const task = await openTask(['api-one'])
    const { id } = (await obtain(one, task, 'api-one')).body.approval
    await approve(id, 'oncall')
    const lease = (await obtain(one, task, 'api-one', { approval: id })).body.lease.id
    const change = async (to: object) => (await two.call('PATCH', `/v1/tasks/${task}/context`, await one.token('flows'), to)).body.leases
    expect(await change({ labels: { step: '2' } })).toEqual({ kept: 1, closing: [] })
    expect(await change({ confidence: 0.8 })).toEqual({ kept: 0, closing: [lease] })
  })
})

describe('time', () => {
  it('ends an approval that nobody gave, and one that nobody used, and leaves nothing behind', async () => {
    const brief = await startTestBroker({
      redisSocket: redis.socketPath,
      ...writing,
      like: one,
      more: 'approvals: {ttl: 2s, granted_ttl: 1s}',
      roles: `${writing.roles}\n`,
    })
    const task = await brief.openTask({ envelope: [{ role: 'api-one' }] })
    const ask = async (table: string) => (await obtain(brief, task, 'api-one', { scope: { table } })).body.approval.id
    const [waits, granted] = [await ask('a'), await ask('b')]
    await decide(brief, granted, 'approve', oncall)
    await waitFor('both to expire', async () => {
      const states = await Promise.all([waits, granted].map(async (id) => (await read(id, brief)).state))
      return states.every((state) => state === 'expired')
    })
    expect((await decide(brief, waits, 'approve', oncall)).body).toMatchObject({ code: expect.stringMatching(/approval_invalid|conflict/) })
    expect((await obtain(brief, task, 'api-one', { scope: { table: 'b' }, approval: granted })).body.code).toBe('approval_invalid')
    await waitFor('the sweep to tell of both', async () => {
      const told = (await eventsOf(brief, redis.client)).concat(await eventsOf(one, redis.client), await eventsOf(two, redis.client))
      return [waits, granted].every((id) => told.some((event) => event.type === 'approval.expired' && event.approval === id))
    })
    expect((await obtain(brief, task, 'api-one', { scope: { table: 'a' } })).body.approval.id).not.toBe(waits)
    await one.call('POST', `/v1/tasks/${task}/complete`, await one.token('flows'), {})
    const left = await redis.client.keys(`mf:*:task:${task}:approvals`)
    expect(left).toEqual([])
    for (const id of [waits, granted]) {
      const [key = ''] = await redis.client.keys(`mf:*:approval:${id}`)
      expect(await redis.client.ttl(key)).toBeGreaterThan(0)
    }
    await brief.stop()
  })
})
