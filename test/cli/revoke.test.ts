import { createHash } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'
import { mayfly } from './mayfly.js'

let redis: TestRedis
let test: TestBroker
let folder: string
let key: string
let env: Record<string, string>
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mayfly-glass-'))
  key = join(folder, 'break-glass.json')
  redis = await startRedis()
  const made = await mayfly(['break-glass', 'keygen', '--key', key])
  expect(made).toMatchObject({ code: 0, err: expect.stringContaining('into a safe') })
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    partitions: 4,
    issuers: '  glass: {jwks: env:GLASS, issuer: "https://break-glass.mayfly.internal", audience: mayfly, break_glass: true}',
    operators: '  - {id: break-glass, match: {issuer: glass, sub: oncall}, groups: [sre-oncall]}',
    env: { GLASS: made.out },
  })
  env = { MAYFLY_URL: test.url }
}, 90_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const used = async () => (await eventsOf(test, redis.client)).filter(({ type }) => type === 'break_glass.used')
const byKey = (...args: string[]) => mayfly([...args, '--break-glass-key', key], env)
async function obtain(count: number): Promise<void> {
  const task = await test.openTask()
  const agent = await test.token('triage')
  for (let i = 0; i < count; i++) expect((await test.call('POST', '/v1/leases', agent, { task, role: 'api-token' })).status).toBe(201)
}

describe('mayfly break-glass', () => {
  it('keeps the private half to its owner, writes over none, and shows the public one', async () => {
    expect(statSync(key).mode & 0o777).toBe(0o600)
    const [{ d, ...shown }] = JSON.parse(readFileSync(key, 'utf8')).keys
    expect(d).toEqual(expect.any(String))
    expect(JSON.parse(test.env.GLASS ?? '')).toEqual({ keys: [shown] })
    expect((await mayfly(['break-glass', 'keygen', '--key', key])).code).toBe(1)
    chmodSync(key, 0o644)
    expect((await mayfly(['break-glass', 'token', '--key', key])).err).toContain('chmod 600')
    chmodSync(key, 0o600)
  }, 60_000)

  it('signs a token for one request of an operator, whose use is told: log, event, metric', async () => {
    const config = join(folder, 'mayfly.yaml')
    writeFileSync(config, 'issuers: {glass: {jwks: file:x, issuer: "https://break-glass.mayfly.internal", audience: mayfly, break_glass: true}}')
    const signed = await mayfly(['break-glass', 'token', '--key', key, '--config', config, '--reason', 'sso is down', '--ttl', '1m'])
    const token = signed.out.trim()
    const before = (await used()).length
    expect((await test.call('GET', '/v1/freezes', token)).status).toBe(200)
    expect((await test.call('GET', '/v1/freezes', token)).body.code).toBe('token_replayed')
    expect((await test.call('GET', '/v1/freezes', await test.token('oncall'))).status).toBe(200)
    const told = await waitFor('the use to be told', async () => (await used()).slice(before)[0])
    expect(told).toMatchObject({
      principal: { kind: 'operator', id: 'break-glass', issuer: 'glass' },
      detail: { method: 'get', path: '/v1/freezes', reason: 'sso is down' },
    })
    expect(await used()).toHaveLength(before + 1)
    expect(test.logs.filter((line) => line.includes('the glass is broken')).length).toBe(before + 1)
    const metrics = await test.broker.house().metrics.registry.metrics()
    expect(metrics).toContain(`mayfly_break_glass_uses_total{issuer="glass"} ${before + 1}`)
    expect((await mayfly(['break-glass', 'token', '--key', key, '--ttl', '1h'])).code).toBe(2)
  }, 60_000)
})

describe('mayfly revoke with a break-glass key', () => {
  it('waits, each request with a token of its own, and writes the report', async () => {
    await obtain(3)
    const file = join(folder, 'report.ndjson')
    const done = await byKey('revoke', '--agent', 'triage', '--reason', 'INC-42', '--verify', 'all', '--wait', '--report', file)
    expect(done).toMatchObject({
      code: 0,
      err: expect.stringMatching(/tokens 3 of 3 ended[\s\S]*the report of revocation_\w+ is in .*: 3 leases, finished, signed/),
    })
    const { revocation, freeze } = JSON.parse(done.out)
    expect(revocation).toMatchObject({ state: 'finished', matched: 3, revoked: 3, verify: 'all' })
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
    expect(lines).toHaveLength(4)
    const claims = JSON.parse(Buffer.from(JSON.parse(lines[3] ?? '').jws.split('.')[1], 'base64url').toString())
    expect(claims).toMatchObject({ by: 'break-glass', reason: 'INC-42', leases: 3 })
    expect(
      createHash('sha256')
        .update(`${lines.slice(0, 3).join('\n')}\n`)
        .digest('hex'),
    ).toBe(claims.lines_sha256)

    const again = await byKey('revoke', '--report', revocation.id)
    expect(again).toMatchObject({ code: 0, err: expect.stringContaining('3 leases, finished, signed') })
    expect(again.out.split('\n').slice(0, 3)).toEqual(lines.slice(0, 3))
    expect(JSON.parse((await byKey('revoke', '--follow', revocation.id)).out).revocation).toMatchObject({ state: 'finished', revoked: 3 })
    expect((await byKey('thaw', freeze.id, '--reason', 'over')).code).toBe(0)
    expect((await used()).some(({ detail }) => detail.path === '/v1/emergency/revoke' && detail.reason === 'INC-42')).toBe(true)
  }, 60_000)

  it('sends nothing where the command line makes no sense', async () => {
    const lines = [
      ['--report', 'file.ndjson'],
      ['--follow', `revocation_00${'a'.repeat(26)}`, '--agent', 'a'],
      ['--agent', 'a'],
      ['--agent', 'a', '--reason', 'x', '--verify', 'most'],
    ]
    const before = (await used()).length
    expect((await Promise.all(lines.map((args) => byKey('revoke', ...args)))).map(({ code }) => code)).toEqual([2, 2, 2, 2])
    expect(await used()).toHaveLength(before)
  }, 60_000)
})
