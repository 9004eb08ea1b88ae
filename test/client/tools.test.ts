import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Mayfly } from '../../src/client/index.js'
import { mayfly } from '../cli/mayfly.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'

/** The SDK and the command line against a broker on real Redis. */
let redis: TestRedis
let test: TestBroker
let agent: Mayfly
let gateway: Mayfly
let task: string

beforeAll(async () => {
  redis = await startRedis()
  const opener =
    '  - {id: opener, match: {issuer: test, sub: opener}, owner: sre@example.com, autonomy: supervised, open_tasks: {envelope: [], tools: [{tool: tickets/get}]}}\n'
  test = await startTestBroker({ redisSocket: redis.socketPath, agents: opener })
  const as = (sub: string) => new Mayfly({ url: test.url, token: () => test.token(sub) })
  ;[agent, gateway] = [as('triage'), as('mcp-proxy')]
  task = await test.openTask({ tools: [{ tool: 'tickets/get' }, { tool: 'tickets/create', targets: ['acme/*'] }] })
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const GET = { tool: 'tickets/get', action: 'get', target: 'acme/app' }

describe('the SDK', () => {
  it('asks before a call, for oneself and for another', async () => {
    expect(await agent.tools.check(task, GET)).toMatchObject({ decision: 'allow', enforced: false, must_ask: true })
    expect(await gateway.tools.check(task, { ...GET, agent: 'triage' })).toMatchObject({ decision: 'allow', enforced: true })
    await expect(agent.tools.check(task, { ...GET, tool: 'tickets/purge' })).rejects.toMatchObject({ code: 'tool_unknown', status: 403 })
    const decided = await gateway.tools.checkAll(task, [GET, { ...GET, tool: 'tickets/create', target: 'rival/app' }], { agent: 'triage' })
    expect(decided).toMatchObject([{ decision: 'allow' }, { decision: 'deny', problem: { code: 'outside_tools' } }])
  })

  it('makes a call only where it may be made, and throws what the call throws', async () => {
    const ask = { intent: 'x', envelope: [], tools: [{ tool: 'tickets/get' }], deadline_at: new Date(Date.now() + 60_000).toISOString() }
    const opening = new Mayfly({ url: test.url, token: () => test.token('opener') })
    const made: string[] = []
    const about = { action: 'get', target: 'acme/app' }
    await opening.task(ask, async ({ id, call, checkTool }) => {
      expect(await call('tickets/get', about, async ({ call: told }) => `made as ${told}`)).toMatch(/^made as /)
      expect(await checkTool('tickets/get', about)).toMatchObject({ decision: 'allow' })
      await expect(call('tickets/create', about, async () => void made.push(id))).rejects.toMatchObject({ code: 'outside_tools' })
      await expect(
        call('tickets/get', about, async () => {
          throw new Error('the tool is down')
        }),
      ).rejects.toThrow('the tool is down')
    })
    expect(made).toEqual([])
  })
})

describe('mayfly tool check', () => {
  it('says whether, and by its exit code', async () => {
    const tokenFile = join(test.folder, 'triage.token')
    writeFileSync(tokenFile, await test.token('triage'))
    const env = { MAYFLY_URL: test.url, MAYFLY_TOKEN_FILE: tokenFile }
    const check = (tool: string, ...more: string[]) =>
      mayfly(['tool', 'check', '--task', task, '--tool', tool, '--action', 'get', '--target', 'acme/app', ...more], env)
    const allowed = await check('tickets/get')
    expect(allowed.code).toBe(0)
    expect(JSON.parse(allowed.out)).toMatchObject({ decision: 'allow', policies: ['tool-reads'] })
    expect(await check('tickets/purge')).toMatchObject({ code: 3, out: '', err: expect.stringContaining('tool_unknown') })
    expect(await mayfly(['tool', 'check', '--task', task], env)).toMatchObject({ code: 2 })
    writeFileSync(tokenFile, await test.token('flows'))
    const open = ['task', 'open', '--intent', 'incident-triage', '--agent', 'triage', '--tool', 'tickets/get', '--check', 'sensitive_only', '--json']
    expect(JSON.parse((await mayfly(open, env)).out).task).toMatchObject({ tools: [{ tool: 'tickets/get' }], check: 'sensitive_only', envelope: [] })
  }, 60_000)
})
