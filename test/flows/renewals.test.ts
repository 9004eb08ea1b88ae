import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventOf, eventsOf } from '../support/events.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const MAX_RENEWALS = 3
const LIFETIME_MS = 600_000
/** The upstream extends the first, and the second is renewed by successors. */
const ROLES = ['extended', 'replaced'] as const

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role reporting_ro nologin')
  const life = 'access: read, sensitivity: internal, max_ttl: 5m, max_lifetime: 10m'
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    roles: `  extended: {provider: warehouse, ${life}, max_renewals: ${MAX_RENEWALS}, params: {member_of: [reporting_ro]}}
  replaced: {provider: tokens, ${life}, max_renewals: ${MAX_RENEWALS}, params: {audience: "https://reports.example"}}
  never: {provider: tokens, ${life}, max_renewals: 0, params: {audience: "https://reports.example"}}
  spent: {provider: tokens, access: read, sensitivity: internal, max_ttl: 5m, params: {audience: "https://reports.example"}}`,
    limits: '{requests_per_second: 10000, per_agent_live: 0, per_task_live: 100000}',
  })
  call = checking(test.call)
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const envelope = [...ROLES, 'never', 'spent'].map((role) => ({ role }))
/** A token that its issuer made so many milliseconds ago. */
const tokenOf = (ageMs = 0) => test.token('triage', { iat: (Date.now() - ageMs) / 1000 })
const issuedAt = (token: string) => 1000 * JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).iat
const renew = (lease: string, token: string) => call('POST', `/v1/leases/${lease}/renew`, token, { ttl: 300 })
const obtain = async (role: string, token?: string) => {
  const { status, body } = await call('POST', '/v1/leases', token ?? (await tokenOf()), { task: await test.openTask({ envelope }), role, ttl: 60 })
  expect(status).toBe(201)
  return body.lease
}

describe.each(ROLES)('a lease that is %s', (role) => {
  it('is not renewed with the token that it was obtained with, and is with one issued since', async () => {
    const token = await tokenOf()
    const lease = await obtain(role, token)
    const refused = await renew(lease.id, token)
    expect(refused).toMatchObject({ status: 401, body: { code: 'token_not_fresh', next: expect.stringContaining('new token') } })
    expect(await eventOf(test, redis.client, refused.body)).toMatchObject({
      type: 'lease.denied',
      code: 'token_not_fresh',
      principal: { id: 'triage' },
    })
    expect(await renew(lease.id, await tokenOf())).toMatchObject({ status: 200, body: { lease: { renewals: 1 } } })
  })

  it('is not renewed with a token that is newer than the last, but was issued long before the last renewal', async () => {
    const lease = await obtain(role, await tokenOf(120_000))
    const kept = await tokenOf(60_000)
    expect((await renew(lease.id, kept)).body.code).toBe('token_not_fresh')
    // An issuer whose clock is a little behind is none that keeps tokens.
    expect((await renew(lease.id, await tokenOf(20_000))).status).toBe(200)
  })

  it('is renewed once by one token, however many ask at once', async () => {
    const lease = await obtain(role)
    const token = await tokenOf()
    const answers = await Promise.all(Array.from({ length: 8 }, () => renew(lease.id, token)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
  })

  it('is renewed as often as its role allows', async () => {
    let { id } = await obtain(role)
    for (let count = 1; count <= MAX_RENEWALS; count++) {
      const { status, body } = await renew(id, await tokenOf())
      expect({ status, renewals: body.lease.renewals }).toEqual({ status: 200, renewals: count })
      id = body.lease.id
    }
    const refused = await renew(id, await tokenOf())
    expect(refused).toMatchObject({ status: 409, body: { code: 'renewals_used', next: 'ask for a new one' } })
  })

  it('outlives nothing, whatever the order of tokens old and new', async () => {
    // The age of each token that asks, ms; the same again where it is `undefined`.
    const ages = fc.array(fc.option(fc.constantFrom(0, 0, 0, 5_000, 29_000, 31_000, 300_000), { nil: undefined }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(0, 1_000, 60_000), ages, async (firstAge, steps) => {
        let token = await tokenOf(firstAge)
        const first = await obtain(role, token)
        let [id, last, at, renewals] = [first.id, issuedAt(token), Date.parse(first.issued_at), 0]
        for (const age of steps) {
          if (age !== undefined) token = await tokenOf(age)
          const before = Date.now()
          const { status, body } = await renew(id, token)
          const isNewer = issuedAt(token) > last
          if (status === 200) {
            expect(isNewer).toBe(true)
            expect(issuedAt(token)).toBeGreaterThan(at - 30_000)
            expect(body.lease.renewals).toBe(++renewals)
            expect(renewals).toBeLessThanOrEqual(MAX_RENEWALS)
            expect(Date.parse(body.lease.expires_at)).toBeLessThanOrEqual(Date.parse(first.issued_at) + LIFETIME_MS)
            ;[id, last, at] = [body.lease.id, issuedAt(token), before]
          } else {
            const why = renewals === MAX_RENEWALS ? 'renewals_used' : 'token_not_fresh'
            expect(body.code).toBe(why)
            if (why === 'token_not_fresh' && age === 0) expect(isNewer).toBe(false)
          }
        }
      }),
      { numRuns: 40 },
    )
  }, 120_000)
})

describe('a role', () => {
  it('whose leases are never renewed says so', async () => {
    const lease = await obtain('never')
    expect((await renew(lease.id, await tokenOf())).body.code).toBe('renewals_used')
  })

  it('whose leases have no life beyond their TTL renews nothing past it', async () => {
    const token = await tokenOf()
    const task = await test.openTask({ envelope })
    const { lease } = (await call('POST', '/v1/leases', token, { task, role: 'spent' })).body
    const { body } = await renew(lease.id, await tokenOf())
    expect(Date.parse(body.lease.expires_at)).toBeLessThanOrEqual(Date.parse(lease.renewable_until))
  })
})

it('the trail tells which token a lease was renewed with', async () => {
  const lease = await obtain('extended')
  const token = await tokenOf()
  await renew(lease.id, token)
  const told = (await eventsOf(test, redis.client)).filter((event) => event.lease === lease.id)
  const [issued, renewed] = ['lease.issued', 'lease.renewed'].map((type) => told.find((event) => event.type === type)?.principal.token)
  expect(renewed).toMatch(/^[\w-]{16}$/)
  expect(renewed).not.toBe(issued)
})
