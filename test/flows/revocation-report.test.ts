import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import jose from 'node-jose'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { type KeyService, keyProvider, startKeyService } from '../support/made-keys.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let redis: TestRedis
let service: KeyService
let test: TestBroker
let replica: TestBroker
let call: TestBroker['call']
let oncall: string
beforeAll(async () => {
  ;[redis, service] = await Promise.all([startRedis(), startKeyService()])
  const options = { redisSocket: redis.socketPath, partitions: 4, ...keyProvider(service) }
  test = await startTestBroker(options)
  replica = await startTestBroker({ ...options, like: test })
  call = checking(test.call)
  oncall = await test.token('oncall')
}, 60_000)
afterAll(async () => {
  await Promise.all([test?.stop(), replica?.stop()])
  await Promise.all([redis?.stop(), service?.stop()])
})

const roles = ['made-key', 'api-token', 'api-signed']
async function leases(task: string, role: string, count: number): Promise<string[]> {
  const agent = await test.token('triage')
  const answers = await Promise.all(Array.from({ length: count }, () => call('POST', '/v1/leases', agent, { task, role })))
  return answers.map(({ body }) => body.lease.id)
}
async function stop(task: string, more: object = {}): Promise<string> {
  const { status, body } = await call('POST', '/v1/emergency/revoke', oncall, { selector: { task }, reason: 'leak', ...more })
  expect(status).toBe(202)
  return body.revocation.id
}
const revocation = async (id: string) => (await call('GET', `/v1/emergency/revocations/${id}`, oncall)).body.revocation
const finished = (id: string) =>
  waitFor('the revocation to finish', async () => {
    const seen = await revocation(id)
    return seen.state === 'finished' && seen
  })
const metric = async (name: string) => (await test.broker.house().metrics.registry.metrics()).split('\n').filter((line) => line.startsWith(name))

/** As an auditor would: with the published keys, another implementation of JOSE, and a digest of the lines. */
async function audited(id: string, of: TestBroker = test) {
  const answer = await fetch(`${of.url}/v1/emergency/revocations/${id}/report`, { headers: { authorization: `Bearer ${oncall}` } })
  expect(answer.headers.get('content-type')).toBe('application/x-ndjson')
  const text = await answer.text()
  const end = text.lastIndexOf('\n', text.length - 2) + 1
  const { jws } = JSON.parse(text.slice(end))
  const published = await fetch(`${of.url}/.well-known/jwks.json`)
  const keys = await jose.JWK.asKeyStore(await published.text())
  const { payload, header } = await jose.JWS.createVerify(keys).verify(jws)
  const claims = JSON.parse(payload.toString())
  const lines = text.slice(0, end)
  expect(createHash('sha256').update(lines).digest('hex')).toBe(claims.lines_sha256)
  const rows = lines.split('\n').filter((line) => line !== '')
  return { header, claims, lines, rows: rows.map((line) => JSON.parse(line)) }
}

describe('the report of a revocation', () => {
  it('says of every lease what became of it, is signed, and is the same whichever replica is asked', async () => {
    const task = await test.openTask({ envelope: roles.map((role) => ({ role })) })
    const made = [...(await leases(task, 'made-key', 6)), ...(await leases(task, 'api-token', 3))]
    const id = await stop(task, { verify: 'all' })
    await finished(id)
    const { header, claims, rows, lines } = await audited(id)
    expect(header).toMatchObject({ alg: 'ES256', typ: 'mayfly-revocation+jwt' })
    expect(claims).toMatchObject({
      iss: 'https://mayfly.test',
      revocation: id,
      state: 'finished',
      selector: { task: [task] },
      reason: 'leak',
      by: 'oncall',
      verify: 'all',
      leases: 9,
      outcomes: { revoked: 9, expired: 0, awaits_expiry: 0, pending: 0 },
      verified: { dead: 6, unverifiable: 3, alive: 0, unanswered: 0, not_asked: 0 },
    })
    expect(rows.map(({ lease }) => lease).toSorted()).toEqual(made.toSorted())
    for (const row of rows) {
      const verified = row.role === 'made-key' ? 'dead' : 'unverifiable'
      expect(row).toEqual({ ...row, task, agent: 'triage', outcome: 'revoked', at: expect.any(String), verified })
    }
    expect(service.names).toEqual(new Set())
    const elsewhere = await audited(id, replica)
    expect(elsewhere.lines).toBe(lines)
    expect(elsewhere.claims).toEqual({ ...claims, iat: elsewhere.claims.iat })
  })

  it('is there while it runs, with what may still be used, and until when', async () => {
    const task = await test.openTask({ envelope: roles.map((role) => ({ role })) })
    const [lease] = await leases(task, 'api-signed', 1)
    const id = await stop(task)
    const row = await waitFor('the lease to await its expiry', async () => {
      const { claims, rows } = await audited(id)
      expect(claims.state).toBe('running')
      return rows[0]?.outcome === 'awaits_expiry' && { ...rows[0], until: claims.usable_until }
    })
    expect(row).toMatchObject({ lease, verified: 'not_asked', usable_until: row.until })
    expect(Date.parse(row.until)).toBeGreaterThan(Date.now())
  })

  it('is nobody elses than operators, and of what there is', async () => {
    const path = `/v1/emergency/revocations/revocation_00${'a'.repeat(26)}/report`
    expect((await call('GET', path, oncall)).status).toBe(404)
    expect((await call('GET', path, await test.token('triage'))).status).toBe(403)
  })
})

describe('a lease that is to be verified', () => {
  it('is not called revoked while its upstream still takes it, whatever that confirmed', async () => {
    const task = await test.openTask({ envelope: roles.map((role) => ({ role })) })
    const [lease] = await leases(task, 'made-key', 1)
    service.ignoresRevokes = true
    const id = await stop(task)
    const row = await waitFor('the upstream to be caught', async () => (await audited(id)).rows.find(({ verified }) => verified === 'alive'))
    expect(row).toMatchObject({ lease, outcome: 'pending', last_error: expect.stringContaining('still takes it'), usable_until: expect.any(String) })
    expect(await revocation(id)).toMatchObject({ state: 'running', verify: 'sample', revoked: 0, failed: 1 })
    const told = (await eventsOf(test, redis.client)).filter((event) => event.type === 'lease.alive' && event.lease === lease)
    expect(told.length).toBeGreaterThan(0)
    expect(await metric('mayfly_revocations_verified_total{provider="keys",outcome="alive"}')).toHaveLength(1)
    service.ignoresRevokes = false
    await finished(id)
    expect((await audited(id)).rows).toMatchObject([{ lease, outcome: 'revoked', verified: 'dead' }])
  })

  it('is called revoked without it once its upstream has let several questions go unanswered, and the report says so', async () => {
    const task = await test.openTask({ envelope: roles.map((role) => ({ role })) })
    await leases(task, 'made-key', 1)
    service.answersVerify = false
    const id = await stop(task)
    await finished(id)
    service.answersVerify = true
    expect((await audited(id)).rows).toMatchObject([{ outcome: 'revoked', verified: 'unanswered' }])
  })

  it('is one of a few of each provider, unless all or none are asked for', async () => {
    const task = await test.openTask({ envelope: roles.map((role) => ({ role })) })
    const verifiedOf = async (verify?: string) => {
      await leases(task, 'made-key', 9)
      const selector = { agent: 'triage', role: 'made-key' }
      const { body } = await call('POST', '/v1/emergency/revoke', oncall, { selector, reason: 'rotate', freeze: false, ...(verify && { verify }) })
      await finished(body.revocation.id)
      return (await audited(body.revocation.id)).claims.verified
    }
    // One partition has them all: the task is one.
    expect(await verifiedOf()).toMatchObject({ dead: 4, not_asked: 5 })
    expect(await verifiedOf('none')).toMatchObject({ dead: 0, not_asked: 9 })
    expect(await verifiedOf('all')).toMatchObject({ dead: 9, not_asked: 0 })
  })
})

describe('without keys to sign with', () => {
  it('says that it is not signed rather than look as if it were', async () => {
    const unsigned = { ...test.broker.house(), instance: 'test' }
    const { revocationReport } = await import('../../src/revocation-report.js')
    const task = await test.openTask()
    const seen = await unsigned.ledger.revocation(await stop(task))
    if (!seen) throw new Error('there is no such revocation')
    let text = ''
    for await (const part of revocationReport(unsigned, undefined, seen)) text += part
    const last = JSON.parse(text.trim().split('\n').at(-1) ?? '')
    expect(last).toMatchObject({ unsigned: expect.stringContaining('"signing"'), report: { revocation: seen.id, leases: 0 } })
    expect(last.jws).toBeUndefined()
  })
})
