import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker, taskRequest } from '../support/broker.js'
import { eventOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const NO_LEASE = `lease_00${'a'.repeat(26)}`
const NO_TASK = `task_00${'a'.repeat(26)}`

describe('authority', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let agent: string
  let other: string
  let flows: string
  let task: string
  let lease: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
    ;[agent, other, flows] = await Promise.all([test.token('triage'), test.token('reporter'), test.token('flows')])
    task = await test.openTask({ assignees: [{ agent: 'triage' }, { agent: 'copy-copy-a' }] })
    lease = (await call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body.lease.id
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  const shape = ({ status, body }: { status: number; body: object }) => ({ status, body: { ...body, instance: '' } })

  it("of another agent's lease is that of one that does not exist", async () => {
    for (const [method, path] of [
      ['GET', '/v1/leases/{}'],
      ['DELETE', '/v1/leases/{}'],
      ['POST', '/v1/leases/{}/renew'],
    ] as const) {
      const theirs = await call(method, path.replace('{}', lease), other)
      const nothing = await call(method, path.replace('{}', NO_LEASE), other)
      expect(theirs.status).toBe(404)
      expect(shape(theirs)).toEqual(shape(nothing))
      expect(await eventOf(test, redis.client, theirs.body)).toMatchObject({
        type: 'request.refused',
        code: 'not_found',
        principal: { id: 'reporter' },
      })
    }
    expect((await call('GET', `/v1/leases/${lease}`, agent)).body.lease.state).toBe('active')
  })

  it("of another agent's or orchestrator's task is that of one that does not exist", async () => {
    const strangers = [other, await test.token('other-flows')]
    const calls: [method: string, path: string, body?: object][] = [
      ['GET', '/v1/tasks/{}'],
      ['POST', '/v1/tasks/{}/heartbeat'],
      ['POST', '/v1/tasks/{}/complete'],
      ['POST', '/v1/tasks/{}/fail'],
      ['POST', '/v1/tasks/{}/cancel'],
      ['PATCH', '/v1/tasks/{}/context', { classification: 'restricted' }],
      ['POST', '/v1/tasks/{}/children', { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'no-such-role' }] }],
    ]
    for (const stranger of strangers)
      for (const [method, path, body] of calls) {
        const theirs = await call(method, path.replace('{}', task), stranger, body)
        expect(theirs.status).toBe(404)
        expect(shape(theirs)).toEqual(shape(await call(method, path.replace('{}', NO_TASK), stranger, body)))
      }
    const obtained = await call('POST', '/v1/leases', other, { task, role: 'api-token' })
    expect(shape(obtained)).toEqual(shape(await call('POST', '/v1/leases', other, { task: NO_TASK, role: 'api-token' })))
    expect(shape(await call('GET', `/v1/whoami?task=${task}`, other))).toEqual(shape(await call('GET', `/v1/whoami?task=${NO_TASK}`, other)))
    expect((await call('GET', `/v1/tasks/${task}`, flows)).body.task.state).toBe('active')
  })

  it('of who makes ids up is not to choose whose outbox its refusals fill', async () => {
    const lengths = async () => Promise.all(['00', '17'].map((partition) => redis.client.xlen(`mf:{${partition}}:events`)))
    const [, before = 0] = await lengths()
    const made = Array.from({ length: 60 }, () => call('POST', '/v1/leases', other, { task: NO_TASK.replace('_00', '_17'), role: 'api-token' }))
    const [one] = await Promise.all(made)
    const [, after = 0] = await lengths()
    expect(after - before).toBeLessThan(20)
    expect(await eventOf(test, redis.client, one?.body)).toMatchObject({ code: 'not_found', detail: { claimed_task: NO_TASK.replace('_00', '_17') } })
    // Of a task that there is, the event names it, whosever it is.
    const theirs = await call('POST', '/v1/leases', other, { task, role: 'api-token' })
    expect(await eventOf(test, redis.client, theirs.body)).toMatchObject({ code: 'not_found', task })
  })

  it('of an assignee is to work on a task, not to end it, and to see its own leases alone', async () => {
    expect((await call('POST', `/v1/tasks/${task}/complete`, agent)).status).toBe(404)
    expect((await call('POST', `/v1/tasks/${task}/heartbeat`, agent)).body).toMatchObject({ state: 'active' })
    const copy = await test.token('copy-a', { run: '1' })
    const own = (await call('POST', '/v1/leases', copy, { task, role: 'api-token' })).body.lease.id
    const seen = async (token: string) => (await call('GET', `/v1/tasks/${task}`, token)).body.leases.map(({ id }: { id: string }) => id).toSorted()
    expect(await seen(agent)).toEqual([lease])
    expect(await seen(copy)).toEqual([own])
    expect(await seen(flows)).toEqual([lease, own].toSorted())
    const anotherCopy = await test.token('copy-a', { run: '2' })
    expect(await seen(anotherCopy)).toEqual([])
    expect((await call('GET', `/v1/leases/${own}`, anotherCopy)).status).toBe(404)
    expect((await call('DELETE', `/v1/leases/${own}`, anotherCopy)).status).toBe(404)
  })

  it("of one copy of an agent is not another copy's: over the task that it opened, and over the one that it was bound to", async () => {
    const [one, two] = await Promise.all([test.token('copy-a', { run: '1' }), test.token('copy-a', { run: '2' })])
    const { assignees: _nobody, ...body } = { ...taskRequest(), envelope: [{ role: 'api-token', max_ttl: 60 }] }
    const opened = (await call('POST', '/v1/tasks', one, body)).body.task.id
    const bound = await test.openTask({ assignees: [{ agent: 'copy-copy-a', bind_instance: true }] })
    expect((await call('POST', '/v1/leases', one, { task: bound, role: 'api-token' })).status).toBe(201)
    for (const theirs of [opened, bound])
      for (const [method, path] of [
        ['GET', '/v1/tasks/{}'],
        ['GET', '/v1/whoami?task={}'],
        ['POST', '/v1/tasks/{}/heartbeat'],
        ['POST', '/v1/tasks/{}/complete'],
      ] as const) {
        const seen = await call(method, path.replace('{}', theirs), two)
        expect(seen.status).toBe(404)
        expect(shape(seen)).toEqual(shape(await call(method, path.replace('{}', NO_TASK), two)))
      }
    expect((await call('GET', `/v1/tasks/${bound}`, one)).body.task.assignees).toEqual([{ agent: 'copy-copy-a', instance: '1', bind_instance: true }])
    expect((await call('POST', `/v1/tasks/${bound}/heartbeat`, one)).status).toBe(200)
    expect((await call('POST', `/v1/tasks/${opened}/complete`, one)).body.state).toBe('completed')
  })

  it('of operators is not for agents, orchestrators or gateways: 403 and an event', async () => {
    const gateway = await test.token('reports-api')
    for (const token of [agent, flows, gateway])
      for (const [method, path, body] of [
        ['GET', '/v1/leases', undefined],
        ['GET', '/v1/tasks', undefined],
        ['GET', '/v1/agents', undefined],
        ['GET', '/v1/freezes', undefined],
        ['POST', '/v1/freezes', { selector: { all: true }, reason: 'mine' }],
        ['POST', '/v1/emergency/revoke', { selector: { all: true }, reason: 'mine' }],
        ['GET', `/v1/emergency/revocations/revocation_00${'a'.repeat(26)}`, undefined],
        ['POST', `/v1/freezes/freeze_00${'a'.repeat(26)}/thaw`, { reason: 'mine' }],
      ] as const) {
        const answer = await call(method, path, token, body)
        expect(answer).toMatchObject({ status: 403, body: { code: 'denied' } })
        expect(await eventOf(test, redis.client, answer.body)).toMatchObject({ type: 'operator.refused', code: 'denied' })
      }
    expect((await call('GET', `/v1/leases/${lease}`, agent)).body.lease.state).toBe('active')
  })

  it('of an operator is what policy says', async () => {
    const visitor = await test.token('visitor')
    const answer = await call('POST', '/v1/emergency/revoke', visitor, { selector: { all: true }, reason: 'curious' })
    expect(answer).toMatchObject({ status: 403, body: { code: 'denied' } })
    expect(await eventOf(test, redis.client, answer.body)).toMatchObject({ type: 'operator.refused', principal: { kind: 'operator', id: 'visitor' } })
    for (const path of ['/v1/leases', `/v1/leases/${lease}`, '/v1/tasks', `/v1/tasks/${task}`, '/v1/agents', '/v1/freezes'])
      expect((await call('GET', path, visitor)).status).toBe(403)
  })

  it('of the wrong kind on an agent route is refused before anything is read', async () => {
    for (const sub of ['flows', 'oncall', 'reports-api'])
      expect(await call('POST', '/v1/leases', await test.token(sub), { task, role: 'api-token' })).toMatchObject({
        status: 403,
        body: { code: 'denied' },
      })
    for (const sub of ['oncall', 'reports-api']) expect((await call('POST', '/v1/tasks', await test.token(sub), {})).status).toBe(403)
  })

  it('is not widened by what an agent says of itself', async () => {
    const body = { intent: 'incident-triage', confidence: 1, classification: 'public', envelope: [{ role: 'api-token', max_ttl: 60 }] }
    const deadline_at = new Date(Date.now() + 60_000).toISOString()
    const opened = await call('POST', '/v1/tasks', agent, { ...body, deadline_at, human: 'boss', assignees: [{ agent: 'reporter' }] })
    expect(opened.status).toBe(201)
    expect(opened.body.task).toMatchObject({ classified: false, confidence: 0, classification: 'restricted', assignees: [{ agent: 'triage' }] })
    expect(opened.body.task.human).toBeUndefined()
    const wider = await call('POST', '/v1/tasks', agent, { ...body, envelope: [{ role: 'api-signed' }], deadline_at })
    expect(wider).toMatchObject({ status: 403, body: { code: 'outside_envelope' } })
    expect((await call('POST', '/v1/tasks', other, { ...body, deadline_at })).status).toBe(403)
  })
})
