import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Ledger, NewCall, NewTask } from '../../src/ledger/ledger.js'
import type { Task } from '../../src/types.js'
import { event, eventsOf, type Fixture, granted, HOUR, openTask, setFields, startLedger, taskNow } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const AGENT = { id: 'triage', owner: 'sre@example.com', issuer: 'cluster' }
const GET = { name: 'tickets/get', access: 'read', sensitivity: 'restricted' } as const
const PUT = { name: 'tickets/put', access: 'write', sensitivity: 'internal' } as const

const callOf = (task: Task, more: Partial<NewCall> = {}): NewCall => ({
  task: task.id,
  agent: AGENT,
  tool: PUT,
  facts: { contextVersion: task.contextVersion, obtained: task.obtained },
  ...more,
})
/** Decided on the task as it is now. */
async function call(ledger: Ledger, task: string, more: Partial<NewCall> = {}) {
  return ledger.callTool(callOf(await taskNow(ledger, task), more), event('tool.called', { task }))
}
const told = async (ledger: Ledger, task: string) => (await eventsOf(ledger)).filter((one) => one.task === task && one.type === 'tool.called')

describe('a tool call', () => {
  it('is recorded in the step that allows it, and what it touched counts as obtained by the tree', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    expect(await call(ledger, child.id, { tool: GET })).toEqual({ ok: true })
    expect(await call(ledger, child.id)).toEqual({ ok: true })
    expect(await told(ledger, child.id)).toHaveLength(2)
    for (const id of [root.id, child.id]) expect((await taskNow(ledger, id)).obtained).toEqual(['read:restricted', 'write:internal'])
    // No credential came of it.
    expect((await taskNow(ledger, root.id)).counts).toEqual({ read: 0, write: 0, escalate: 0 })
  })

  it('on a task read recently is one command, and the next knows what it touched', async () => {
    const ledger = await fixture.open()
    const task = await openTask(ledger)
    await call(ledger, task.id, { tool: GET })
    const monitor = await fixture.redis.client.monitor()
    const seen: string[] = []
    monitor.on('monitor', (_time: string, [name = '']: string[]) => seen.push(name))
    const recent = await ledger.task(task.id)
    expect(recent?.obtained).toEqual(['read:restricted'])
    const answer = recent && (await ledger.callTool(callOf(recent), event('tool.called', { task: task.id })))
    // After whatever came before it.
    await fixture.redis.client.ping()
    monitor.disconnect()
    expect(answer).toEqual({ ok: true })
    const scripts = seen.filter((name) => /^(evalsha|eval|ping)$/i.test(name)).map((name) => name.toLowerCase())
    expect(scripts).toEqual(['evalsha', 'ping'])
  })

  it('with a lease is refused while the role or the provider of that lease is frozen, and without it is not', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    for (const selector of [{ role: ['warehouse-read'] }, { provider: ['warehouse'] }, { agent: ['triage'], provider: ['warehouse'] }]) {
      const { freeze } = await ledger.freeze({ selector, reason: 'r', by: 'op' }, event('freeze.set'))
      expect(await call(ledger, task.id, { lease: lease.id })).toMatchObject({ ok: false, refused: 'frozen' })
      expect(await call(ledger, task.id)).toEqual({ ok: true })
      await ledger.thaw(freeze.id, { reason: 'r', by: 'op' }, event('freeze.thawed'))
      expect(await call(ledger, task.id, { lease: lease.id })).toEqual({ ok: true })
    }
  })

  it('is refused once its task, or one above it, has ended or is past its deadline', async () => {
    const { ledger, redis } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const late = await openTask(ledger, { deadlineAt: ledger.now() + HOUR })
    await ledger.endTask(root.id, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
    await setFields(redis, 'task', late.id, { dl: ledger.now() - 1_000 })
    expect(await ledger.callTool(callOf(root), event('tool.called'))).toMatchObject({ refused: 'ended', detail: 'completed' })
    expect(await ledger.callTool(callOf(child), event('tool.called'))).toMatchObject({ refused: 'ended', detail: 'completed' })
    expect(await ledger.callTool(callOf(late), event('tool.called'))).toMatchObject({ refused: 'ended', detail: 'expired' })
    expect(await ledger.callTool({ ...callOf(root), task: ledger.newTaskId() }, event('tool.called'))).toMatchObject({ refused: 'not_found' })
  })

  it('is of those who work on the task, and binds the copy that comes first', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { assignees: [{ agent: 'triage', bindInstance: true }] })
    const as = (instance?: string) => call(ledger, task.id, { agent: { ...AGENT, instance } })
    expect(await call(ledger, task.id, { agent: { ...AGENT, id: 'other' } })).toMatchObject({ refused: 'not_assigned' })
    expect(await as()).toMatchObject({ refused: 'not_assigned' })
    expect(await as('pod 1')).toEqual({ ok: true })
    expect(await as('pod 2')).toMatchObject({ refused: 'not_assigned' })
    expect((await taskNow(ledger, task.id)).assignees).toEqual([{ agent: 'triage', bindInstance: true, instance: 'pod 1' }])
  })

  it.each([
    [{ agent: ['triage'] }],
    [{ owner: ['sre@example.com'] }],
    [{ issuer: ['cluster'] }],
    [{ orchestrator: ['flows'] }],
    [{ agent: ['triage'], orchestrator: ['flows'] }],
  ])('is refused while %j is frozen', async (selector) => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const { freeze } = await ledger.freeze({ selector, reason: 'look', by: 'oncall' }, event('freeze.set'))
    expect(await call(ledger, task.id)).toMatchObject({ refused: 'frozen', detail: freeze.id })
    await ledger.thaw(freeze.id, { reason: 'seen', by: 'oncall' }, event('freeze.thawed'))
    expect(await call(ledger, task.id)).toEqual({ ok: true })
  })

  it('is refused when what the decision read has changed, and only then', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await call(ledger, task.id, { tool: GET })
    expect(await ledger.callTool(callOf(task), event('tool.called'))).toMatchObject({ refused: 'stale' })
    const before = await taskNow(ledger, task.id)
    await ledger.changeTask(task.id, { classification: 'restricted' }, event('task.changed'))
    expect(await ledger.callTool(callOf(before), event('tool.called'))).toMatchObject({ refused: 'stale' })
    const now = await taskNow(ledger, task.id)
    await granted(ledger, task.id, { role: { name: 'r', provider: 'warehouse', access: 'read', sensitivity: 'restricted', params: {} } })
    const { contextVersion, obtained, counts } = now
    // Counts are compared where a policy read them.
    expect(await ledger.callTool(callOf(now, { facts: { contextVersion, obtained, counts } }), event('tool.called'))).toMatchObject({
      refused: 'stale',
    })
    expect(await ledger.callTool(callOf(now), event('tool.called'))).toEqual({ ok: true })
  })

  it('names a live lease of this agent, this copy and this task, or none', async () => {
    const { ledger, redis } = fixture
    const agents = [{ agent: 'triage' }, { agent: 'other' }]
    const [task, another] = [await openTask(ledger, { assignees: agents }), await openTask(ledger, { assignees: agents })]
    const own = await granted(ledger, task.id, { agent: AGENT })
    const copys = await granted(ledger, task.id, { agent: { ...AGENT, instance: 'pod-1' } })
    const others = await granted(ledger, task.id, { agent: { ...AGENT, id: 'other' } })
    const elsewhere = await granted(ledger, another.id, { agent: AGENT })
    const closed = await granted(ledger, task.id, { agent: AGENT })
    const expired = await granted(ledger, task.id, { agent: AGENT })
    await ledger.close(closed.id, 'released', event('lease.closing'))
    await setFields(redis, 'lease', expired.id, { xa: ledger.now() - 1_000 })
    expect(await call(ledger, task.id, { lease: own.id })).toEqual({ ok: true })
    for (const { id } of [copys, others, elsewhere, closed, expired, { id: ledger.newLeaseId(task.id) }])
      expect(await call(ledger, task.id, { lease: id })).toMatchObject({ refused: 'lease' })
  })

  it('is counted where the task says how often, by all that is below as well', async () => {
    const { ledger } = fixture
    const tools = (maxCalls?: number): Pick<NewTask, 'tools'> => ({ tools: [{ tool: GET.name }, { tool: PUT.name, maxCalls }] })
    const root = await openTask(ledger, tools(3))
    const child = await openTask(ledger, { parent: root.id, ...tools(2) })
    for (const times of [1, 2]) expect([times, await call(ledger, child.id, { maxCalls: 2 })]).toEqual([times, { ok: true }])
    expect(await call(ledger, child.id, { maxCalls: 2 })).toMatchObject({ refused: 'calls' })
    expect(await call(ledger, root.id, { maxCalls: 3 })).toEqual({ ok: true })
    expect(await call(ledger, root.id, { maxCalls: 3 })).toMatchObject({ refused: 'calls' })
    const free = await openTask(ledger, { parent: root.id, ...tools(1) })
    expect(await call(ledger, free.id, { maxCalls: 1 })).toMatchObject({ refused: 'calls' })
    // A tool without a limit is not counted.
    for (const _ of [1, 2, 3, 4]) expect(await call(ledger, child.id, { tool: GET })).toEqual({ ok: true })
  })

  it('that cannot be recorded is not allowed, and neither counted nor obtained', async () => {
    const full = await startLedger({ outboxLimit: 4 })
    const { ledger } = full
    const task = await openTask(ledger, { tools: [{ tool: PUT.name, maxCalls: 9 }] })
    const fill = async (): Promise<void> => ((await ledger.record(event('lease.denied', { task: task.id }))).ok ? fill() : undefined)
    await fill()
    expect(await call(ledger, task.id, { maxCalls: 9 })).toMatchObject({ refused: 'outbox_full' })
    expect((await taskNow(ledger, task.id)).obtained).toEqual([])
    expect(await full.redis.client.hget(`mf:{p${task.id.slice(5, 7)}}:task:${task.id}`, `T:${PUT.name}`)).toBeNull()
    await full.stop()
  })
})

describe('a task', () => {
  it('keeps its tools, how they are checked and its plan, and the same external id with others is a conflict', async () => {
    const { ledger } = fixture
    const declared = {
      tools: [{ tool: 'tickets/put', actions: ['put'], targets: ['acme/*'], maxCalls: 3 }],
      check: 'sensitive_only',
      plan: [{ step: 'write', tool: 'tickets/put' }, { role: 'warehouse-read' }],
    } as const
    const opened = await openTask(ledger, { externalId: 'job-1', ...declared })
    expect(opened).toMatchObject(declared)
    expect(await taskNow(ledger, opened.id)).toMatchObject(declared)
    const { tools: _tools, ...without } = declared
    await expect(openTask(ledger, { externalId: 'job-1', ...without })).rejects.toThrow('conflict')
    const bare = await openTask(ledger)
    expect([bare.tools, bare.check, bare.plan]).toEqual([undefined, undefined, undefined])
  })
})
