import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../src/config.js'
import { doctor } from '../../src/doctor/index.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker, taskRequest } from '../support/broker.js'
import { startClassifier, type TestClassifier } from '../support/classifier.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const YES = { intent: 'deploy', confidence: 0.876 }

let redis: TestRedis
let test: TestBroker
let classifier: TestClassifier
let call: TestBroker['call']
let agent: string
let flows: string
let written: string

beforeAll(async () => {
  ;[redis, classifier] = await Promise.all([startRedis(), startClassifier()])
  test = await startTestBroker({ redisSocket: redis.socketPath, more: classifier.yaml('timeout: 400ms, concurrency: 2'), env: classifier.env })
  written = await readFile(test.configPath, 'utf8')
  call = checking(test.call)
  ;[agent, flows] = await Promise.all([test.token('triage'), test.token('flows')])
}, 60_000)
beforeEach(async () => {
  classifier.asked.length = 0
  classifier.answer = () => YES
})
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis?.stop(), classifier?.stop()])
})

const open = async (more: object = {}, token = flows) => {
  const { status, body } = await call('POST', '/v1/tasks', token, { ...taskRequest(), intent: 'ship it', ...more })
  expect([200, 201]).toContain(status)
  return body.task
}
const own = { envelope: [{ role: 'api-token', max_ttl: 60 }], assignees: undefined }
const change = async (id: string, body: object, token = flows) => (await call('PATCH', `/v1/tasks/${id}/context`, token, body)).body
/** What the event says of what the task is about. */
const openedEvent = async (id: string) => {
  const opened = (await eventsOf(test, redis.client)).find((one) => one.type === 'task.opened' && one.task === id)
  const { classified_by, stated_intent, classifier } = opened?.detail ?? {}
  return { classified_by, stated_intent, classifier }
}
/** The same broker with other options of its classifier. */
const configured = async (options: string) => {
  await writeFile(test.configPath, written.replace('timeout: 400ms, concurrency: 2', options))
  await test.broker.reload(await loadConfig(test.configPath, test.env))
}

describe('the classifier', () => {
  it('is told what is said and by whom, what is asked for, and the catalogue; signed', async () => {
    const task = await open({ labels: { ticket: 'OPS-7' }, confidence: 1 })
    expect(classifier.asked).toHaveLength(1)
    const { type, data } = JSON.parse(classifier.asked[0]?.body ?? '')
    expect({ type, data }).toEqual({
      type: 'task.classify',
      data: {
        opened_by: { kind: 'orchestrator', id: 'flows', issuer: 'test' },
        stated: { intent: 'ship it', classification: 'internal', environment: 'production', labels: { ticket: 'OPS-7' } },
        agents: ['triage'],
        roles: [
          { name: 'api-token', access: 'read', sensitivity: 'internal' },
          { name: 'api-signed', access: 'read', sensitivity: 'internal' },
        ],
        catalogue: [{ name: 'incident-triage' }, { name: 'deploy' }],
      },
    })
    expect(task).toMatchObject({ intent: 'deploy', stated_intent: 'ship it', classified: true, classified_by: 'classifier', confidence: 0.87 })
    expect(await openedEvent(task.id)).toMatchObject({
      classified_by: 'classifier',
      stated_intent: 'ship it',
      classifier: { outcome: 'classified', intent: 'deploy', confidence: 0.876, ms: expect.any(Number) },
    })
  })

  it('is not asked where the word of the orchestrator is enough, and the event says whose word it was', async () => {
    const task = await open({ intent: 'incident-triage', confidence: 0.29 })
    expect(classifier.asked).toEqual([])
    expect(task).toMatchObject({ intent: 'incident-triage', classified_by: 'orchestrator', confidence: 0.29 })
    const told = await openedEvent(task.id)
    expect(told).toMatchObject({ classified_by: 'orchestrator' })
    expect(told?.classifier).toBeUndefined()
  })

  it("makes of an agent's own task what the agent cannot, and of its data nothing less than the agent says", async () => {
    classifier.answer = () => ({ ...YES, classification: 'internal' })
    expect(await open(own, agent)).toMatchObject({ intent: 'deploy', classified: true, classification: 'internal', environment: 'unknown' })
    expect(await open({ ...own, classification: 'confidential' }, agent)).toMatchObject({ classification: 'confidential' })
    expect(await open({ ...own, classification: 'public' }, agent)).toMatchObject({ classification: 'internal' })
    classifier.answer = () => YES
    expect(await open({ ...own, classification: 'public' }, agent)).toMatchObject({ intent: 'deploy', classification: 'restricted' })
  })

  const NONE: [string, TestClassifier['answer'], string][] = [
    ['an intent of no catalogue', () => ({ ...YES, intent: 'take-over' }), 'malformed'],
    ['no intent', () => ({ confidence: 1 }), 'malformed'],
    ['no confidence', () => ({ intent: 'deploy' }), 'malformed'],
    ['confidence as text', () => ({ ...YES, confidence: '1' }), 'malformed'],
    ['confidence below 0', () => ({ ...YES, confidence: -0.1 }), 'malformed'],
    ['a sensitivity that there is not', () => ({ ...YES, classification: 'secret' }), 'malformed'],
    ['null for what is optional', () => ({ ...YES, classification: null }), 'malformed'],
    ['a field more', () => ({ ...YES, approved: true }), 'malformed'],
    ['a list', () => [YES], 'malformed'],
    ['an intent twice', () => '{"intent":"unclassified","intent":"deploy","confidence":1}', 'malformed'],
    ['text', () => 'deploy', 'malformed'],
    ['nothing', () => '', 'malformed'],
    ['half of it', () => '{"intent":"deploy","confidence":1', 'malformed'],
    ['more than fits', () => `${JSON.stringify(YES)}${' '.repeat(20_000)}`, 'malformed'],
    ['201', () => 201, 'refused'],
    ['404', () => 404, 'refused'],
    [
      'a redirect, which is not followed',
      (_data, response) => {
        response.writeHead(307, { location: '/classify' }).end(JSON.stringify(YES))
        return undefined
      },
      'refused',
    ],
    [
      'a body that never ends',
      (_data, response) => {
        response.writeHead(200, { 'content-type': 'application/json' }).write(JSON.stringify(YES))
        return undefined
      },
      'timeout',
    ],
    ['nothing at all', () => 'never', 'timeout'],
    ['that it does not know', () => ({ intent: 'unclassified', confidence: 1, classification: 'public' }), 'unclassified'],
  ]
  it.each(NONE)('answers %s: the task is there, and unclassified', async (_what, answer, outcome) => {
    classifier.answer = answer
    const began = performance.now()
    const task = await open({}, flows)
    expect(performance.now() - began).toBeLessThan(2_000)
    expect(task).toMatchObject({ intent: 'ship it', classified: false, confidence: 0, classification: 'internal' })
    expect(await openedEvent(task.id)).toMatchObject({ classified_by: 'nobody', classifier: { outcome } })
    expect(classifier.asked).toHaveLength(1)
  })

  it('keeps nobody waiting longer than its timeout, however many ask, and no opener all others from it', async () => {
    let [now, most] = [0, 0]
    classifier.answer = (_data, response) => {
      most = Math.max(most, ++now)
      response.once('close', () => now--)
      return 'never'
    }
    const began = performance.now()
    const own = Array.from({ length: 30 }, () => open())
    await waitFor('the first question', () => classifier.asked.length > 0)
    const others = await open({ intent: 'another', assignees: [{ agent: 'reporter' }] }, await test.token('other-flows'))
    await Promise.all(own)
    expect(performance.now() - began).toBeLessThan(4_000)
    const outcomes = (await eventsOf(test, redis.client)).filter(({ type }) => type === 'task.opened').slice(-31)
    const count = (outcome: string) => outcomes.filter(({ detail }) => JSON.stringify(detail).includes(`"outcome":"${outcome}"`)).length
    // Two places and eight that wait, of which one may have half.
    expect(count('timeout') + count('busy')).toBe(31)
    expect(count('busy')).toBeGreaterThan(10)
    expect(await openedEvent(others.id)).toMatchObject({ classifier: { outcome: 'timeout' } })
    expect(most).toBe(2)
    classifier.answer = () => YES
    expect(await open()).toMatchObject({ classified: true })
  })

  it('is counted by outcome, and by nothing that a caller can choose', async () => {
    const metrics = await (await fetch(`${test.metricsUrl}/metrics`)).text()
    for (const outcome of ['classified', 'timeout', 'busy', 'malformed', 'refused', 'unclassified'])
      expect(metrics).toMatch(new RegExp(`mayfly_classifications_total\\{outcome="${outcome}"\\} [1-9]`))
    expect(metrics).toMatch(/mayfly_classify_duration_seconds_count [1-9]/)
    expect(test.logs.join('\n')).not.toMatch(/whsec_|ship it/)
  })
})

describe('opening again with the same external id', () => {
  it('answers the first task without asking again, whatever would be answered by now', async () => {
    const ask = { external_id: 'run-1', deadline_at: new Date(Date.now() + 300_000).toISOString() }
    const first = await open(ask)
    classifier.answer = () => ({ intent: 'incident-triage', confidence: 0.1 })
    expect(await open(ask)).toMatchObject({ id: first.id, intent: 'deploy', confidence: 0.87 })
    expect(classifier.asked).toHaveLength(1)
    expect((await call('POST', '/v1/tasks', flows, { ...taskRequest(), ...ask, intent: 'ship that' })).body.code).toBe('conflict')
    expect(classifier.asked).toHaveLength(1)
  })

  it('at the same time: one task, though both may ask and hear different things', async () => {
    let asked = 0
    classifier.answer = () => ({ intent: asked++ % 2 === 0 ? 'deploy' : 'incident-triage', confidence: asked / 10 })
    const ask = { external_id: 'run-2', deadline_at: new Date(Date.now() + 300_000).toISOString() }
    const tasks = await Promise.all([open(ask), open(ask)])
    expect(new Set(tasks.map(({ id }) => id)).size).toBe(1)
    expect(new Set(tasks.map(({ intent }) => intent)).size).toBe(1)
  })
})

describe('a context that changes', () => {
  it('is put to the classifier where what it was told is another now', async () => {
    const { id } = await open()
    classifier.answer = ({ stated }) => ({ intent: stated.labels.kind ?? 'deploy', confidence: 0.7, classification: 'confidential' })
    const { task } = await change(id, { labels: { kind: 'incident-triage' } })
    expect(task).toMatchObject({ intent: 'incident-triage', stated_intent: 'ship it', confidence: 0.7, classification: 'confidential' })
    expect(classifier.asked[1]?.data.stated).toMatchObject({ intent: 'ship it', labels: { kind: 'incident-triage' }, environment: 'production' })
    // Its own word is enough, for this and from now on.
    expect((await change(id, { intent: 'deploy', confidence: 0.5 })).task).toMatchObject({ intent: 'deploy', classified_by: 'orchestrator' })
    expect((await change(id, { labels: {} })).task).toMatchObject({ intent: 'deploy', confidence: 0.5 })
    expect(classifier.asked).toHaveLength(2)
    const told = (await eventsOf(test, redis.client)).filter((one) => one.type === 'task.changed' && one.task === id)
    expect(told[0]?.detail).toMatchObject({
      classified_by: 'classifier',
      classifier: { outcome: 'classified' },
      changed: { intent: 'incident-triage' },
    })
  })

  it('reaches every task below', async () => {
    const { id } = await open()
    const body = { assignees: [{ agent: 'reporter' }], envelope: [{ role: 'api-token' }] }
    const child = (await call('POST', `/v1/tasks/${id}/children`, agent, body)).body.task
    expect(child).toMatchObject({ intent: 'deploy', stated_intent: 'ship it', classified_by: 'classifier', confidence: 0.87 })
    classifier.answer = () => 'never'
    await change(id, { intent: 'something else' })
    const { task } = (await call('GET', `/v1/tasks/${child.id}`, flows)).body
    expect(task).toMatchObject({ intent: 'something else', classified: false, confidence: 0 })
    expect(task).not.toHaveProperty('stated_intent')
  })

  it('by an agent is nothing to ask about: it only makes its own task stricter', async () => {
    const { id } = await open(own, agent)
    classifier.asked.length = 0
    expect((await change(id, { labels: { kind: 'x' }, confidence: 0.5 }, agent)).task).toMatchObject({ intent: 'deploy', confidence: 0.5 })
    expect((await change(id, { intent: 'incident-triage' }, agent)).code).toBe('denied')
    expect(classifier.asked).toEqual([])
  })
})

describe('mayfly doctor', () => {
  const looked = async () => (await doctor(test.configPath, test.env)).filter(({ area }) => area === 'intents')

  it('asks it something, and tells whether it answers', async () => {
    expect(await looked()).toMatchObject([{ level: 'ok', what: expect.stringMatching(/^the classifier answers within \d+ ms, of the 400 ms/) }])
    expect(classifier.asked[0]?.data).toMatchObject({ check: true })
    classifier.answer = () => ({ ...YES, intent: 'nonsense' })
    expect(await looked()).toMatchObject([{ level: 'fail', what: expect.stringContaining('malformed') }])
  })

  it('names who is trusted and is nobody', async () => {
    await configured('timeout: 400ms, when: always, trust: [other-flows, othr-flows]')
    expect(await looked()).toMatchObject([{ level: 'ok' }, { level: 'warn', what: expect.stringContaining('"othr-flows"') }])
  })
})

describe('when: always', () => {
  beforeAll(() => configured('timeout: 400ms, when: always, trust: [other-flows], min_confidence: 0.5'))

  it('no orchestrator classifies by its own word but those that are trusted', async () => {
    classifier.answer = () => 'never'
    expect(await open({ intent: 'deploy', confidence: 1, classification: 'public' })).toMatchObject({
      intent: 'deploy',
      classified: false,
      confidence: 0,
      classification: 'restricted',
    })
    const trusted = await open({ intent: 'deploy', confidence: 1, classification: 'public' }, await test.token('other-flows'))
    expect(trusted).toMatchObject({ classified_by: 'orchestrator', confidence: 1, classification: 'public' })
    expect(classifier.asked).toHaveLength(1)
  })

  it('nor changes what it is about, or makes it less strict, without being asked about', async () => {
    classifier.answer = () => ({ ...YES, classification: 'confidential' })
    const { id } = await open()
    const asked = () => classifier.asked.length
    expect((await change(id, { confidence: 1 })).task).toMatchObject({ confidence: 0.87 })
    expect((await change(id, { confidence: 0.6 })).task).toMatchObject({ confidence: 0.6 })
    expect((await change(id, { classification: 'restricted' })).task).toMatchObject({ classification: 'restricted' })
    expect(asked()).toBe(1)
    expect((await change(id, { classification: 'public', confidence: 1 })).task).toMatchObject({ classification: 'confidential', confidence: 0.87 })
    expect((await change(id, { environment: 'elsewhere' })).task).toMatchObject({ environment: 'unknown', intent: 'deploy' })
    expect(asked()).toBe(3)
    classifier.answer = () => 503
    expect((await change(id, { intent: 'deploy' })).task).toMatchObject({ classified: false, confidence: 0, classification: 'restricted' })
  })

  it('an answer below the least confidence is none', async () => {
    classifier.answer = () => ({ intent: 'deploy', confidence: 0.49, classification: 'public' })
    const task = await open()
    expect(task).toMatchObject({ intent: 'ship it', classified: false, confidence: 0, classification: 'restricted' })
    expect(await openedEvent(task.id)).toMatchObject({ classifier: { outcome: 'uncertain' } })
  })
})
