import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Provider, ProviderError } from '../../src/providers/provider.js'
import { reconcile } from '../../src/reconcile.js'
import { startReconciling } from '../../src/reconcile-timer.js'
import { createUpstream } from '../../src/upstream.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { agedSights, someLease } from '../support/orphans.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Upstreams that say anything, of any length, or nothing at all. */

let redis: TestRedis
let test: TestBroker
beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({ redisSocket: redis.socketPath })
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

type Listing = ReturnType<NonNullable<Provider['list']>>
const TIMEOUT_MS = 500

/** An upstream that holds what its listing says, and nothing else. */
function upstreamOf(name: string, list: () => Listing, revoked: string[] = []) {
  const provider: Provider = {
    type: 'postgres',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'planned',
    cutsSessions: true,
    sensitiveHandle: false,
    expiryEndsUse: false,
    plan: () => ({}),
    mint: () => Promise.reject(new ProviderError('refused', 'it mints nothing')),
    revoke: async ({ role }) => {
      revoked.push(String(role))
      return 'revoked'
    },
    list,
    check: async () => undefined,
    close: async () => undefined,
  }
  return [name, createUpstream(provider, { name, concurrency: 16, timeoutMs: TIMEOUT_MS })] as const
}
const one = (lease: string) => ({ lease, handle: { role: lease } })
async function* of(leases: Iterable<string>): Listing {
  for (const lease of leases) yield one(lease)
}
function run(upstreams: readonly (readonly [string, ReturnType<typeof createUpstream>])[], revoke = false, deadlineMs = 30_000) {
  const house = { ...test.broker.house(), upstreams: new Map(upstreams) }
  return reconcile(house, { revoke, deadlineMs }).then(({ providers }) => new Map(providers.map((found) => [found.provider, found])))
}

describe('a listing', () => {
  it('of 100,000 is looked at whole, and what it names is kept in mind in the ledger', async () => {
    const ids = Array.from({ length: 100_000 }, (_, n) => `lease_${someLease(String(n % 64).padStart(2, '0'))}`)
    const found = (await run([upstreamOf('many', () => of(ids))])).get('many')
    expect(found).toMatchObject({ outcome: 'done', listed: 100_000, known: 0, partial: false, missing: [] })
    expect(found?.seen).toHaveLength(100_000)
    await agedSights(redis)
    const revoked: string[] = []
    // As many as one broker keeps waiting by itself.
    const some = ids.slice(0, 250)
    const last = (await run([upstreamOf('many', () => of(some), revoked)], true)).get('many')
    expect(last?.orphans.filter(({ outcome }) => outcome === 'revoked')).toHaveLength(250)
    expect(new Set(revoked)).toEqual(new Set(some))
  }, 120_000)

  it('without an end ends with the time, and told is what was seen', async () => {
    const endless = async function* (): Listing {
      for (;;) yield one(`lease_${someLease()}`)
    }
    const found = (await run([upstreamOf('endless', endless)], true, 1_500)).get('endless')
    expect(found).toMatchObject({ outcome: 'partial', orphans: [], missing: undefined })
    expect(found?.listed).toBeGreaterThan(100)
  })

  it('that hangs, breaks or says what nobody can read keeps nothing from the others', async () => {
    const hangs = async function* (): Listing {
      yield one(`lease_${someLease()}`)
      await new Promise(() => undefined)
    }
    const breaks = async function* (): Listing {
      yield one(`lease_${someLease()}`)
      throw new ProviderError('unreachable', 'the connection was lost')
    }
    const lies = async function* (): Listing {
      yield JSON.parse('{"lease": "lease_17", "handle": {}, "expiresAt": 1e300}')
      throw new TypeError('secret of the upstream')
    }
    const planted = `lease_${someLease()}`
    const good = () => upstreamOf('good', () => of([planted]))
    await run([good()])
    await agedSights(redis)
    const all = await run([upstreamOf('hangs', hangs), upstreamOf('breaks', breaks), upstreamOf('lies', lies), good()], true)
    expect(all.get('hangs')).toMatchObject({ outcome: 'failed', listed: 1, seen: [expect.any(String)], error: expect.stringContaining('500 ms') })
    expect(all.get('breaks')).toMatchObject({ outcome: 'failed', listed: 1, error: 'the connection was lost' })
    expect(all.get('lies')).toMatchObject({ outcome: 'failed', foreign: ['lease_17'], error: 'what the upstream answered cannot be read' })
    expect(all.get('good')).toMatchObject({ outcome: 'done', orphans: [{ lease: planted, outcome: 'revoked' }] })
  })

  it('of an end that is no time is told without it', async () => {
    const lease = `lease_${someLease()}`
    const list = async function* (): Listing {
      yield { ...one(lease), expiresAt: Number.POSITIVE_INFINITY }
    }
    await run([upstreamOf('odd', list)])
    await agedSights(redis)
    expect((await run([upstreamOf('odd', list)], true)).get('odd')).toMatchObject({ orphans: [{ lease, outcome: 'revoked' }] })
    const { status, body } = await test.call('GET', `/v1/leases/${lease}`, await test.token('oncall'))
    expect(status).toBe(200)
    expect(body.lease).toMatchObject({ state: 'revoked', cause: 'orphan', agent: '', role: '' })
  })
})

// The last one: nothing comes after it.
describe('a ledger that has forgotten what it knew', () => {
  it('has orphans told of, and none revoked', async () => {
    await redis.client.flushall()
    const ask = async () => test.call('POST', '/v1/reconciliations', await test.token('oncall'), { revoke: true })
    await waitFor('the quarantine', async () => (await ask()).body.code === 'quarantined')
    const lease = `lease_${someLease()}`
    const revoked: string[] = []
    let looks = 0
    const upstreams = new Map([
      upstreamOf(
        'live',
        async function* () {
          looks++
          yield one(lease)
        },
        revoked,
      ),
    ])
    for (let time = 1; time <= 3; time++) {
      const timer = startReconciling(() => ({ ...test.broker.house(), upstreams }), { firstMs: 0, tickMs: 20 })
      await waitFor('a look', () => looks >= time)
      await timer.stop()
      await agedSights(redis)
      for (const key of await redis.client.keys('mf:*register*')) await redis.client.hdel(key, 'u:timer')
    }
    expect(revoked).toEqual([])
    expect(await test.broker.house().metrics.registry.metrics()).toMatch(/mayfly_orphans_total\{provider="live",outcome="found"\} 1/)
  })
})
