import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { CommanderError } from 'commander'
import { report, type Shell } from '../../src/cli/index.js'
import { loadPolicyOptions } from '../../src/config.js'
import { policyFindings } from '../../src/doctor/policy.js'
import { isOpa } from '../../src/policy/index.js'
import { policyCommand } from '../../src/policy-tools/command.js'

const folder = mkdtempSync(join(tmpdir(), 'policy-opa-'))
let fake: Server
let configPath: string
let answer: (action: string) => unknown
let authorization: string | undefined

/** A fake OPA: what it decides is the test's. */
beforeAll(async () => {
  fake = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    authorization = request.headers.authorization
    response.end(JSON.stringify(answer(JSON.parse(Buffer.concat(chunks).toString()).input.action)))
  })
  await new Promise<void>((listening) => fake.listen(0, '127.0.0.1', listening))
  const address = fake.address()
  const port = typeof address === 'object' ? address?.port : ''
  configPath = join(folder, 'mayfly.yaml')
  writeFileSync(
    configPath,
    `
version: 1
issuers: {test: {jwks: env:NOT_SET, issuer: "https://issuer.test", audience: mayfly}}
operators: [{id: ann, match: {issuer: test}, groups: [security]}]
providers: {tokens: {type: jwt}}
roles: {api: {provider: tokens, params: file:nowhere.json}}
vocabulary: {intents: [deploy], environments: [production]}
policies: {engine: opa, url: "http://127.0.0.1:${port}", allow_http_loopback: true, token: env:OPA_TOKEN, stop: [security]}
`,
  )
  for (const outcome of ['allow', 'deny']) mkdirSync(join(folder, 'cases', outcome), { recursive: true })
  const read = { action: 'read', agent: { id: 'triage', autonomy: 'supervised' }, role: { name: 'api' } }
  writeFileSync(join(folder, 'cases/allow/read.json'), JSON.stringify({ about: 'reads', ...read, expect: { policies: ['read'], max_ttl: 60 } }))
  writeFileSync(join(folder, 'cases/deny/write.json'), JSON.stringify({ about: 'never writes', ...read, action: 'write' }))
})
afterAll(() => {
  fake.closeAllConnections()
  fake.close()
  rmSync(folder, { recursive: true })
})
beforeEach(() => {
  answer = (action) => ({ result: action === 'read' ? { outcome: 'allow', policies: ['read'], max_ttl: 60, version: 'v1' } : DENY })
})
const DENY = { outcome: 'deny', policies: ['never'], version: 'v1' }

async function policy(...args: string[]) {
  const said = { out: '', err: '', code: 0 }
  const add = (to: 'out' | 'err') => (text: string) => {
    said[to] += text
  }
  const shell = {
    env: { OPA_TOKEN: 'opa-token' },
    stdout: { write: add('out'), isTerminal: !args.includes('--json') },
    stderr: { write: add('err'), isTerminal: true },
    exitWith: (exit: number) => {
      said.code = exit
    },
    interactive: false,
    home: folder,
    signal: new AbortController().signal,
    ask: () => Promise.reject(new Error('nothing is asked')),
  } as Shell
  const command = policyCommand(shell)
  for (const one of [command, ...command.commands]) one.exitOverride().configureOutput({ writeErr: () => {} })
  try {
    await command.parseAsync(args, { from: 'user' })
  } catch (error) {
    said.code = error instanceof CommanderError ? 2 : report(error, shell)
  }
  return said
}

describe('with policies in an OPA', () => {
  it('mayfly policy test asks the one that runs, with its token and no other secret', async () => {
    const cases = join(folder, 'cases')
    expect(await policy('test', cases, '--config', configPath)).toMatchObject({ code: 0, out: '2 of 2 cases are decided as their folders say\n' })
    expect(authorization).toBe('Bearer opa-token')
    answer = () => ({ result: DENY })
    const { code, out } = await policy('test', cases, '--config', configPath, '--json')
    expect([code, JSON.parse(out)]).toMatchObject([1, { ok: false, passed: 1, failed: [{ case: 'allow/read.json', policies: ['never'] }] }])
  })

  it('mayfly policy check says what is no decision', async () => {
    expect(await policy('check', '--config', configPath)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/every action is decided, by version v1\n$/),
    })
    answer = (action) => (action === 'freeze' ? {} : { result: DENY })
    expect(await policy('check', '--config', configPath)).toMatchObject({ code: 1, out: expect.stringMatching(/^opa: freeze: there is no decision/) })
  })

  it.each([
    ['check', 'x.rego', 'opa check --strict'],
    ['test', '.', '--observed', 'name that path'],
    ['simulate', '--request', 'x.json', '--candidate', 'x.cedar', 'load the candidate there'],
  ])('mayfly policy %s says what it cannot do, and what can', async (...args) => {
    const says = args.pop() ?? ''
    writeFileSync(join(folder, 'x.rego'), 'package x\n')
    const given = args.map((one) => (/^(x\.|\.$)/.test(one) ? join(folder, one) : one))
    const { code, err } = await policy(...given, '--config', configPath)
    expect(code).toBe(2)
    expect(err).toContain('the policies of this configuration are in an OPA')
    expect(err).toContain(says)
  })

  it('the doctor asks it once about each action', async () => {
    const options = await loadPolicyOptions(configPath, { OPA_TOKEN: 'opa-token' })
    if (!isOpa(options)) throw new Error('no OPA')
    const look = (more: object = {}) => policyFindings({ policy: { ...options, ...more } } as Parameters<typeof policyFindings>[0])
    expect(await look()).toMatchObject([{ level: 'ok', what: expect.stringMatching(/decides every action, version v1/) }])
    answer = () => ({ result: { outcome: 'yes' } })
    expect(await look()).toMatchObject([
      { level: 'fail', what: expect.stringMatching(/^opa: every action: .*outcome/), mend: expect.stringMatching(/docs\/opa\.md/) },
    ])
    expect(await look({ url: 'http://127.0.0.1:9' })).toMatchObject([{ level: 'fail', what: expect.stringMatching(/ECONNREFUSED/) }])
    expect(await look({ url: 'http://192.0.2.1' })).toMatchObject([{ level: 'fail', what: expect.stringMatching(/^policies\.url: .*loopback/) }])
  })
})
