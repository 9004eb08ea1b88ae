import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { issued, problem, startWire, TASK_ID, type Wire } from '../client/wire.js'
import { mayfly } from './mayfly.js'

let wire: Wire
let folder: string
let tokenFile: string
beforeAll(async () => {
  wire = await startWire()
  folder = mkdtempSync(join(tmpdir(), 'mayfly-main-'))
  tokenFile = join(folder, 'token')
  writeFileSync(tokenFile, 'a.b.c\n')
})
beforeEach(() => {
  wire.asked.length = 0
})
afterAll(async () => {
  await wire.stop()
  rmSync(folder, { recursive: true, force: true })
})

const get = ['get', '--task', TASK_ID, '--role', 'api-token']

describe('the exit code tells', () => {
  it.each([
    ['0: done', 0, { status: 201, body: issued() }],
    ['1: failed', 1, problem(409, 'task_ended')],
    ['3: denied', 3, problem(403, 'denied')],
    ['3: who are you', 3, problem(401, 'token_expired')],
    ['4: a human has to agree', 4, problem(403, 'approval_required')],
    ['5: nobody is behind the gateway', 5, { status: 502, body: '<html>' }],
  ])('%s', async (_what, code, answer) => {
    wire.answers(answer)
    const ended = await mayfly(get, { MAYFLY_URL: wire.url, MAYFLY_TOKEN_FILE: tokenFile })
    expect(ended.code).toBe(code)
  })
  it('2: usage, before anything is sent', async () => {
    const env = { MAYFLY_URL: wire.url, MAYFLY_TOKEN_FILE: tokenFile }
    const lines = [
      ['get'],
      ['nonsense'],
      [...get, '--ttl', 'soon'],
      ['revoke', '--reason', 'x'],
      ['revoke', '--all', '--agent', 'a', '--reason', 'x'],
    ]
    const codes = await Promise.all([...lines.map((args) => mayfly(args, env)), mayfly(get)].map(async (run) => (await run).code))
    expect(codes).toEqual([2, 2, 2, 2, 2, 2])
    expect(wire.asked).toEqual([])
  })
  it('5: unreachable', async () => {
    expect(await mayfly([...get, '--url', 'http://127.0.0.1:2', '--token-file', tokenFile])).toMatchObject({ code: 5, out: '' })
  })
})

describe('the token comes from', () => {
  const from = async (env: Record<string, string>, ...args: string[]) => {
    wire.answers({ status: 201, body: issued() })
    const ended = await mayfly([...get, ...args], { MAYFLY_URL: wire.url, ...env })
    return { ...ended, token: wire.asked.at(-1)?.headers.authorization }
  }
  it('the file that the command line names, before any other', async () => {
    writeFileSync(join(folder, 'other'), 'd.e.f')
    expect(await from({ MAYFLY_TOKEN_FILE: tokenFile }, '--token-file', join(folder, 'other'))).toMatchObject({ code: 0, token: 'Bearer d.e.f' })
    expect(await from({ MAYFLY_TOKEN_FILE: tokenFile })).toMatchObject({ code: 0, token: 'Bearer a.b.c' })
  })
  it("GitHub's token service, for the broker's audience", async () => {
    const github = await startWire()
    github.answers({ status: 200, body: { value: 'g.i.t' } })
    const env = { ACTIONS_ID_TOKEN_REQUEST_URL: `${github.url}/token?api=1`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'runner' }
    expect(await from(env)).toMatchObject({ code: 0, token: 'Bearer g.i.t' })
    expect(github.asked).toMatchObject([{ path: '/token?api=1&audience=mayfly', headers: { authorization: 'Bearer runner' } }])
    await github.stop()
  })
  it('nowhere: nothing is sent, and what to do is said', async () => {
    expect(await from({})).toMatchObject({ code: 1, token: undefined, err: expect.stringMatching(/token_missing.*\n {2}next: give --token-file/) })
  })
  it('no login file that others can read', async () => {
    const state = join(folder, 'state')
    mkdirSync(join(state, 'mayfly'), { recursive: true })
    writeFileSync(join(state, 'mayfly/login.json'), JSON.stringify({ issuer: 'i', access_token: 'l.o.g' }), { mode: 0o644 })
    expect(await from({ XDG_STATE_HOME: state })).toMatchObject({ code: 1, token: undefined, err: expect.stringContaining('others can read') })
  })
})

it('on whose behalf is read from a file, and what cannot be read is not asked with', async () => {
  const human = join(folder, 'human')
  writeFileSync(human, 'h.u.m\n')
  wire.answers({ status: 201, body: issued() })
  const env = { MAYFLY_URL: wire.url, MAYFLY_TOKEN_FILE: tokenFile }
  expect(await mayfly([...get, '--on-behalf-of-file', human], env)).toMatchObject({ code: 0 })
  expect(wire.asked.map(({ body }) => body)).toMatchObject([{ task: TASK_ID, role: 'api-token', on_behalf_of: 'h.u.m' }])
  const missing = await mayfly([...get, '--on-behalf-of-file', join(folder, 'nobody')], env)
  expect(missing).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/token_missing.*nobody.*\n {2}next: check --on-behalf-of-file/) })
  expect(wire.asked).toHaveLength(1)
})

it('a credential that cannot be printed as asked is returned', async () => {
  wire.answers({ status: 201, body: issued({ MAYFLY_JWT: 'x' }) }, { status: 200, body: { lease: issued().lease } })
  const ended = await mayfly([...get, '--format', 'aws'], { MAYFLY_URL: wire.url, MAYFLY_TOKEN_FILE: tokenFile })
  expect(ended).toMatchObject({ code: 1, out: '' })
  expect(wire.asked.map(({ method }) => method)).toEqual(['POST', 'DELETE'])
})
