import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventOf, eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const NO_TASK = `task_00${'a'.repeat(26)}`
const TOOLS = [{ tool: 'tickets/get' }, { tool: 'tickets/create', actions: ['create'], targets: ['acme/app', 'acme/docs/*'] }]

describe('a tool call', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let agent: string
  let task: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
    agent = await test.token('triage')
    task = await test.openTask({ tools: TOOLS })
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }
  const ask = (of: string, body: object, token = agent) => call('POST', `/v1/tasks/${of}/tool-calls`, token, body)
  const shape = ({ status, body }: { status: number; body: object }) => ({ status, body: { ...body, instance: '' } })

  it('that the task lists and policy allows is answered with what recorded it', async () => {
    const digest = 'a'.repeat(43)
    const lease = (await call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body.lease.id
    const { status, body } = await ask(task, { ...GET, lease, destination: 'tickets.internal', arguments_digest: digest })
    expect(status).toBe(200)
    expect(body).toEqual({
      call: expect.any(String),
      decision: 'allow',
      enforced: false,
      check: 'every_call',
      must_ask: true,
      policies: ['tool-reads'],
    })
    const event = (await eventsOf(test, redis.client)).find(({ id }) => id === body.call)
    expect(event).toMatchObject({
      type: 'tool.called',
      principal: { kind: 'agent', id: 'triage', owner: 'sre@example.com' },
      task,
      lease,
      decision: { outcome: 'allow', policies: ['tool-reads'] },
      detail: {
        call: { ...GET, lease, destination: 'tickets.internal', arguments_digest: digest },
        enforced: false,
        check: 'every_call',
        confidence: 0.9,
        input: { action: 'callTool', tool: { name: 'tickets/get', access: 'read' } },
      },
    })
  })

  it.each([
    ['unknown to the configuration', { ...GET, tool: 'tickets/purge' }, 'tool_unknown'],
    ['not listed by the task', { ...GET, tool: 'web.post' }, 'outside_tools'],
    ['another action', { ...GET, tool: 'tickets/create', action: 'delete' }, 'outside_tools'],
    ['another target', { ...GET, tool: 'tickets/create', action: 'create', target: 'acme/shop' }, 'outside_tools'],
    ['a target that climbs by its parameters', { ...GET, tool: 'tickets/create', action: 'create', target: 'acme/docs/..;x/shop' }, 'outside_tools'],
    ['a target that climbs', { ...GET, tool: 'tickets/create', action: 'create', target: 'acme/docs/%2e%2e/shop' }, 'outside_tools'],
  ])('%s is denied, and that is recorded', async (_what, body, code) => {
    const refused = await ask(task, body)
    expect(refused).toMatchObject({ status: 403, body: { code, next: expect.any(String) } })
    expect(await eventOf(test, redis.client, refused.body)).toMatchObject({ type: 'tool.denied', task, code, detail: { call: body } })
  })

  it('for a task that lists no tools is denied, with what to do about it', async () => {
    const bare = await test.openTask()
    const refused = await ask(bare, GET)
    expect(refused).toMatchObject({ status: 403, body: { code: 'outside_tools', next: expect.stringContaining('opened with the `tools`') } })
  })

  it("of another agent's task is that of one that does not exist", async () => {
    for (const [stranger, body] of [
      [await test.token('reporter'), GET],
      [await test.token('mcp-proxy'), { ...GET, agent: 'reporter' }],
    ] as const) {
      const theirs = await ask(task, body, stranger)
      expect(theirs.status).toBe(404)
      expect(shape(theirs)).toEqual(shape(await ask(NO_TASK, body, stranger)))
    }
  })
  it('of a task that somebody made up does not choose whose outbox its refusal fills', async () => {
    const lengthOf = () => redis.client.xlen('mf:{p17}:events')
    const before = await lengthOf()
    const made = NO_TASK.replace('_00', '_17')
    const refused = await Promise.all(Array.from({ length: 60 }, () => ask(made, { ...GET, lease: `lease_17${'a'.repeat(26)}` })))
    // They go where events without a task go, a sixty-fourth of them here.
    expect((await lengthOf()) - before).toBeLessThan(20)
    expect(await eventOf(test, redis.client, refused[0]?.body)).toMatchObject({ type: 'tool.denied', detail: { claimed_task: made } })
  })

  it('counts as one request, and a batch as many as it holds: others are not kept waiting', async () => {
    const slow = await startTestBroker({ redisSocket: redis.socketPath, like: test, limits: '{requests_per_second: 10}' })
    try {
      const batch = (length: number) => slow.call('POST', `/v1/tasks/${task}/tool-calls`, agent, { calls: Array.from({ length }, () => GET) })
      const started = performance.now()
      const answers = await Promise.all(Array.from({ length: 8 }, () => batch(10)))
      const seconds = Math.ceil((performance.now() - started) / 1000)
      expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1 + seconds)
      for (const { status, body } of answers.filter(({ status }) => status !== 200))
        expect({ status, ...body }).toMatchObject({ status: 429, code: 'rate_limited' })
      await waitFor('a second of its own for more than a second has', async () => (await batch(64)).status === 200)
    } finally {
      await slow.stop()
    }
  })
})
