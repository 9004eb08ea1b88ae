import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { openBrowser } from './browser.js'
import { type Ended, mayfly, type Run, start, stop, until } from './mayfly.js'

/** `mayfly dev` as a person starts it, and the other commands against it. */
let dev: Run
let folder: string
let url: string
let issuer: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mayfly-cli-'))
  dev = start(['dev', '--port', '0', '--data-dir', join(folder, 'data')])
  await until(dev, 'grant_type=')
  url = /ready at (\S+)/.exec(dev.out())?.[1] ?? ''
  issuer = /issuer (http[^)]+)\)/.exec(dev.out())?.[1] ?? ''
})
afterAll(async () => {
  await stop(dev)
  rmSync(folder, { recursive: true, force: true })
})

const tokenFile = (who: string) => join(folder, 'data/tokens', who)
const as = (who: string, ...args: string[]): Promise<Ended> => mayfly([...args, '--url', url, '--token-file', tokenFile(who)])
const openTask = async (...more: string[]) => {
  const opened = await as('flows', 'task', 'open', '--intent', 'incident-triage', '--agent', 'triage', '--role', 'api-token', ...more)
  expect(opened).toMatchObject({ code: 0, err: '' })
  return opened.out.trim()
}
const obtain = (task: string, ...more: string[]) => as('triage', 'get', '--task', task, '--role', 'api-token', ...more)

it('a credential is obtained for a task, seen by the operator, and ends with the task', async () => {
  const task = await openTask('--max-ttl', '2m')
  const got = await obtain(task, '--ttl', '60')
  expect(got).toMatchObject({ code: 0, err: '' })
  const { lease, credential } = JSON.parse(got.out)
  expect(Date.parse(lease.expires_at) - Date.parse(lease.issued_at)).toBe(60_000)
  expect(credential.token.split('.')).toHaveLength(3)

  const [shown, listed] = await Promise.all([as('flows', 'task', 'show', task), as('oncall', 'leases', '--task', task)])
  expect(JSON.parse(shown.out)).toMatchObject({ task: { id: task, state: 'active' }, leases: [{ id: lease.id }] })
  expect(JSON.parse(listed.out)).toMatchObject({ leases: [{ id: lease.id, state: 'active' }], more: false })
  expect(listed.out).not.toContain(credential.token)

  const completed = await as('flows', 'task', 'complete', task, '--wait', '10s')
  expect(JSON.parse(completed.out)).toMatchObject({ state: 'completed', closing: 1, leases: [{ id: lease.id, state: 'revoked' }] })
  expect(await obtain(task)).toMatchObject({ code: 1, out: '', err: expect.stringContaining('task_ended') })
})

it('the operator stops an agent, looks, and lets it go on', async () => {
  const task = await openTask()
  await obtain(task)
  const words = ['--agent', 'triage', '--reason', 'drill']
  const counted = await as('oncall', 'revoke', ...words, '--dry-run')
  expect(JSON.parse(counted.out)).toMatchObject({ dry_run: true, matched: 1 })
  expect((await obtain(task)).code).toBe(0)

  const revoked = await as('oncall', 'revoke', ...words, '--wait')
  expect(revoked.code).toBe(0)
  const { revocation, freeze } = JSON.parse(revoked.out)
  expect(revocation).toMatchObject({ state: 'finished', matched: 2, revoked: 2, pending: 0 })
  expect(await obtain(task)).toMatchObject({ code: 3, out: '', err: expect.stringContaining('frozen') })

  const frozen = await as('oncall', 'freeze')
  expect(JSON.parse(frozen.out).freezes).toMatchObject([{ id: freeze.id, selector: { agent: ['triage'] } }])
  expect((await as('oncall', 'thaw', freeze.id, '--reason', 'over')).code).toBe(0)
  expect((await obtain(task)).code).toBe(0)
})

describe('what is refused', () => {
  it('says code, detail and what to do next, and exits with 3', async () => {
    const task = await openTask()
    const refused = await as('triage', 'get', '--task', task, '--role', 'api-admin')
    expect(refused).toMatchObject({ code: 3, out: '' })
    expect(refused.err).toMatch(/^mayfly: outside_envelope: .*api-admin/)
    expect(refused.err).toMatch(/next: ask within the envelope/)
    expect(await as('triage', 'leases')).toMatchObject({ code: 3, out: '' })
  })
})

describe('a person', () => {
  it('logs in with a browser elsewhere, and the token is for nobody else', async () => {
    const env = { XDG_STATE_HOME: join(folder, 'state') }
    const login = start(['login', '--issuer', issuer, '--client-id', 'mayfly-cli'], env)
    await until(login, 'confirm the code')
    const [, where = ''] = /Open (\S+)/.exec(login.err()) ?? []
    const arrived = await openBrowser().open(where)
    const confirmed = await (await arrived.submit()).submit()
    const loggedIn = await confirmed.submit({ login: 'oncall', password: 'any' })
    await loggedIn.submit()
    expect(await login.ended).toMatchObject({ code: 0, out: '' })

    const file = join(folder, 'state/mayfly/login.json')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(statSync(join(folder, 'state/mayfly')).mode & 0o777).toBe(0o700)
    expect(login.err()).not.toContain(JSON.parse(readFileSync(file, 'utf8')).access_token)
    const who = await mayfly(['whoami', '--url', url], env)
    expect(JSON.parse(who.out)).toMatchObject({ principal: { kind: 'operator', id: 'oncall', groups: ['sre-oncall'] } })
  })
  it('whose issuer is not there is told so', async () => {
    const login = await mayfly(['login', '--issuer', 'http://127.0.0.1:1', '--client-id', 'x'], { XDG_STATE_HOME: join(folder, 'none') })
    expect(login).toMatchObject({ code: 1, err: expect.stringMatching(/login_failed.*\n {2}next: check --issuer/) })
  })
})

it('the doctor says what is well, and which check a token fails', async () => {
  const env = {
    MAYFLY_DEV_DATA_DIR: join(folder, 'data'),
    MAYFLY_DEV_AUDIT_DIR: join(folder, 'data/audit'),
    MAYFLY_DEV_ADDRESS: '127.0.0.1:0',
    MAYFLY_DEV_URL: url,
    MAYFLY_DEV_ISSUER: issuer,
    MAYFLY_DEV_SIGNING_KEYS: readFileSync(join(folder, 'data/signing-keys.json'), 'utf8'),
  }
  const good = await mayfly(['doctor', '--config', 'config/dev.yaml', '--token-file', tokenFile('triage'), '--json'], env)
  expect({ code: good.code, ok: JSON.parse(good.out).ok }).toEqual({ code: 0, ok: true })
  expect(JSON.parse(good.out).findings).toContainEqual({ area: 'token', level: 'ok', what: 'accepted: it is the agent "triage"' })

  const forged = join(folder, 'forged')
  writeFileSync(forged, readFileSync(tokenFile('triage'), 'utf8').replace(/[^.]+$/, 'A'.repeat(86)))
  const bad = await mayfly(['doctor', '--config', 'config/dev.yaml', '--token-file', forged], env)
  expect(bad).toMatchObject({ code: 1, out: expect.stringMatching(/^fail {2}token {6}signature: /m) })
})

it('nothing but the owner can enter where dev keeps its data', () => {
  expect(statSync(join(folder, 'data')).mode & 0o777).toBe(0o700)
  expect(readdirSync(join(folder, 'data/tokens')).sort()).toEqual(['flows', 'oncall', 'reporter', 'triage'])
  for (const who of readdirSync(join(folder, 'data/tokens'))) expect(statSync(tokenFile(who)).mode & 0o777).toBe(0o600)
})
