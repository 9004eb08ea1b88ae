import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const INTERLEAVINGS = 300
const AT_ONCE = 6
/** Either side must have come first this often, or the test has shown nothing. */
const AT_LEAST = 30
const POLICY = `
@id("closes") @onDeny("close-task")
forbid (principal, action == Action::"callTool", resource) when { context.target == "payroll" };
@id("unsure-closes") @onDeny("close-task")
forbid (principal is Agent, action == Action::"read", resource) when { context.confidence.lessThan(decimal("0.2")) };
`
const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }

let redis: TestRedis
/** Two replicas: one ends what the other has read a moment ago. */
let brokers: TestBroker[]

beforeAll(async () => {
  redis = await startRedis()
  const options = { redisSocket: redis.socketPath, policy: POLICY, limits: '{requests_per_second: 100000}', more: 'risk: {enabled: false}' }
  const first = await startTestBroker(options)
  brokers = [first, await startTestBroker({ ...options, like: first })]
}, 60_000)
afterAll(async () => {
  await Promise.all((brokers ?? []).map((one) => one.stop()))
  await redis?.stop()
})

/** Finer than a timer's millisecond. */
async function elapse(ms: number): Promise<void> {
  const end = performance.now() + ms
  while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
}

/** What the audit sinks of both wrote, in the order of each partition's stream. */
async function told(): Promise<{ type: string; task: string; partition: number; stream_id: string }[]> {
  const lines = await Promise.all(
    brokers.map(async ({ broker, folder }) => {
      await broker.audit()?.flush()
      return readFile(join(folder, 'audit/events.jsonl'), 'utf8').catch(() => '')
    }),
  )
  const events = lines.flatMap((text) => text.split('\n').filter(Boolean)).map((line) => JSON.parse(line))
  const place = ({ stream_id: id }: { stream_id: string }) => id.split('-').map(Number)
  return events.sort((a, b) => {
    const [[one = 0, first = 0], [two = 0, second = 0]] = [place(a), place(b)]
    return one - two || first - second
  })
}

describe('a tool call beside the end of its task', () => {
  it.each([
    [
      'its orchestrator completes it',
      async (task: string, { call, token }: TestBroker) => call('POST', `/v1/tasks/${task}/complete`, await token('flows'), {}),
    ],
    [
      'another call closes it',
      async (task: string, { call, token }: TestBroker) =>
        call('POST', `/v1/tasks/${task}/tool-calls`, await token('triage'), { ...GET, target: 'payroll' }),
    ],
  ])(
    'is not allowed once that was acknowledged: %s',
    async (_how, end) => {
      const [one, two] = brokers
      if (!one || !two) throw new Error('there are two brokers')
      const agent = await one.token('triage')
      const counts = { before: 0, after: 0 }
      /** How long an end takes, ms. */
      let usual = 10
      const run = async (): Promise<void> => {
        const task = await one.openTask({ tools: [{ tool: 'tickets/get' }] })
        const ask = (by: TestBroker) => by.call('POST', `/v1/tasks/${task}/tool-calls`, agent, GET)
        // Both have read it.
        expect([(await ask(one)).status, (await ask(two)).status]).toEqual([200, 200])
        const [by, other] = Math.random() < 0.5 ? [one, two] : [two, one]
        // Around it: some are on their way before it begins, some begin while it is on its way.
        const asking = [0, 1, 2, 3].map(async (n) => {
          await elapse(n * usual * Math.random() * 0.5)
          return ask(n % 2 === 0 ? other : by)
        })
        await elapse(usual * Math.random() * 0.5)
        const began = performance.now()
        const ended = await end(task, by)
        usual = usual * 0.9 + (performance.now() - began) * 0.1
        expect([200, 403]).toContain(ended.status)
        // Acknowledged: from here on, whoever is asked.
        const late = await Promise.all([ask(one), ask(two)])
        for (const { status, body } of late) expect([status, body.code]).toEqual([409, 'task_ended'])
        for (const { status, body } of await Promise.all(asking)) {
          counts[status === 200 ? 'before' : 'after']++
          if (status !== 200) expect([status, body.code]).toEqual([409, 'task_ended'])
        }
      }
      let left = INTERLEAVINGS / 2
      const worker = async (): Promise<void> => {
        while (left-- > 0) await run()
      }
      await Promise.all(Array.from({ length: AT_ONCE }, worker))
      expect(Math.min(counts.before, counts.after)).toBeGreaterThan(AT_LEAST)

      // Nor is one recorded after the end: a task and all that is told of it are in one stream.
      const over = new Set<string>()
      for (const { type, task } of await told()) {
        if (type === 'task.ended') over.add(task)
        if (type === 'tool.called') expect([task, over.has(task)]).toEqual([task, false])
      }
      expect(over.size).toBeGreaterThanOrEqual(INTERLEAVINGS / 2)
    },
    120_000,
  )
})

describe('what a denial brings about', () => {
  it('does not follow from facts that another replica has changed since this one read them', async () => {
    const [one, two] = brokers
    if (!one || !two) throw new Error('there are two brokers')
    const [agent, flows] = await Promise.all([one.token('triage'), one.token('flows')])
    const obtain = (task: string) => two.call('POST', '/v1/leases', agent, { task, role: 'api-token' })
    const unsure = { tools: [{ tool: 'tickets/get' }], confidence: 0.1 }
    const [sure, doubted] = [await one.openTask(unsure), await one.openTask(unsure)]
    for (const task of [sure, doubted]) expect((await two.call('POST', `/v1/tasks/${task}/tool-calls`, agent, GET)).status).toBe(200)
    expect((await one.call('PATCH', `/v1/tasks/${sure}/context`, flows, { confidence: 0.9 })).status).toBe(200)
    expect((await obtain(sure)).status).toBe(201)
    // Where they are as it read them, it does.
    expect((await obtain(doubted)).body).toMatchObject({ code: 'denied', policies: ['unsure-closes'], next: expect.stringContaining('closed') })
    expect((await obtain(doubted)).body.code).toBe('task_ended')
  })
})
