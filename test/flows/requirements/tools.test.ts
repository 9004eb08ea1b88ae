import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { taskRequest } from '../../support/broker.js'
import { type Scene, startScene } from './support.js'

let scene: Scene
let agent: string
beforeAll(async () => {
  scene = await startScene()
  agent = await scene.token('triage')
}, 60_000)
afterAll(() => scene?.stop())
afterEach(() => scene.clear())

const envelope = [{ role: 'warehouse-read' }, { role: 'api-token' }]
const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }
const CREATE = { tool: 'tickets/create', action: 'create', target: 'acme/app' }
const ask = (task: string, body: object, token = agent) => scene.call('POST', `/v1/tasks/${task}/tool-calls`, token, body)
const callsOf = (task: string) => scene.told(({ type, task: of }) => of === task && /^tool\./.test(type))

describe('tool calls', () => {
  it('requirement 16: check at each write, delete or transaction, or only at sensitive ones', async () => {
    const tools = [{ tool: 'tickets/get' }, { tool: 'tickets/create' }, { tool: 'vault/read' }]
    const strict = await scene.openTask({ envelope, tools })
    const { lease } = await scene.issued(strict, 'warehouse-read')
    // Two writes are two decisions, each told by itself and each with what it was made with.
    const first = await ask(strict, { ...CREATE, lease: lease.id })
    const second = await ask(strict, { ...CREATE, target: 'acme/docs', lease: lease.id })
    for (const { status, body } of [first, second])
      expect([status, body]).toMatchObject([200, { decision: 'allow', check: 'every_call', must_ask: true }])
    expect(second.body.call).not.toBe(first.body.call)
    expect(await callsOf(strict)).toMatchObject([
      { type: 'tool.called', id: first.body.call, lease: lease.id, detail: { call: { ...CREATE, lease: lease.id }, confidence: 0.9 } },
      { type: 'tool.called', id: second.body.call, lease: lease.id, detail: { call: { target: 'acme/docs' } } },
    ])
    // Between them, what is known of the task changes: the same write is decided anew, and so is the one after.
    await scene.call('PATCH', `/v1/tasks/${strict}/context`, await scene.token('flows'), { confidence: 0.3 })
    expect(await ask(strict, CREATE)).toMatchObject({ status: 403, body: { code: 'denied', policies: ['tool-confidence-floor'] } })
    // A lease that has ended serves no call.
    await scene.call('DELETE', `/v1/leases/${lease.id}?wait=10`, agent)
    expect(await ask(strict, { ...GET, lease: lease.id })).toMatchObject({ status: 409, body: { code: 'lease_ended' } })

    const lax = await scene.openTask({ envelope, tools, check: 'sensitive_only' })
    const mustAsk = async (body: object) => (await ask(lax, body)).body.must_ask
    // The answer says of which calls the task does not need to be asked; what is asked is decided and told all the same.
    expect(await Promise.all([mustAsk(GET), mustAsk(CREATE), mustAsk({ ...GET, tool: 'vault/read' })])).toEqual([false, true, true])
    expect((await scene.call('GET', `/v1/whoami?task=${lax}`, agent)).body.tools).toEqual([
      { tool: 'tickets/get', known: true, access: 'read', sensitivity: 'internal', must_ask: false },
      { tool: 'tickets/create', known: true, access: 'write', sensitivity: 'internal', must_ask: true },
      { tool: 'vault/read', known: true, access: 'read', sensitivity: 'restricted', must_ask: true },
    ])
    expect((await callsOf(lax)).map(({ detail }) => [detail.call.tool, detail.check]).toSorted()).toEqual([
      ['tickets/create', 'sensitive_only'],
      ['tickets/get', 'sensitive_only'],
      ['vault/read', 'sensitive_only'],
    ])
    expect((await ask(lax, { ...GET, target: 'x', tool: 'web.post' })).body.code).toBe('outside_tools')
  })

  it('requirement 28: constrained tool routing; newly found tools', async () => {
    const task = await scene.openTask({
      envelope,
      tools: [{ tool: 'tickets/get' }, { tool: 'tickets/create', actions: ['create'], targets: ['acme/*'] }],
    })
    expect((await ask(task, GET)).status).toBe(200)
    expect((await ask(task, CREATE)).status).toBe(200)
    // A tool that its server grew since: nobody has classified it, and nobody calls it.
    expect(await ask(task, { ...GET, tool: 'tickets/export_all' })).toMatchObject({ status: 403, body: { code: 'tool_unknown' } })
    // One that is configured, and not this task's; or not so.
    for (const other of [
      { ...GET, tool: 'web.post' },
      { ...CREATE, action: 'delete' },
      { ...CREATE, target: 'rival/app' },
    ])
      expect(await ask(task, other)).toMatchObject({ status: 403, body: { code: 'outside_tools' } })
    const unlisted = await scene.openTask({ envelope })
    expect(await ask(unlisted, GET)).toMatchObject({
      status: 403,
      body: { code: 'outside_tools', next: expect.stringContaining('lists none may call none') },
    })
    expect((await callsOf(task)).filter(({ type }) => type === 'tool.denied')).toHaveLength(4)

    // Nor for a credential: where a task has a list, a tool that is not in it gets none.
    expect(await scene.obtain(task, 'warehouse-read', { tool: 'web.post' })).toMatchObject({ status: 403, body: { code: 'outside_tools' } })
    expect(await scene.logins()).toEqual([])
    await scene.issued(task, 'warehouse-read', { tool: 'tickets/get' })

    // Whom a part of it is handed on to calls what they are given of it, and nothing else.
    const hand = async (tools?: object[]) =>
      scene.call('POST', `/v1/tasks/${task}/children`, agent, { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'api-token' }], tools })
    for (const wider of [[{ tool: 'web.post' }], [{ tool: 'tickets/create' }], [{ tool: 'tickets/create', actions: ['create'], targets: ['*'] }]])
      expect(await hand(wider)).toMatchObject({ status: 403, body: { code: 'outside_envelope' } })
    const reporter = await scene.token('reporter')
    const narrow = (await hand([{ tool: 'tickets/create', actions: ['create'], targets: ['acme/docs/*'] }])).body.task
    expect(narrow).toMatchObject({ tools: [{ tool: 'tickets/create', targets: ['acme/docs/*'] }] })
    expect((await ask(narrow.id, { ...CREATE, target: 'acme/docs/one' }, reporter)).status).toBe(200)
    for (const other of [CREATE, GET]) expect((await ask(narrow.id, other, reporter)).body.code).toBe('outside_tools')
    const bare = (await hand()).body.task
    expect((await ask(bare.id, GET, reporter)).body.code).toBe('outside_tools')
  })

  it('requirement 29: planning apart from execution', async () => {
    const tools = [{ tool: 'tickets/get' }, { tool: 'tickets/create' }]
    const plan = [
      { step: 'look at the ticket', tool: 'tickets/get', target: 'acme/app' },
      { step: 'look at the numbers', role: 'warehouse-read' },
      { step: 'write it up', tool: 'tickets/create', action: 'create', target: 'acme/docs/*' },
    ]
    const task = await scene.openTask({ envelope, tools, plan })
    expect((await scene.call('GET', `/v1/tasks/${task}`, agent)).body.task.plan).toEqual(plan)
    expect((await ask(task, GET)).status).toBe(200)
    await scene.issued(task, 'warehouse-read')
    expect((await ask(task, { ...CREATE, target: 'acme/docs/one' })).status).toBe(200)
    // What the task lists and policy would allow, and nobody planned.
    for (const step of [{ ...GET, target: 'acme/other' }, CREATE, { ...CREATE, action: 'delete', target: 'acme/docs/one' }])
      expect(await ask(task, step)).toMatchObject({ status: 403, body: { code: 'outside_plan', next: expect.any(String) } })
    const unplanned = await scene.obtain(task, 'api-token')
    expect(unplanned).toMatchObject({ status: 403, body: { code: 'outside_plan' } })
    expect(await scene.told(({ task: of, code }) => of === task && code === 'outside_plan')).toHaveLength(4)
    expect((await scene.call('GET', `/v1/whoami?task=${task}`, agent)).body.obtainable).toMatchObject([
      { role: 'warehouse-read', decision: 'allow' },
      { role: 'api-token', decision: 'deny', code: 'outside_plan' },
    ])
    // The plan is not the agent's to change, nor its child's to leave.
    expect((await scene.call('PATCH', `/v1/tasks/${task}/context`, agent, { plan: [{ role: 'api-token' }] })).body.code).toBe('request_invalid')
    const hand = async (more: object) => {
      const child = { assignees: [{ agent: 'reporter' }], envelope, tools, ...more }
      return scene.call('POST', `/v1/tasks/${task}/children`, agent, child)
    }
    expect(await hand({ plan: [{ role: 'api-token' }] })).toMatchObject({ status: 403, body: { code: 'outside_envelope' } })
    const child = (await hand({})).body.task
    expect(child.plan).toEqual(plan)
    expect((await ask(child.id, CREATE, await scene.token('reporter'))).body.code).toBe('outside_plan')
    // A step that could never be taken is a mistake, told when the task is opened.
    const typo = { ...taskRequest(), envelope, tools, plan: [{ tool: 'web.post' }] }
    expect(await scene.call('POST', '/v1/tasks', await scene.token('flows'), typo)).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', errors: [{ path: 'plan.0.tool' }] },
    })
  })
})
