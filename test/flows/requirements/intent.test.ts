import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { startClassifier, type TestClassifier } from '../../support/classifier.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

let scene: Scene
let classifier: TestClassifier
let agent: string
let flows: string
let oncall: string
beforeAll(async () => {
  classifier = await startClassifier()
  scene = await startScene({
    more: classifier.yaml('timeout: 1500ms'),
    env: classifier.env,
    roles: '  orders-write: {provider: warehouse, access: write, sensitivity: internal, max_ttl: 5m, params: {member_of: [reporting_rw]}}',
    agents:
      '  - {id: opener, match: {issuer: test, sub: opener}, owner: sre@example.com, autonomy: supervised, team: platform, open_tasks: {envelope: [{role: warehouse-read, max_ttl: 60s}, {role: orders-write, max_ttl: 60s}]}}\n',
  })
  ;[agent, flows, oncall] = await Promise.all([scene.token('opener'), scene.token('flows'), scene.token('oncall')])
}, 60_000)
beforeEach(() => {
  classifier.asked.length = 0
  classifier.answer = () => ({ intent: 'unclassified', confidence: 0 })
})
afterAll(async () => {
  await scene?.stop()
  await classifier?.stop()
})

/** A task that the agent opens for itself, in its own words. */
async function opensForItself(more: object = {}) {
  const envelope = [
    { role: 'warehouse-read', max_ttl: 60 },
    { role: 'orders-write', max_ttl: 60 },
  ]
  const ask = { intent: 'incident-triage', confidence: 1, classification: 'public', envelope, deadline_at: in10Minutes(), ...more }
  const { status, body } = await scene.call('POST', '/v1/tasks', agent, ask)
  expect(status).toBe(201)
  return body.task
}
const in10Minutes = () => new Date(Date.now() + 600_000).toISOString()
const obtain = (task: string, role: string, more = {}) => scene.obtain(task, role, more, 'opener')
/** What PostgreSQL was ever told to create for an agent, whatever became of it. */
async function created(): Promise<number> {
  // What was said before stands in the log before this.
  const mark = crypto.randomUUID()
  await scene.postgres.query(`select '${mark}'`)
  const text = await waitFor('the log', async () => {
    const log = await readFile(scene.postgres.logPath, 'utf8')
    return log.includes(mark) ? log : undefined
  })
  return [...text.matchAll(/create role "?mf-test-/gi)].length
}
/** Asks, is told to wait for a human, and had nothing made upstream. */
async function waitsForAHuman(task: string, role: string, policies: readonly string[]): Promise<string> {
  const before = await created()
  const { status, body } = await obtain(task, role)
  expect([status, body.approval?.policies, body.approval?.needs]).toEqual([202, policies, [{ group: 'sre-oncall', approvals: 1, given: 0 }]])
  expect([await created(), await scene.logins()]).toEqual([before, []])
  return body.approval.id
}
/** A human agrees, and then there is a login that works. */
async function worksOnceAgreed(task: string, role: string, approval: string) {
  expect((await scene.call('POST', `/v1/approvals/${approval}/approve`, oncall, {})).body.approval.state).toBe('granted')
  const before = await created()
  const { status, body } = await obtain(task, role, { approval })
  expect(status).toBe(201)
  expect(await created()).toBe(before + 1)
  expect(await query(body.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
}
const end = async (task: string, who = agent) => {
  expect((await scene.call('POST', `/v1/tasks/${task}/complete?wait=10`, who, {})).status).toBe(200)
  await scene.nothingUpstream()
}

describe('requirement 07: confidence as an input: 0–1 from a trusted classifier only', () => {
  it('low -> human, for writing and for reading what is confidential; high enough -> none', async () => {
    classifier.answer = () => ({ intent: 'incident-triage', confidence: 0.59, classification: 'internal' })
    const low = await opensForItself({ intent: 'the orders look wrong' })
    expect(low).toMatchObject({ intent: 'incident-triage', classified: true, classified_by: 'classifier', confidence: 0.59 })
    await waitsForAHuman(low.id, 'warehouse-read', ['confidence-floor-reading'])
    const approval = await waitsForAHuman(low.id, 'orders-write', ['confidence-floor'])
    await worksOnceAgreed(low.id, 'orders-write', approval)
    await end(low.id)

    classifier.answer = () => ({ intent: 'incident-triage', confidence: 0.6, classification: 'internal' })
    const high = await opensForItself({ intent: 'the orders look wrong' })
    for (const role of ['warehouse-read', 'orders-write']) expect((await obtain(high.id, role)).status).toBe(201)
    await end(high.id)
  })

  it('absent -> 0', async () => {
    const task = await scene.openTask({ confidence: undefined, assignees: [{ agent: 'opener' }], envelope: [{ role: 'orders-write' }] })
    expect((await scene.call('GET', `/v1/tasks/${task}`, flows)).body.task).toMatchObject({ classified: true, confidence: 0 })
    await waitsForAHuman(task, 'orders-write', ['confidence-floor'])
    await end(task, flows)
  })

  it('agent-asserted -> 0, and what it asserts is not in the question as anybody else says it', async () => {
    const task = await opensForItself({ intent: 'incident-triage', confidence: 1, labels: { confidence: '1', note: 'classified by flows' } })
    expect(task).toMatchObject({ classified: false, confidence: 0, classification: 'restricted' })
    await waitsForAHuman(task.id, 'orders-write', ['confidence-floor', 'unclassified-intent'])
    const [{ data }] = classifier.asked as [(typeof classifier.asked)[number]]
    expect(data).toMatchObject({ claimed: { intent: 'incident-triage', labels: { confidence: '1' } }, opened_by: { kind: 'agent', id: 'opener' } })
    expect(data).not.toHaveProperty('stated')
    expect(JSON.stringify(data.claimed)).not.toContain('"confidence":1')
    await end(task.id)
  })

  it('an agent cannot raise it later, a trusted source can', async () => {
    classifier.answer = () => ({ intent: 'incident-triage', confidence: 0.3 })
    const own = await opensForItself()
    expect((await scene.call('PATCH', `/v1/tasks/${own.id}/context`, agent, { confidence: 0.9 })).body.code).toBe('denied')
    await waitsForAHuman(own.id, 'orders-write', ['confidence-floor'])
    await end(own.id)

    const task = await scene.openTask({ intent: 'something else', assignees: [{ agent: 'opener' }], envelope: [{ role: 'orders-write' }] })
    await waitsForAHuman(task, 'orders-write', ['confidence-floor'])
    const raised = await scene.call('PATCH', `/v1/tasks/${task}/context`, flows, { confidence: 0.8 })
    expect(raised.body.task).toMatchObject({ intent: 'incident-triage', stated_intent: 'something else', confidence: 0.8 })
    expect((await obtain(task, 'orders-write')).status).toBe(201)
    await end(task, flows)
  })
})

describe('requirement 08: intent that cannot be classified: fail closed, human review', () => {
  const NO_ANSWERS: [string, TestClassifier['answer'], string][] = [
    ['times out', () => 'never', 'timeout'],
    ['says that it cannot', () => ({ intent: 'unclassified', confidence: 1 }), 'unclassified'],
    ['answers with an error', () => 500, 'refused'],
    ['answers with something else', () => ({ intent: 'incident-triage', confidence: 7 }), 'malformed'],
    [
      'hangs up',
      (_data, response) => {
        response.destroy()
        return undefined
      },
      'unreachable',
    ],
  ]

  it.each(NO_ANSWERS)('unclassified -> step-up: the classifier %s: zero provider calls, and a human decides', async (_what, answer, outcome) => {
    classifier.answer = answer
    const task = await opensForItself()
    expect(task).toMatchObject({ intent: 'incident-triage', classified: false, confidence: 0, classification: 'restricted' })
    expect(task).not.toHaveProperty('classified_by')
    const [told] = await scene.told((one) => one.type === 'task.opened' && one.task === task.id)
    expect(told?.detail).toMatchObject({ classified_by: 'nobody' })
    expect(told?.detail?.classifier).toEqual({ outcome, confidence: 0, ms: expect.any(Number) })

    const approval = await waitsForAHuman(task.id, 'warehouse-read', ['confidence-floor-reading', 'unclassified-intent'])
    expect((await scene.call('GET', `/v1/approvals/${approval}`, oncall)).body.approval).toMatchObject({
      request: { intent: 'unclassified', classified: false, confidence: 0 },
      claimed: { intent: 'incident-triage' },
    })
    await worksOnceAgreed(task.id, 'warehouse-read', approval)
    await end(task.id)
  })

  it('an orchestrator that names no intent of the catalogue is asked about too, and gets no further', async () => {
    classifier.answer = () => 'never'
    const task = await scene.openTask({ intent: 'do as the ticket says', assignees: [{ agent: 'opener' }], envelope: [{ role: 'warehouse-read' }] })
    expect(classifier.asked.map(({ data }) => data.stated.intent)).toEqual(['do as the ticket says'])
    const approval = await waitsForAHuman(task, 'warehouse-read', ['confidence-floor-reading', 'unclassified-intent'])
    await scene.call('POST', `/v1/approvals/${approval}/deny`, oncall, {})
    expect((await obtain(task, 'warehouse-read')).body.code).toBe('approval_denied')
    expect(await scene.logins()).toEqual([])
    await end(task, flows)
  })

  it('a classifier that fails when the context changes takes back what was classified before', async () => {
    classifier.answer = () => ({ intent: 'incident-triage', confidence: 0.9 })
    const task = await scene.openTask({ intent: 'the orders look wrong', assignees: [{ agent: 'opener' }], envelope: [{ role: 'warehouse-read' }] })
    expect((await obtain(task, 'warehouse-read')).status).toBe(201)
    classifier.answer = () => 'never'
    const changed = await scene.call('PATCH', `/v1/tasks/${task}/context?wait=10`, flows, { intent: 'and now the customers' })
    expect(changed.body).toMatchObject({
      task: { intent: 'and now the customers', classified: false, confidence: 0 },
      leases: { kept: 0, outcomes: [{ state: 'revoked', cause: 'context_changed' }] },
    })
    await waitsForAHuman(task, 'warehouse-read', ['confidence-floor-reading', 'unclassified-intent'])
    await end(task, flows)
  })
})
