import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Command } from 'commander'
import { clientCommands, EXIT, report, type Shell } from '../../src/cli/index.js'
import { Mayfly, MayflyApprovalPending } from '../../src/client/index.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let redis: TestRedis
let test: TestBroker
let agent: Mayfly
let oncall: Mayfly
let task: string

beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    roles:
      '  api-write: {provider: tokens, access: write, sensitivity: restricted, max_ttl: 5m, scope: {table: equal}, params: {audience: "https://reports.example"}}',
  })
  agent = new Mayfly({ url: test.url, token: () => test.token('triage') })
  oncall = new Mayfly({ url: test.url, token: () => test.token('oncall') })
  task = await test.openTask({ envelope: [{ role: 'api-write' }] })
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const asking = (table: string) => ({ task, role: 'api-write', scope: { table } })
const open = (table: string) =>
  waitFor('it to be asked', async () => (await oncall.operator.approvals()).approvals.find((one) => one.request.scope.table === table))

describe('the SDK', () => {
  it('waits for the humans and comes back with a credential', async () => {
    const waiting = agent.leases.obtain(asking('a'), { wait: 30 })
    await oncall.operator.approve((await open('a')).id, { reason: 'fine' })
    const { lease, credential } = await waiting
    expect(lease.state).toBe('active')
    expect(credential.type).toBe('jwt')
  })

  it('says what waits when it may not, or no longer, and goes on from there later', async () => {
    const error = await agent.leases.obtain(asking('b')).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(MayflyApprovalPending)
    await expect(agent.leases.obtain(asking('b'), { wait: 1 })).rejects.toThrow(MayflyApprovalPending)
    const { id } = await open('b')
    expect(await agent.leases.approval(id)).toMatchObject({ state: 'open', next: 'wait' })
    await oncall.operator.approve(id)
    expect((await agent.leases.obtain({ ...asking('b'), approval: id })).lease.state).toBe('active')
  })

  it('and what was refused is the broker’s refusal', async () => {
    const waiting = agent.leases.obtain(asking('c'), { wait: 30 }).catch((thrown: unknown) => thrown)
    await oncall.operator.deny((await open('c')).id)
    expect(await waiting).toMatchObject({ code: 'approval_denied', status: 403 })
  })
})

describe('mayfly', () => {
  async function run(as: string, ...args: string[]) {
    const out: string[] = []
    const err: string[] = []
    let code: number = EXIT.done
    const to = (list: string[]) => ({ write: (text: string) => void list.push(text), isTerminal: true })
    const shell: Shell = {
      env: { MAYFLY_URL: test.url, MAYFLY_TOKEN_FILE: await tokenFile(as) },
      stdout: to(out),
      stderr: to(err),
      ask: async () => '',
      interactive: false,
      home: '/nonexistent',
      exitWith: (exit) => {
        code = exit
      },
      signal: new AbortController().signal,
    }
    const program = new Command('mayfly').exitOverride()
    for (const command of clientCommands(shell)) program.addCommand(command)
    await program.parseAsync(args, { from: 'user' }).catch((error: unknown) => {
      code = report(error, shell)
    })
    return { code, out: out.join(''), err: err.join('') }
  }

  it('exits with 4 while a human has to agree, lists, approves, and gets', async () => {
    const words = 'harmless\u202e \u2066words'
    const get = ['get', '--task', task, '--role', 'api-write', '--scope', 'table=d', '--reason', words]
    const pending = await run('triage', ...get)
    expect(pending).toMatchObject({ code: EXIT.approvalPending, out: '' })
    const { id } = await open('d')
    expect(pending.err).toContain(`--approval ${id}`)

    const listed = await run('oncall', 'approvals')
    expect(listed.out).toContain(id)
    expect(listed.out).toContain('the agent says (unchecked)')
    expect(listed.out).toContain('harmless\\u202e')
    expect(listed.out).not.toMatch(/[\u202e\u2066]/)

    expect((await run('triage', 'approve', id)).code).toBe(EXIT.denied)
    expect(await run('oncall', 'approve', id, '--reason', 'fine')).toMatchObject({
      code: EXIT.done,
      out: expect.stringContaining(`${id} is granted`),
    })
    const got = await run('triage', ...get, '--approval', id)
    expect(got.code).toBe(EXIT.done)
    expect(JSON.parse(got.out).lease.state).toBe('active')
    expect((await run('triage', ...get, '--approval', id)).code).toBe(EXIT.denied)
  })

  it('denies, and that is that', async () => {
    const get = ['get', '--task', task, '--role', 'api-write', '--scope', 'table=e']
    await run('triage', ...get)
    const { id } = await open('e')
    expect((await run('oncall', 'deny', id)).out).toContain(`${id} is denied`)
    const again = await run('triage', ...get, '--wait', '5s')
    expect(again).toMatchObject({ code: EXIT.denied, err: expect.stringContaining('approval_denied') })
  })

  async function tokenFile(sub: string): Promise<string> {
    const path = `${test.folder}/${sub}.token`
    await writeFile(path, await test.token(sub), { mode: 0o600 })
    return path
  }
})
