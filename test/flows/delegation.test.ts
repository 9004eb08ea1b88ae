import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Two more who hand on; `wild` is autonomous. */
const MORE = ['second', 'third']
  .map((id) => `  - {id: ${id}, match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: supervised, team: platform}\n`)
  .concat('  - {id: wild, match: {issuer: test, sub: wild}, owner: sre@example.com, autonomy: autonomous, team: platform}\n')
  .join('')

let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let flows: string
const tokens: Record<string, string> = {}

beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    agents: MORE,
    roles:
      '  api-write: {provider: tokens, access: write, sensitivity: internal, max_ttl: 5m, scope: {area: path}, params: {audience: "https://reports.example"}}',
  })
  call = checking(test.call)
  flows = await test.token('flows')
  for (const id of ['triage', 'reporter', 'second', 'third', 'wild']) tokens[id] = await test.token(id)
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const all = [
  { role: 'api-token', max_ttl: 120, max_leases: 5 },
  { role: 'api-write', scope: { area: 'eu/north' } },
]
const read = [{ role: 'api-token', max_ttl: 60, max_leases: 2 }]
const tokenOf = (agent: string): string => tokens[agent] ?? flows
const openTask = (more = {}) => test.openTask({ envelope: all, ...more })
const handOn = (parent: string, from: string, to: string, more = {}) =>
  call('POST', `/v1/tasks/${parent}/children`, tokenOf(from), { assignees: [{ agent: to }], envelope: read, ...more })
const child = async (parent: string, from: string, to: string, more = {}): Promise<string> => {
  const { status, body } = await handOn(parent, from, to, more)
  if (status !== 201) throw new Error(JSON.stringify(body))
  return body.task.id
}
const obtain = (task: string, agent: string, role = 'api-token', more = {}) =>
  call('POST', '/v1/leases', tokenOf(agent), { task, role, ...(role === 'api-write' && { scope: { area: 'eu/north' } }), ...more })
const stateOf = async (task: string) => (await call('GET', `/v1/tasks/${task}`, flows)).body.task.state

describe('row 19: delegation chains are auditable, and the original intent is undiluted', () => {
  it('a child has the intent, context and human of its parent, and no one else to say what they are', async () => {
    const task = await openTask({ human: 'ada' })
    const { status, body } = await handOn(task, 'triage', 'second', { labels: { step: '1' } })
    expect(status).toBe(201)
    const inherited = {
      intent: 'incident-triage',
      classified: true,
      confidence: 0.9,
      classification: 'internal',
      environment: 'production',
      human: 'ada',
    }
    expect(body.task).toMatchObject({
      ...inherited,
      parent: task,
      chain: ['triage'],
      opened_by: { kind: 'agent', id: 'triage' },
      labels: { step: '1' },
    })
    for (const field of Object.keys(inherited))
      expect((await handOn(task, 'triage', 'second', { [field]: 'deploy' })).body).toMatchObject({ code: 'request_invalid' })
  })

  it.each([
    ['another role', { envelope: [{ role: 'api-signed' }] }],
    ['a longer TTL', { envelope: [{ role: 'api-token', max_ttl: 121, max_leases: 1 }] }],
    ['no TTL where there is one', { envelope: [{ role: 'api-token', max_leases: 1 }] }],
    ['more leases', { envelope: [{ role: 'api-token', max_ttl: 1, max_leases: 6 }] }],
    ['another scope', { envelope: [{ role: 'api-write', scope: { area: 'eu/south' } }] }],
    ['no scope where there is one', { envelope: [{ role: 'api-write' }] }],
    ['a later deadline', { deadline_at: new Date(Date.now() + 3_600_000).toISOString() }],
  ])('%s is outside', async (_, more) => {
    const { status, body } = await handOn(await openTask(), 'triage', 'second', more)
    expect({ status, code: body.code }).toEqual({ status: 403, code: 'outside_envelope' })
  })

  it('whoever does not work on a task is told of with its attempts on it, and in no chain of those who do', async () => {
    const task = await openTask({ human: 'ada', tools: [{ tool: 'tickets/get' }] })
    const below = await child(task, 'triage', 'second', { tools: [{ tool: 'tickets/get' }] })
    const asked = { tool: 'tickets/get', action: 'get', target: 'acme/app' }
    expect((await obtain(below, 'third')).status).toBe(404)
    expect((await call('POST', `/v1/tasks/${below}/tool-calls`, tokenOf('third'), asked)).status).toBe(404)
    await obtain(below, 'second', 'api-write')
    const denied = (await eventsOf(test, redis.client)).filter((one) => one.task === below && /\.denied$/.test(one.type))
    expect(denied.map(({ type, principal, human, chain }) => [type, principal?.id, human?.id, chain])).toEqual([
      ['lease.denied', 'third', undefined, undefined],
      ['tool.denied', 'third', undefined, undefined],
      ['lease.denied', 'second', 'ada', ['triage', 'second']],
    ])
  })

  it('goes as deep as the autonomy of who hands on allows, never to oneself or back, and not where there is a script', async () => {
    const task = await openTask({ assignees: ['triage', 'reporter', 'wild'].map((agent) => ({ agent })) })
    const first = await child(task, 'triage', 'second')
    const second = await child(first, 'second', 'third')
    const refusals = [
      [second, 'third', 'wild', []],
      [task, 'reporter', 'second', []],
      [task, 'triage', 'triage', ['no-delegation-in-circles']],
      [first, 'second', 'triage', ['no-delegation-in-circles']],
      [await child(task, 'flows', 'wild'), 'wild', 'third', []],
      [task, 'triage', 'wild', []],
    ] as const
    for (const [parent, from, to, policies] of refusals) {
      const { status, body } = await handOn(parent, from, to)
      expect({ from, to, status, code: body.code, policies: body.policies }).toEqual({ from, to, status: 403, code: 'denied', policies })
    }
    expect((await handOn(task, 'wild', 'third')).status).toBe(201)
  })

  it('is for who works on the task, or opened it; to anybody else there is none', async () => {
    const task = await openTask()
    expect((await handOn(task, 'second', 'third')).status).toBe(404)
    expect(
      (await call('POST', `/v1/tasks/${task}/children`, await test.token('other-flows'), { assignees: [{ agent: 'second' }], envelope: read }))
        .status,
    ).toBe(404)
    const byOpener = await child(task, 'flows', 'second')
    expect((await call('GET', `/v1/tasks/${byOpener}`, flows)).body.task).toMatchObject({ opened_by: { kind: 'orchestrator' }, parent: task })
    await call('POST', `/v1/tasks/${task}/complete`, flows)
    expect((await handOn(task, 'triage', 'second')).body.code).toBe('task_ended')
  })

  it('the chain is in the events, in the token as nested act, and in the task as a tree', async () => {
    const task = await openTask({ human: 'ada' })
    const [first, plain] = [await child(task, 'triage', 'second'), await openTask()]
    const second = await child(first, 'second', 'third')
    const { body } = await obtain(second, 'third')
    const nested = { sub: 'third', act: { sub: 'second', act: { sub: 'triage' } } }
    expect(decodeJwt(body.credential.token)).toMatchObject({ sub: 'ada', client_id: 'third', act: nested })
    const unhuman = (await obtain(await child(plain, 'triage', 'second'), 'second')).body.credential.token
    expect(decodeJwt(unhuman)).toMatchObject({ sub: 'second', act: { sub: 'second', act: { sub: 'triage' } } })
    expect(decodeJwt((await obtain(plain, 'triage')).body.credential.token).act).toBeUndefined()

    expect((await obtain(second, 'third', 'api-write')).body.code).toBe('outside_envelope')
    const told = await eventsOf(test, redis.client)
    const of = (type: string, id: string) => told.find((one) => one.type === type && one.task === id)
    expect(of('task.opened', second)).toMatchObject({ chain: ['triage', 'second'], principal: { id: 'second' }, detail: { parent: first } })
    for (const type of ['lease.issued', 'lease.denied']) expect(of(type, second)?.chain).toEqual(['triage', 'second', 'third'])
    expect(of('lease.issued', plain)?.chain).toBeUndefined()

    for (const token of [flows, tokenOf('triage')]) {
      const { body: seen } = await call('GET', `/v1/tasks/${task}`, token)
      expect(seen).toMatchObject({
        more_children: false,
        children: [{ id: first, opened_by: { id: 'triage' }, assignees: [{ agent: 'second' }], children: [{ id: second, children: [] }] }],
      })
    }
  })

  it("a parent's end, of whatever kind, takes the subtree; a child's end takes nothing above it", async () => {
    const ends: Record<string, (task: string) => Promise<unknown>> = {
      completed: (task) => call('POST', `/v1/tasks/${task}/complete`, flows),
      failed: (task) => call('POST', `/v1/tasks/${task}/fail`, flows),
      cancelled: (task) => call('POST', `/v1/tasks/${task}/cancel`, flows),
      revoked: async (task) => call('POST', '/v1/emergency/revoke', await test.token('oncall'), { selector: { task }, reason: 'drill' }),
      expired: async () => undefined,
      'failed by a missed heartbeat': async () => undefined,
    }
    for (const [how, end] of Object.entries(ends)) {
      const soon = how === 'expired' ? { deadline_at: new Date(Date.now() + 3_000).toISOString() } : {}
      const task = await openTask({ ...soon, ...(how.includes('heartbeat') && { heartbeat_seconds: 3 }) })
      const first = await child(task, 'triage', 'second')
      const second = await child(first, 'second', 'third')
      const leases = [await obtain(first, 'second'), await obtain(second, 'third')].map(({ body }) => body.lease.id)
      await end(task)
      const state = how.split(' ')[0]
      for (const id of [task, first, second]) await waitFor(`${how}: ${id}`, async () => (await stateOf(id)) === state)
      const oncall = await test.token('oncall')
      for (const id of leases)
        await waitFor(`${how}: the revoke`, async () =>
          ['revoked', 'expired'].includes((await call('GET', `/v1/leases/${id}`, oncall)).body.lease.state),
        )
      expect((await obtain(second, 'third')).body.code).toBe('task_ended')
      expect((await handOn(first, 'second', 'third')).body.code).toBe('task_ended')
    }
  }, 60_000)

  it('who handed on ends what it handed on, and nobody below does', async () => {
    const task = await openTask()
    const [first, other] = [await child(task, 'triage', 'second'), await child(task, 'triage', 'second')]
    const second = await child(first, 'second', 'third')
    const lease = (await obtain(second, 'third')).body.lease.id
    expect((await call('POST', `/v1/tasks/${first}/complete`, tokenOf('second'))).status).toBe(404)
    expect((await call('POST', `/v1/tasks/${first}/cancel?wait=10`, tokenOf('triage'))).body).toMatchObject({
      state: 'cancelled',
      closing: 1,
      leases: [{ id: lease }],
    })
    expect([await stateOf(task), await stateOf(other), await stateOf(second)]).toEqual(['active', 'active', 'cancelled'])
    // Who opened the root answers for all of it.
    expect((await call('POST', `/v1/tasks/${other}/fail`, flows)).body.state).toBe('failed')
  })
})

describe('row 20: trust is not inherited with context', () => {
  it("the parent's write is absent in the child, and its leases are no other's to see", async () => {
    const task = await openTask()
    const written = await obtain(task, 'triage', 'api-write')
    expect(written.status).toBe(201)
    const handed = await child(task, 'triage', 'second')
    expect((await obtain(handed, 'second', 'api-write')).body.code).toBe('outside_envelope')
    expect((await obtain(task, 'second')).status).toBe(404)
    expect((await obtain(handed, 'triage')).status).toBe(404)
    expect((await call('GET', `/v1/leases/${written.body.lease.id}`, tokenOf('second'))).status).toBe(404)
  })

  it('what is handed on to several is still no more than there was', async () => {
    const task = await openTask()
    const children = [await child(task, 'triage', 'second'), await child(task, 'triage', 'second'), await child(task, 'triage', 'second')]
    const answers = []
    for (const id of [...children, ...children]) answers.push((await obtain(id, 'second')).status)
    expect(answers).toEqual([201, 201, 201, 201, 201, 429])
    expect((await obtain(task, 'triage')).status).toBe(429)
  })

  it('a freeze of who handed on covers what it handed on', async () => {
    const task = await openTask()
    const handed = await child(task, 'triage', 'second')
    const oncall = await test.token('oncall')
    const { body } = await call('POST', '/v1/freezes', oncall, { selector: { agent: 'triage' }, reason: 'drill' })
    expect((await obtain(handed, 'second')).body.code).toBe('frozen')
    expect((await handOn(handed, 'second', 'third')).body.code).toBe('frozen')
    await call('POST', `/v1/freezes/${body.freeze.id}/thaw`, oncall, { reason: 'over' })
    expect((await obtain(handed, 'second')).status).toBe(201)
  })

  it('what an agent hands on of its own task is no more classified than that', async () => {
    const ask = {
      intent: 'incident-triage',
      envelope: [{ role: 'api-token', max_ttl: 60 }],
      deadline_at: new Date(Date.now() + 60_000).toISOString(),
    }
    const own = (await call('POST', '/v1/tasks', tokenOf('triage'), ask)).body.task.id
    const handed = await handOn(own, 'triage', 'second', { envelope: [{ role: 'api-token', max_ttl: 60 }] })
    expect(handed.body.task).toMatchObject({ classified: false, confidence: 0, classification: 'restricted', environment: 'unknown' })
  })
})

describe('may_act (RFC 8693 §4.4)', () => {
  it('of a workload token names the agent that presents it, or the token is none', async () => {
    const task = await openTask()
    const asks = async (may_act: unknown) => (await call('GET', `/v1/tasks/${task}`, await test.token('triage', { may_act }))).status
    expect(await asks({ sub: 'triage' })).toBe(200)
    expect(await asks({ sub: 'triage', iss: 'https://issuer.test' })).toBe(200)
    for (const other of [{ sub: 'second' }, { sub: 'triage', iss: 'https://elsewhere.test' }, {}, 'triage', null, [{ sub: 'triage' }]])
      expect(await asks(other)).toBe(401)
  })
})
