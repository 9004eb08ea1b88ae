import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** What narrows never waits: with Redis full, or the outbox full, nothing is issued and everything can be ended. */

const FLOOD = 16
let postgres: TestPostgres
let postgresUrl: string
let redis: TestRedis
let test: TestBroker

beforeAll(async () => {
  postgres = await startPostgres()
  postgresUrl = await postgres.createBroker(['reporting_ro'])
}, 120_000)
afterAll(() => postgres?.stop())
afterEach(async () => {
  await test?.stop()
  await redis?.stop()
})

const rolesUpstream = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const nothingUpstream = () => waitFor('no login upstream', async () => (await rolesUpstream()) === 0, 20_000)

async function twoTasksWithLeases() {
  const agent = await test.token('triage')
  const tasks = [await test.openTask({ envelope: [{ role: 'warehouse-read' }] }), await test.openTask({ envelope: [{ role: 'warehouse-read' }] })]
  const ask = (task: string | undefined) => test.call('POST', '/v1/leases', agent, { task, role: 'warehouse-read' })
  for (const task of tasks) expect((await ask(task)).status).toBe(201)
  return { tasks, ask }
}

/** As many callers as a crowd has, each asking again as soon as it is answered. */
function flood(ask: () => Promise<{ readonly status: number }>): { stop(): Promise<Set<number>> } {
  const statuses = new Set<number>()
  let over = false
  const loop = async () => {
    while (!over) statuses.add((await ask()).status)
  }
  const loops = Promise.all(Array.from({ length: FLOOD }, loop))
  return {
    async stop() {
      over = true
      await loops
      return statuses
    },
  }
}

async function everythingEnds(tasks: readonly string[]): Promise<void> {
  const ended = await test.call('POST', `/v1/tasks/${tasks[0]}/complete`, await test.token('flows'), {})
  expect(ended).toMatchObject({ status: 200, body: { state: 'completed' } })
  expect(ended.body.closing).toBeGreaterThan(0)
  const stopped = await test.call('POST', '/v1/emergency/revoke', await test.token('oncall'), { selector: { agent: 'triage' }, reason: 'full' })
  expect(stopped.status).toBe(202)
  await nothingUpstream()
}

describe('Redis at its maxmemory', () => {
  it('issues nothing (503), ends tasks, emergency-revokes while requests flood in, and issues again by itself', async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, postgresUrl })
    const { tasks, ask } = await twoTasksWithLeases()
    await redis.client.config('SET', 'maxmemory', '1')

    expect(await ask(tasks[0])).toMatchObject({ status: 503, body: { code: 'ledger_unavailable' } })
    expect(await rolesUpstream()).toBe(2)
    // A refusal that could not be recorded points at no event.
    const refused = await test.call('GET', `/v1/leases/lease_00${'a'.repeat(26)}`, await test.token('triage'))
    expect({ status: refused.status, instance: refused.body.instance }).toEqual({ status: 404, instance: undefined })
    await everythingEnds(tasks)

    await redis.client.config('SET', 'maxmemory', '0')
    const { body } = await test.call('GET', '/v1/freezes', await test.token('oncall'))
    await test.call('POST', `/v1/freezes/${body.freezes[0].id}/thaw`, await test.token('oncall'), { reason: 'over' })
    const fresh = await test.openTask({ envelope: [{ role: 'warehouse-read' }] })
    expect((await ask(fresh)).status).toBe(201)
    await test.call('POST', `/v1/tasks/${fresh}/complete?wait=10`, await test.token('flows'), {})
  }, 120_000)
})

describe('the outbox at its limit', () => {
  it('issues nothing (503), ends tasks, emergency-revokes while requests flood in, and drains by itself when the sink is back', async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, postgresUrl, outboxLimit: 1_000 })
    const { tasks, ask } = await twoTasksWithLeases()
    // The sink's folder becomes a file: nothing can be written any more.
    await test.broker.audit()?.flush()
    const folder = join(test.folder, 'audit')
    await rm(folder, { recursive: true })
    await writeFile(folder, '')
    const refused = await waitFor('the outbox to be full', async () => {
      const answer = await ask(tasks[0])
      return answer.status === 503 ? answer : undefined
    })
    expect(refused.body.code).toBe('audit_unavailable')
    expect(refused.headers.get('retry-after')).not.toBeNull()
    const before = await rolesUpstream()
    expect((await ask(tasks[0])).status).toBe(503)
    expect(await rolesUpstream()).toBe(before)
    const crowd = flood(() => ask(tasks[1]))
    await everythingEnds(tasks)
    const statuses = await crowd.stop()
    for (const status of statuses) expect([409, 503]).toContain(status)

    await rm(folder)
    await mkdir(folder, { recursive: true })
    await waitFor('the outbox to drain', async () => (await test.broker.house().ledger.outbox.length()) === 0)
  }, 120_000)
})

describe('tool calls', () => {
  const policy = `
    @id("closes") @onDeny("close-task")
    forbid (principal, action == Action::"callTool", resource) when { context.target == "payroll" };`
  const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }
  const openTask = () => test.openTask({ tools: [{ tool: 'tickets/get' }] })
  const call = async (task: string, target = 'acme/app') =>
    test.call('POST', `/v1/tasks/${task}/tool-calls`, await test.token('triage'), { ...GET, target })
  const stateOf = async (task: string) => (await test.call('GET', `/v1/tasks/${task}`, await test.token('flows'))).body.task.state

  it('that cannot be recorded are not allowed, and what a denial brings about comes all the same', async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, outboxLimit: 1_000, policy })
    const task = await openTask()
    await test.broker.audit()?.flush()
    const folder = join(test.folder, 'audit')
    await rm(folder, { recursive: true })
    await writeFile(folder, '')
    const refused = await waitFor('the outbox to be full', async () => {
      const answer = await call(task)
      return answer.status === 503 ? answer : undefined
    })
    expect(refused.body.code).toBe('audit_unavailable')
    expect(await call(task, 'payroll')).toMatchObject({ status: 403, body: { code: 'denied', next: expect.stringContaining('closed') } })
    expect(await stateOf(task)).toBe('revoked')
    await rm(folder)
    await mkdir(folder, { recursive: true })
  }, 120_000)

  it('in a Redis at its maxmemory are 503, and a task that is to be closed is closed', async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath, policy })
    const task = await openTask()
    expect((await call(task)).status).toBe(200)
    await redis.client.config('SET', 'maxmemory', '1')
    expect(await call(task)).toMatchObject({ status: 503, body: { code: 'ledger_unavailable' } })
    expect((await call(task, 'payroll')).status).toBe(503)
    expect(await stateOf(task)).toBe('revoked')
    await redis.client.config('SET', 'maxmemory', '0')
    expect((await call(task)).body.code).toBe('task_ended')
  }, 120_000)
})
