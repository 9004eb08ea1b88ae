import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { event } from '../../src/event.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf, type Told } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const POLICY = `
@id("payroll-closes")
@onDeny("close-task")
@reason("payroll is for no agent")
forbid (principal, action == Action::"callTool", resource)
when { context.target like "payroll/*" };

@id("honeypot-suspends")
@onDeny("suspend-agent")
@reason("nothing that works as it should looks there")
forbid (principal is Agent, action == Action::"callTool", resource)
when { context.target == "honeypot" };

@id("deletes-only-through-a-gateway")
forbid (principal is Agent, action == Action::"callTool", resource)
when { context.call == "delete" }
unless { context.enforced };

@id("secrets-need-a-human")
@stepUp("sre-oncall")
forbid (principal is Agent, action == Action::"callTool", resource)
when { context.target == "secrets" }
unless { context.approval.groups.contains(Group::"sre-oncall") };
`
const AGENTS = `
  - {id: twin, match: {issuer: test, sub: twin-a}, owner: sre@example.com, autonomy: supervised, team: platform}
  - {id: twin, match: {issuer: spare, sub: twin-b}, owner: sre@example.com, autonomy: autonomous, team: platform}
  - {id: snared, match: {issuer: test, sub: snared}, owner: sre@example.com, autonomy: supervised, team: platform}
  - {id: "squad/{sub}", match: {issuer: test, sub: member-*}, owner: sre@example.com, autonomy: supervised, team: platform}
  - {id: quiet, match: {issuer: test, sub: quiet}, owner: sre@example.com, autonomy: supervised, team: platform}
  - {id: trapped, match: {issuer: test, sub: trapped}, owner: sre@example.com, autonomy: supervised, team: platform}
`
const TOOLS = [{ tool: 'tickets/get' }, { tool: 'tickets/create' }, { tool: 'vault/read' }, { tool: 'web.post' }]
const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }
const CREATE = { tool: 'tickets/create', action: 'create', target: 'acme/app' }
const POST = { tool: 'web.post', action: 'post', target: 'https://news.example' }

let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let agent: string
let proxy: string

beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    policy: POLICY,
    agents: AGENTS,
    gateways:
      '  - {id: narrow, match: {issuer: test, sub: narrow}, audiences: ["https://reports.example"], tools: [tickets/*], agents: [reporter, squad/*]}',
    issuers: '  spare: {jwks: env:JWKS, issuer: "https://spare.test", audience: mayfly}',
    limits: '{requests_per_second: 100000, per_agent_live: 0}',
  })
  call = checking(test.call)
  ;[agent, proxy] = await Promise.all([test.token('triage'), test.token('mcp-proxy')])
})
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const openTask = (more: Record<string, unknown> = {}) => test.openTask({ tools: TOOLS, ...more })
const ask = (task: string, body: object, token = agent) => call('POST', `/v1/tasks/${task}/tool-calls`, token, body)
const told = async (fits: (event: Told) => boolean) => (await eventsOf(test, redis.client)).filter(fits)
const stateOf = async (task: string) => (await call('GET', `/v1/tasks/${task}`, await test.token('flows'))).body.task.state

describe('a gateway', () => {
  it('asks in the stead of an agent that it names, and its answer is enforcement', async () => {
    const task = await openTask()
    const { status, body } = await ask(task, { ...GET, agent: 'triage' }, proxy)
    expect([status, body]).toMatchObject([200, { decision: 'allow', enforced: true }])
    expect((await told(({ id }) => id === body.call))[0]).toMatchObject({
      type: 'tool.called',
      principal: { kind: 'gateway', id: 'mcp-proxy' },
      detail: { enforced: true, agent: { id: 'triage', owner: 'sre@example.com', issuer: 'test' } },
    })
    expect((await ask(task, GET)).body.enforced).toBe(false)
    // Policy tells the two apart.
    const remove = { ...CREATE, action: 'delete' }
    expect((await ask(task, remove)).body).toMatchObject({ code: 'denied', policies: ['deletes-only-through-a-gateway'] })
    expect((await ask(task, { ...remove, agent: 'triage' }, proxy)).status).toBe(200)
  })

  it('is answered about its own tools alone, and only for agents that work on the task', async () => {
    const task = await openTask()
    const other = await ask(task, { ...POST, agent: 'triage' }, proxy)
    expect(other).toMatchObject({ status: 403, body: { code: 'denied' } })
    for (const calls of [[GET, POST], [POST]]) expect((await ask(task, { calls, agent: 'triage' }, proxy)).body.code).toBe('denied')
    expect((await ask(task, { ...GET, agent: 'reporter' }, proxy)).body.code).toBe('not_found')
    expect((await ask(task, { ...GET, agent: 'nobody' }, proxy)).body.code).toBe('denied')
    expect((await ask(task, { ...GET, agent: 'triage', issuer: 'spare' }, proxy)).body.code).toBe('denied')
    // Nothing was allowed on the way.
    expect(await told(({ type, task: of }) => type === 'tool.called' && of === task)).toEqual([])
    for (const token of [await test.token('reports-api'), await test.token('flows'), await test.token('oncall')])
      expect(await ask(task, { ...GET, agent: 'triage' }, token)).toMatchObject({ status: 403, body: { code: 'denied' } })
  })

  it('tells apart the copies of an agent, and agents of two issuers with one name', async () => {
    const [one, two] = [await test.token('copy-a', { run: '1' }), await test.token('copy-a', { run: '2' })]
    const bound = await openTask({ assignees: [{ agent: 'copy-copy-a', bind_instance: true }] })
    expect((await ask(bound, GET, one)).status).toBe(200)
    expect((await ask(bound, { ...GET, agent: 'copy-copy-a', instance: '1' }, proxy)).status).toBe(200)
    expect((await ask(bound, { ...GET, agent: 'copy-copy-a', instance: '2' }, proxy)).body.code).toBe('not_found')
    expect((await ask(bound, { ...GET, agent: 'copy-copy-a' }, proxy)).body.code).toBe('denied')
    expect((await ask(bound, GET, two)).body.code).toBe('not_found')
    const shared = await openTask({ assignees: [{ agent: 'twin' }] })
    expect((await ask(shared, { ...GET, agent: 'twin' }, proxy)).body).toMatchObject({ code: 'denied', next: 'name its issuer too' })
    expect((await ask(shared, { ...GET, agent: 'twin', issuer: 'test' }, proxy)).status).toBe(200)
    expect((await ask(shared, { ...GET, agent: 'twin', issuer: 'spare' }, proxy)).status).toBe(200)
  })

  it('and neither of those reads, renews or returns what the other obtained', async () => {
    const [one, two] = [await test.token('twin-a'), await test.token('twin-b', { iss: 'https://spare.test' })]
    const shared = await openTask({ assignees: [{ agent: 'twin' }] })
    const { lease } = (await call('POST', '/v1/leases', one, { task: shared, role: 'api-token' })).body
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/renew'],
      ['DELETE', ''],
    ] as const)
      expect((await call(method, `/v1/leases/${lease.id}${path}`, two, method === 'POST' ? {} : undefined)).body.code).toBe('not_found')
    expect((await call('GET', `/v1/leases/${lease.id}`, one)).body.lease).toMatchObject({ state: 'active' })
  })

  it('takes a token signed by Mayfly that the agent showed to it: of a live lease, meant for it, and for no other task', async () => {
    const task = await openTask()
    const { lease, credential } = (await call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body
    const shown = { ...GET, token: credential.token }
    expect((await ask(task, shown, proxy)).body).toMatchObject({ decision: 'allow', enforced: true })
    const elsewhere = await openTask({ assignees: [{ agent: 'reporter' }] })
    expect((await ask(elsewhere, shown, proxy)).body.code).toBe('not_found')
    for (const token of [agent, 'nonsense', `${credential.token.slice(0, -4)}AAAA`])
      expect((await ask(task, { ...GET, token }, proxy)).body.code).toBe('denied')
    for (const body of [GET, { ...shown, agent: 'triage' }]) expect((await ask(task, body, proxy)).status).toBe(422)
    await call('DELETE', `/v1/leases/${lease.id}`, agent)
    expect((await ask(task, shown, proxy)).body.code).toBe('denied')
  })

  it('asks for its own agents alone, and what it says of others counts against none of them', async () => {
    const narrow = await test.token('narrow')
    const agents = ['reporter', 'squad/member-1']
    const task = await openTask({ assignees: ['triage', 'quiet', ...agents].map((one) => ({ agent: one })) })
    for (const one of agents) expect((await ask(task, { ...GET, agent: one }, narrow)).body).toMatchObject({ decision: 'allow', enforced: true })
    const { lease, credential } = (await call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body
    const elsewhere = await openTask({ assignees: [{ agent: 'triage' }] })
    const detail = 'this gateway does not ask in the stead of that agent'
    for (const whom of [
      { agent: 'quiet' },
      { agent: 'nobody' },
      { agent: 'squad' },
      { agent: 'reporters' },
      { agent: 'squad-2/x' },
      { token: credential.token },
    ])
      for (const other of [task, elsewhere])
        expect(await ask(other, { ...GET, ...whom }, narrow)).toMatchObject({ status: 403, body: { code: 'denied', detail } })
    expect((await ask(task, { calls: [GET, GET], agent: 'quiet' }, narrow)).body).toMatchObject({ code: 'denied', detail })
    const denied = () => told(({ type, detail }) => type === 'tool.denied' && detail?.agent?.id === 'quiet')
    expect(await denied()).toEqual([])
    // A gateway without such a list has it counted, and by then whatever came before is counted too.
    expect((await ask(elsewhere, { ...GET, agent: 'quiet' }, proxy)).body.code).toBe('not_found')
    expect(await denied()).toHaveLength(1)
    const oncall = await test.token('oncall')
    const risk = async () => (await call('GET', '/v1/agents/quiet', oncall)).body.risk
    await waitFor('what the agent did is counted', async () => (await risk()).counted_since !== undefined)
    const { signals } = await risk()
    expect(signals.refused).toBeGreaterThan(0)
    // Of what was refused, each is 3 points.
    expect(signals.refused).toBeLessThanOrEqual(3)
    await call('DELETE', `/v1/leases/${lease.id}`, agent)
  })

  it('is the only one to ask for another', async () => {
    const task = await openTask()
    for (const more of [{ agent: 'reporter' }, { agent: 'triage' }, { token: 'x' }, { instance: '1' }, { issuer: 'test' }])
      expect(await ask(task, { ...GET, ...more })).toMatchObject({ status: 422, body: { code: 'request_invalid' } })
  })
})

describe('calls decided together', () => {
  it('are decided in their order, each with an answer and an event of its own', async () => {
    const task = await openTask()
    const { status, body } = await ask(task, { calls: [GET, { ...GET, tool: 'tickets/purge' }, CREATE] })
    expect(status).toBe(200)
    expect(body.calls).toMatchObject([
      { decision: 'allow', call: expect.any(String) },
      { decision: 'deny', problem: { code: 'tool_unknown', status: 403, instance: expect.stringContaining('urn:uuid:') } },
      { decision: 'allow' },
    ])
    const events = await told(({ task: of, type }) => of === task && /^tool\./.test(type))
    expect(events.map(({ type, detail }) => [type, detail.call.tool])).toEqual([
      ['tool.called', 'tickets/get'],
      ['tool.denied', 'tickets/purge'],
      ['tool.called', 'tickets/create'],
    ])
  })

  it('weigh on those that come after them: what was read, and what was brought about', async () => {
    const task = await openTask()
    const leak = await ask(task, { calls: [POST, { ...GET, tool: 'vault/read' }, POST, CREATE] })
    expect(leak.body.calls.map(({ decision, problem }: Told) => problem?.policies ?? decision)).toEqual([
      'allow',
      'allow',
      ['restricted-read-then-external-call'],
      'allow',
    ])
    const closing = await openTask()
    const answer = await ask(closing, { calls: [GET, { ...GET, target: 'payroll/2026' }, GET, CREATE] })
    expect(answer.body.calls.map(({ decision, problem }: Told) => problem?.code ?? decision)).toEqual(['allow', 'denied', 'task_ended', 'task_ended'])
  })

  it.each([
    ['none', { calls: [] }],
    ['more than 64', { calls: Array.from({ length: 65 }, () => GET) }],
    ['one beside them', { ...GET, calls: [GET] }],
    ['neither', {}],
    ['one without a target', { tool: 'tickets/get', action: 'get' }],
    ['an unknown field', { ...GET, resource: 'x' }],
    ['a digest that is none', { ...GET, arguments_digest: 'abc' }],
    ['a lone surrogate', { ...GET, target: '\ud800' }],
  ])('are refused as a whole where there is %s', async (_what, body) => {
    const task = await openTask()
    expect(await ask(task, body)).toMatchObject({ status: 422, body: { code: 'request_invalid' } })
  })
})

describe('a denied call', () => {
  it('with @onDeny("close-task") has ended the task, and taken what it held, before its answer leaves', async () => {
    const task = await openTask()
    const child = (
      await call('POST', `/v1/tasks/${task}/children`, agent, {
        assignees: [{ agent: 'reporter' }],
        envelope: [{ role: 'api-token' }],
        tools: [TOOLS[0]],
      })
    ).body.task.id
    const { lease } = (await call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body
    const denied = await ask(task, { ...GET, target: 'payroll/2026' })
    expect(denied).toMatchObject({
      status: 403,
      body: { code: 'denied', detail: 'payroll is for no agent', policies: ['payroll-closes'], next: expect.stringContaining('has been closed') },
    })
    expect([await stateOf(task), await stateOf(child)]).toEqual(['revoked', 'revoked'])
    await waitFor('the lease to be revoked', async () => (await call('GET', `/v1/leases/${lease.id}`, agent)).body.lease.state === 'revoked')
    const id = denied.body.instance.replace('urn:uuid:', '')
    expect(await told(({ type, task: of }) => type === 'task.ended' && of === task)).toMatchObject([
      { cause: 'task_revoked', principal: { id: 'triage' }, detail: { denied: id, reason: expect.stringContaining('payroll-closes') } },
    ])
    // Once, however often it is asked.
    expect((await ask(task, { ...GET, target: 'payroll/2026' })).body.code).toBe('task_ended')
    expect(await told(({ type, task: of }) => type === 'task.ended' && of === task)).toHaveLength(1)
  })

  it('with @onDeny("suspend-agent") has suspended the agent, until an operator resumes it', async () => {
    const [trapped, oncall] = await Promise.all([test.token('trapped'), test.token('oncall')])
    const assignees = [{ agent: 'trapped' }]
    const [task, other] = [await openTask({ assignees }), await openTask({ assignees })]
    const { lease } = (await call('POST', '/v1/leases', trapped, { task: other, role: 'api-token' })).body
    const answers = await Promise.all([1, 2, 3].map(() => ask(task, { ...GET, target: 'honeypot' }, trapped)))
    for (const one of answers) expect(one).toMatchObject({ status: 403, body: { code: 'denied', next: expect.stringContaining('suspended') } })
    expect((await ask(other, GET, trapped)).body.code).toBe('frozen')
    expect((await call('POST', '/v1/leases', trapped, { task: other, role: 'api-token' })).body.code).toBe('frozen')
    await waitFor('the lease to be revoked', async () => (await call('GET', `/v1/leases/${lease.id}`, trapped)).body.lease.state === 'revoked')
    const standing = (await call('GET', '/v1/agents/trapped', oncall)).body
    expect(standing).toMatchObject({ agent: { standing: 'suspended' } })
    expect(standing.freezes[0]).toMatchObject({ kind: 'suspension', by: 'policy', reason: expect.stringContaining('honeypot-suspends') })
    // Others are not concerned; asking again changes nothing.
    expect((await ask(await openTask(), GET)).status).toBe(200)
    const before = standing.freezes.length
    await ask(task, { ...GET, target: 'honeypot' }, trapped)
    expect((await call('GET', '/v1/agents/trapped', oncall)).body.freezes).toHaveLength(before)
    await call('POST', '/v1/agents/trapped/resume', oncall, { reason: 'looked into' })
    expect((await ask(other, GET, trapped)).status).toBe(200)
  })

  it('with @onDeny("suspend-agent") has what it holds revoked, also where a broker died between the freeze and that', async () => {
    const [snared, oncall] = await Promise.all([test.token('snared'), test.token('oncall')])
    const task = await openTask({ assignees: [{ agent: 'snared' }] })
    const { lease } = (await call('POST', '/v1/leases', snared, { task, role: 'api-token' })).body
    const { ledger } = test.broker.house()
    const selector = { agent: ['snared'] }
    // What that broker left behind.
    const { freeze } = await ledger.freeze(
      { selector, reason: 'looked', by: 'policy', kind: 'suspension' },
      event('freeze.set', undefined, undefined, { detail: { selector } }),
    )
    expect(await ledger.revocation(freeze.id)).toBeUndefined()
    const look = () => ask(task, { ...GET, target: 'honeypot' }, snared)
    expect((await look()).body.next).toContain('suspended')
    await waitFor('the lease to be revoked', async () => (await call('GET', `/v1/leases/${lease.id}`, snared)).body.lease.state === 'revoked')
    await look()
    expect((await call('GET', '/v1/agents/snared', oncall)).body.freezes).toMatchObject([{ id: freeze.id }])
  })

  it('with @stepUp says whose consent it would take, and asks nobody', async () => {
    const task = await openTask()
    const asked = await ask(task, { ...GET, target: 'secrets' })
    expect(asked).toMatchObject({ status: 403, body: { code: 'approval_required', step_up: [{ group: 'sre-oncall', approvals: 1 }] } })
    expect(await told(({ type, task: of }) => type === 'approval.asked' && of === task)).toEqual([])
  })
})

describe('what a tool touched', () => {
  it('what a tool read weighs like what a credential read', async () => {
    const task = await openTask()
    expect((await ask(task, POST)).status).toBe(200)
    expect((await ask(task, { ...GET, tool: 'vault/read' })).status).toBe(200)
    expect((await ask(task, POST)).body).toMatchObject({ code: 'denied', policies: ['restricted-read-then-external-call'] })
    expect((await call('GET', `/v1/tasks/${task}`, agent)).body.task.obtained).toEqual(['read:restricted', 'write:public'])
  })
})
