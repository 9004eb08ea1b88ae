import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import { CommanderError } from 'commander'
import { report, type Shell } from '../../src/cli/index.js'
import { policyCommand } from '../../src/policy-tools/command.js'

const ROOT = join(import.meta.dirname, '../..')
const SCHEMA = join(ROOT, 'config/schema.cedarschema')
const SAMPLE = join(ROOT, 'config/mayfly.yaml')
const folder = mkdtempSync(join(tmpdir(), 'policy-tools-'))
afterAll(() => rmSync(folder, { recursive: true }))

function write(name: string, text: string): string {
  const path = join(folder, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, text)
  return path
}

/** The command as `main` runs it. */
async function policy(...args: string[]) {
  const said: { out: string; err: string; code: number } = { out: '', err: '', code: 0 }
  const add = (to: 'out' | 'err') => (text: string) => {
    said[to] += text
  }
  const shell = {
    env: {},
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
  for (const one of [command, ...command.commands]) one.exitOverride().configureOutput({ writeErr: add('err') })
  try {
    await command.parseAsync(args, { from: 'user' })
  } catch (error) {
    said.code = error instanceof CommanderError ? 2 : report(error, shell)
  }
  return { ...said, json: () => JSON.parse(said.out) }
}

/** A configuration with these files; nothing that it references outside of its policies is there. */
function config(name: string, files: string, texts: Readonly<Record<string, string>>): string {
  for (const [file, text] of Object.entries(texts)) write(`${name}/${file}`, text)
  return write(
    `${name}/mayfly.yaml`,
    `
version: 1
issuers: {test: {jwks: env:NOT_SET, issuer: "https://issuer.test", audience: mayfly}}
agents: [{id: triage, match: {issuer: test}, owner: sre, autonomy: supervised, team: platform}]
operators: [{id: ann, match: {issuer: test}, groups: [security]}]
providers: {tokens: {type: jwt}}
roles: {api: {provider: tokens, params: file:nowhere.json}}
vocabulary: {intents: [deploy], environments: [production]}
policies: {schema: "${SCHEMA}", files: ${files}}
`,
  )
}

const READ = '@id("read") @maxTtl("600")\npermit(principal, action == Action::"read", resource);\n'
const NO_WRITE = '@id("no-write") @reason("nobody writes") forbid(principal, action == Action::"write", resource);'
const good = config('good', '["*.cedar"]', { 'read.cedar': READ })
const read = { action: 'read', agent: { id: 'triage', autonomy: 'supervised' }, role: { name: 'api' } }

describe('mayfly policy check', () => {
  it('is content with the sample, without any of its secrets', async () => {
    expect(await policy('check', '--config', SAMPLE)).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+ files: nothing is wrong\n$/) })
  })

  it.each<[string, string, RegExp]>([
    [
      'an unknown annotation',
      `${READ}\n// ünïcödé\n@id("b") @zap("1")\npermit(principal, action, resource);`,
      /bad\/x\.cedar:5: b: @zap is not known/,
    ],
    [
      'an attribute that is not there',
      `${READ}\n@id("b")\npermit(principal, action == Action::"read", resource)\nwhen { context.confidense.lessThan(decimal("0.1")) };`,
      /bad\/x\.cedar:6: b: .*confidense/,
    ],
    [
      'what Cedar only warns of',
      `@id("b")\nforbid(principal, action == Action::"read", resource)\nwhen { resource.level < 0 && resource.level == "x" };`,
      /bad\/x\.cedar:\d: b: /,
    ],
    ['what is not Cedar', `${READ}\n\n@id("b") permit(principal, action, resorce);`, /bad\/x\.cedar:5: .*resorce/],
    ['an id twice', `${READ}\n${READ}`, /bad\/x\.cedar:4: read: @id is already taken/],
    ['a policy without an id', `${READ}\npermit(principal, action, resource);`, /bad\/x\.cedar:4: a policy has no @id/],
    [
      'a team that nobody is in',
      `@id("b") forbid(principal in Team::"plattform", action, resource);`,
      /bad\/x\.cedar:1: b: Team::"plattform" is not in the configuration/,
    ],
  ])('tells file and line of %s', async (_what, text, line) => {
    const path = config('bad', '[x.cedar]', { 'x.cedar': text })
    const { code, out } = await policy('check', '--config', path)
    expect(code).toBe(1)
    expect(out).toMatch(line)
    const json = (await policy('check', '--config', path, '--json')).json()
    expect([json.ok, json.problems[0]]).toMatchObject([false, { line: expect.any(Number) }])
  })

  it('tells the line of a schema that is wrong', async () => {
    const schema = write('wrong.cedarschema', 'entity A;\nentity B = { x: Foo };\n')
    const file = write('one.cedar', READ)
    expect(await policy('check', file, '--schema', schema)).toMatchObject({ code: 1, out: expect.stringMatching(/^schema:2: .*Foo/) })
  })

  it('reads files with a schema alone, and says what it does not check', async () => {
    const file = write('loose/one.cedar', '@id("b") forbid(principal in Team::"anything", action == Action::"read", resource);')
    const loose = await policy('check', join(folder, 'loose'), '--schema', SCHEMA)
    expect(loose).toMatchObject({ code: 0, err: expect.stringContaining('taken for known') })
    expect(await policy('check', file, '--config', good)).toMatchObject({ code: 1, out: expect.stringContaining('Team::"anything"') })
  })

  it('outlives a text that kills its engine', async () => {
    const file = write('nested.cedar', `@id("a") permit(principal, action, resource) when { ${'('.repeat(200)}true${')'.repeat(200)} };`)
    expect(await policy('check', file, '--config', good)).toMatchObject({ code: 1, out: expect.stringContaining('could not be read') })
  })

  it('checks what is only observed too, and says how many', async () => {
    const observed = config('observed', '["*.cedar", {path: b.cedar, mode: observe}]', { 'a.cedar': READ, 'b.cedar': NO_WRITE })
    expect((await policy('check', '--config', observed)).out).toBe('2 files (1 observed): nothing is wrong\n')
    writeFileSync(join(folder, 'observed/b.cedar'), READ)
    expect(await policy('check', '--config', observed)).toMatchObject({ code: 1, out: expect.stringContaining('@id is already taken') })
    for (const [files, problem] of [
      ['["a.cedar", {path: a.cedar, mode: observe}]', /a\.cedar is to be enforced by a\.cedar and observed by a\.cedar/],
      ['["a.cedar", {path: "*.cedar", mode: observe}]', /to be enforced by a\.cedar and observed by \*\.cedar/],
      ['[{path: a.cedar, mode: watch}]', /policies\.files/],
    ] as const) {
      const both = config('both', files, { 'a.cedar': READ })
      expect(await policy('check', '--config', both)).toMatchObject({ code: 1, err: expect.stringMatching(problem) })
    }
  })

  it('is told what to look at', async () => {
    expect((await policy('check')).code).toBe(2)
    expect((await policy('check', join(folder, 'nowhere'), '--config', good)).code).toBe(2)
    expect((await policy('check', '--config', join(folder, 'nowhere.yaml'))).code).toBe(1)
  })
})

describe('mayfly policy test', () => {
  it('is content with the cases of this repository', async () => {
    const { code, json } = await policy('test', join(ROOT, 'test/policy'), '--config', SAMPLE, '--json')
    expect([code, json()]).toMatchObject([0, { ok: true, failed: [] }])
    expect(json().passed).toBeGreaterThan(50)
  })

  it('shows each failure with what decided and why', async () => {
    const path = config('tested', '["*.cedar"]', { 'read.cedar': READ, 'write.cedar': NO_WRITE })
    write('cases/allow/write.json', JSON.stringify({ ...read, about: 'a write', action: 'write' }))
    write('cases/allow/read.json', JSON.stringify({ ...read, about: 'a read', expect: { max_ttl: 600 } }))
    write('cases/deny/typo.json', '{"abuot": 1}')
    const { code, out } = await policy('test', join(folder, 'cases'), '--config', path)
    expect(code).toBe(1)
    expect(out).toMatch(/allow\/write\.json.*expected "allow", got "deny".*no-write.*nobody writes/)
    expect(out).toContain('1 of 3 cases are decided as their folders say')
    const { failed } = (await policy('test', join(folder, 'cases'), '--config', path, '--json')).json()
    expect(failed).toMatchObject([
      { case: 'allow/write.json', outcome: 'deny', policies: ['no-write'], reasons: ['nobody writes'] },
      { case: 'deny/typo.json' },
    ])
  })

  it('asks what is only observed when it is told to', async () => {
    const path = config('half', '["*.cedar", {path: b.cedar, mode: observe}]', {
      'a.cedar': READ,
      'b.cedar': NO_WRITE.replace('"write"', '"read"').replace('no-write', 'no-read'),
    })
    write('half-cases/deny/read.json', JSON.stringify({ ...read, about: 'a read' }))
    expect((await policy('test', join(folder, 'half-cases'), '--config', path)).code).toBe(1)
    expect((await policy('test', join(folder, 'half-cases'), '--config', path, '--observed')).code).toBe(0)
  })

  it('passes neither without cases nor with policies that cannot be used', async () => {
    mkdirSync(join(folder, 'empty'), { recursive: true })
    expect((await policy('test', join(folder, 'empty'), '--config', good)).code).toBe(2)
    const broken = config('broken', '[x.cedar]', { 'x.cedar': '\n@id("b") @zap("1") permit(principal, action, resource);' })
    expect(await policy('test', join(ROOT, 'test/policy'), '--config', broken)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/x\.cedar:2: b: @zap/),
    })
  })
})

describe('mayfly policy simulate', () => {
  const candidate = write(
    'candidate/read.cedar',
    `${READ.replace('600', '60')}\n@id("write") permit(principal, action == Action::"write", resource);`,
  )
  const events = write(
    'audit/events.jsonl',
    [read, { ...read, action: 'write' }, { ...read, action: 'escalate' }]
      .map((input, index) =>
        JSON.stringify({ at: `2026-01-0${index + 1}T00:00:00.000Z`, id: `event-${index}`, type: 'lease.denied', detail: { input } }),
      )
      .join('\n'),
  )

  it('tells what recorded requests would become', async () => {
    const args = ['simulate', '--config', good, '--candidate', join(folder, 'candidate'), '--events', events]
    const { code, out } = await policy(...args)
    expect([code, out]).toEqual([0, expect.stringMatching(/^3 requests, from .* to .*: 1 unchanged\n1 newly allowed\n1 allowed for another time\n/)])
    expect(out).toMatch(/triage read api .*allow \(300s; read\).*allow \(60s; read\).*event-0/)
    const json = (await policy(...args, '--json')).json()
    expect(json).toMatchObject({ asked: 3, unchanged: 1, changes: { allowed: 1, denied: 0, step_up: 0, ttl: 1 }, complete: true })
    const since = (await policy(...args, '--json', '--since', '2026-01-02T00:00:00Z', '--limit', '1')).json()
    expect(since).toMatchObject({ asked: 1, from: '2026-01-03T00:00:00.000Z' })
  })

  it('tells what one request would become; an example is a case', async () => {
    const request = write('request.json', JSON.stringify({ ...read, action: 'write' }))
    const { json } = await policy('simulate', '--config', good, '--candidate', candidate, '--request', request, '--json')
    const [example] = json().examples
    expect(example).toMatchObject({ change: 'allowed', binding: { outcome: 'deny' }, candidate: { outcome: 'allow', policies: ['write'] } })
    write('kept/deny/write.json', JSON.stringify({ about: 'kept', ...example.request }))
    expect((await policy('test', join(folder, 'kept'), '--config', good)).code).toBe(0)
  })

  it('says what is wrong with a candidate, and what it was not told', async () => {
    const wrong = write('wrong.cedar', '@id("b") @zap("1") permit(principal, action, resource);')
    const args = ['simulate', '--config', good, '--events', events]
    expect(await policy(...args, '--candidate', wrong)).toMatchObject({ code: 1, err: expect.stringMatching(/wrong\.cedar:1: b: @zap/) })
    expect(await policy(...args)).toMatchObject({ code: 2, err: expect.stringContaining('nothing is observed') })
    expect((await policy('simulate', '--config', good, '--candidate', candidate)).code).toBe(2)
    expect((await policy('simulate', '--config', good, '--candidate', candidate, '--events', join(folder, 'nowhere'))).code).toBe(2)
    expect((await policy('simulate', '--candidate', candidate)).err).toContain('which broker?')
  })
})
