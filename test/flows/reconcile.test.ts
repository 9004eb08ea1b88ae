import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { reconcile } from '../../src/reconcile.js'
import { startReconciling } from '../../src/reconcile-timer.js'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { type HoldingProxy, startHoldingProxy } from '../support/holding-proxy.js'
import { agedSights, plantLogin as plant, someLease } from '../support/orphans.js'
import { waitFor } from '../support/wait.js'
import { type Scene, startScene } from './requirements/support.js'

/** What exists upstream, held against the ledger, on a real PostgreSQL and a real Redis. */

let cache: RedisUpstream
let proxy: HoldingProxy
let scene: Scene
beforeAll(async () => {
  cache = await startRedisUpstream()
  proxy = await startHoldingProxy({ host: cache.host, port: cache.port })
  const url = new URL(cache.url)
  url.port = String(proxy.port)
  scene = await startScene({
    providers: '  cache: {type: redis, url: env:CACHE_URL, timeout: 2s}',
    roles: '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 5m, params: {keys: ["app:*"], commands: ["+get"]}}',
    limits: '{requests_per_second: 10000, per_agent_live: 0, per_task_live: 1000}',
    env: { CACHE_URL: url.href },
  })
}, 60_000)
afterAll(async () => {
  await scene?.stop()
  await proxy?.close()
  await cache?.redis.stop()
})
afterEach(async () => {
  proxy.release()
  await scene.clear()
  for (const user of await cache.users()) await cache.redis.client.call('ACL', 'DELUSER', user)
})

const plantLogin = (lease: string, instance?: string) => plant(scene.postgres, lease, instance)
const plantUser = (lease: string) => cache.redis.client.call('ACL', 'SETUSER', `mf-test-${lease}`, 'on', '>secret', '~app:*', '+get')
const house = () => scene.test.broker.house()

async function run(ask: Record<string, unknown> = {}) {
  const { status, body } = await scene.call('POST', '/v1/reconciliations', await scene.token('oncall'), { wait: false, ...ask })
  expect(status).toBe(200)
  const of = (name: string) => body.providers.find(({ provider }: { provider: string }) => provider === name)
  return { warehouse: of('warehouse'), cache: of('cache'), signed: of('signed'), all: body.providers }
}

describe('a credential that nothing tells of', () => {
  it('is an orphan once it was seen for long enough, is told once, and is taken back when that is asked for', async () => {
    const [login, user] = [someLease('03'), someLease('60')]
    await plantLogin(login)
    await plantUser(user)
    // A first look decides nothing, whatever is asked.
    const first = await run({ revoke: true })
    expect(first.warehouse).toMatchObject({ outcome: 'done', listed: 1, known: 0, seen: [`lease_${login}`], orphans: [], orphans_total: 0 })
    expect(first.cache).toMatchObject({ seen: [`lease_${user}`], orphans: [] })
    await agedSights(scene.redis)
    for (let look = 0; look < 2; look++)
      expect((await run()).warehouse).toMatchObject({ seen: [], orphans: [{ lease: `lease_${login}`, outcome: 'found' }], orphans_total: 1 })
    expect(await scene.logins()).toEqual([`mf-test-${login}`])
    const found = await scene.told(({ type }) => type === 'orphan.found')
    expect(found).toMatchObject([
      { lease: `lease_${login}`, provider: 'warehouse' },
      { lease: `lease_${user}`, provider: 'cache' },
    ])

    const last = await run({ revoke: true })
    expect(last.warehouse.orphans).toEqual([{ lease: `lease_${login}`, outcome: 'revoked' }])
    expect(last.cache.orphans).toEqual([{ lease: `lease_${user}`, outcome: 'revoked' }])
    expect(await scene.logins()).toEqual([])
    expect(await cache.users()).toEqual([])
    const revoked = await scene.told(({ type }) => type === 'orphan.revoked')
    expect(revoked.map(({ lease, provider }) => [lease, provider]).sort()).toEqual(
      [
        [`lease_${login}`, 'warehouse'],
        [`lease_${user}`, 'cache'],
      ].sort(),
    )
    expect(await scene.leaseOf(`lease_${login}`)).toMatchObject({ state: 'revoked', cause: 'orphan', provider: 'warehouse', task: '' })
    expect(await house().metrics.registry.metrics()).toMatch(/mayfly_orphans_total\{provider="warehouse",outcome="revoked"\} 1/)
    expect((await run()).warehouse).toMatchObject({ listed: 0, orphans: [], missing: [] })
  })

  it('is found and taken back in one call that waits for the second look', async () => {
    const user = someLease()
    await plantUser(user)
    const { cache: found } = await run({ providers: ['cache'], revoke: true, wait: true })
    expect(found).toMatchObject({ seen: [], orphans: [{ lease: `lease_${user}`, outcome: 'revoked' }] })
    expect(await cache.users()).toEqual([])
  })

  it('is one too where its lease was settled, and came back afterwards', async () => {
    const { lease } = await scene.issued(await scene.openTask({ envelope: [{ role: 'warehouse-read' }] }), 'warehouse-read')
    await scene.clear()
    await waitFor('the revoke', async () => (await scene.leaseOf(lease.id)).state === 'revoked')
    await plantLogin(lease.id.slice('lease_'.length))
    // Settled a moment ago: it may have been listed on its way out.
    expect((await run({ revoke: true })).warehouse).toMatchObject({ known: 1, seen: [], orphans: [] })
    const key = `mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`
    await scene.redis.client.hincrby(key, 'st', -3_600_000)
    expect((await run({ revoke: true })).warehouse.orphans).toEqual([{ lease: lease.id, outcome: 'revoked' }])
    expect(await scene.leaseOf(lease.id)).toMatchObject({ state: 'revoked', cause: 'orphan', agent: 'triage', role: 'warehouse-read' })
    expect(await scene.logins()).toEqual([])
  })

  it('that cannot be taken back now is the ledger’s, and goes as soon as it can', async () => {
    const login = someLease()
    await plantLogin(login)
    await run()
    await agedSights(scene.redis)
    await scene.postgres.query('alter role mayfly_broker nocreaterole')
    const answering = run({ providers: ['warehouse'], revoke: true, deadline: 3 })
    expect((await answering).warehouse.orphans).toEqual([{ lease: `lease_${login}`, outcome: 'closing' }])
    expect(await scene.leaseOf(`lease_${login}`)).toMatchObject({ state: 'closing', cause: 'orphan', last_error: expect.any(String) })
    expect((await run()).warehouse).toMatchObject({ known: 1, orphans: [] })
    await scene.postgres.query('alter role mayfly_broker createrole')
    await scene.nothingUpstream()
    await waitFor('the lease', async () => (await scene.leaseOf(`lease_${login}`)).state === 'revoked')
  })
})

describe('what is not touched', () => {
  it('is what other installations, people and the broker itself made', async () => {
    const [theirs, odd] = [someLease(), someLease('99')]
    await plantLogin(theirs, 'test-eu')
    await plantLogin(odd)
    await scene.postgres.query(`create role "mf-test-check" login; create role "mf-test-" login; create role "mf-test-17${'A'.repeat(26)}" login`)
    await run({ revoke: true })
    await agedSights(scene.redis)
    // No partition 99 was ever there: a person has to look at it.
    expect((await run({ revoke: true })).warehouse).toMatchObject({ listed: 1, known: 0, orphans: [], foreign: [`lease_${odd}`] })
    const names = [`mf-test-eu-${theirs}`, `mf-test-${odd}`, 'mf-test-check', 'mf-test-', `mf-test-17${'A'.repeat(26)}`]
    expect((await scene.logins()).sort()).toEqual([...names].sort())
    for (const name of names) await scene.postgres.query(`drop role "${name}"`)
  })

  it('is what is minted meanwhile', async () => {
    const task = await scene.openTask({ envelope: [{ role: 'warehouse-read' }, { role: 'cache-read' }] })
    let done = false
    let looks = 0
    const looking = (async () => {
      for (; !done; looks++) await reconcile(house(), { revoke: true, deadlineMs: 20_000 })
    })()
    const leases: string[] = []
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let n = 0; n < 25; n++) {
          const { lease } = await scene.issued(task, n % 2 === 0 ? 'warehouse-read' : 'cache-read')
          leases.push(lease.id)
          // Half of them go again at once, so that what is listed is also on its way out.
          if (n % 4 < 2) await scene.call('DELETE', `/v1/leases/${lease.id}`, await scene.token('triage'))
        }
      }),
    ).finally(() => {
      done = true
    })
    await looking
    expect(looks).toBeGreaterThan(2)
    expect(leases).toHaveLength(200)
    expect((await scene.told(({ type }) => type === 'orphan.found')).filter(({ lease }) => leases.includes(lease))).toEqual([])
    for (const id of leases) expect(['active', undefined, 'released']).toContain((await scene.leaseOf(id)).cause ?? 'active')
  }, 60_000)
})

describe('a lease whose credential is gone', () => {
  it('is told, and stays as it is', async () => {
    const { lease } = await scene.issued(await scene.openTask({ envelope: [{ role: 'warehouse-read' }] }), 'warehouse-read')
    expect((await run()).warehouse).toMatchObject({ listed: 1, known: 1, missing: [] })
    await scene.postgres.query(`drop role "mf-test-${lease.id.slice('lease_'.length)}"`)
    const key = `mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`
    await scene.redis.client.hincrby(key, 'mu', -3_600_000)
    expect((await run({ revoke: true })).warehouse).toMatchObject({ listed: 0, missing: [lease.id], missing_total: 1 })
    expect((await scene.leaseOf(lease.id)).state).toBe('active')
  })
})

describe('a run', () => {
  it('tells of each provider, and until when what cannot be listed may work', async () => {
    const { signed, all } = await run()
    expect(all.map(({ provider }: { provider: string }) => provider).sort()).toEqual(['cache', 'signed', 'tokens', 'warehouse'])
    expect(signed).toMatchObject({ outcome: 'not-listable' })
    const left = Date.parse(signed.usable_until) - Date.now()
    // Its role's longest TTL, and what verifiers tolerate besides.
    expect(left).toBeGreaterThan(340_000)
    expect(left).toBeLessThanOrEqual(360_000)
  })

  it('goes on past an upstream that hangs', async () => {
    const [login, user] = [someLease(), someLease()]
    await plantLogin(login)
    await plantUser(user)
    await run({ providers: ['warehouse'] })
    await agedSights(scene.redis)
    proxy.holdAfter('USERS')
    const { warehouse, cache: hanging } = await run({ revoke: true })
    expect(hanging).toMatchObject({ outcome: 'failed', listed: 0, error: expect.stringContaining('did not answer') })
    expect(hanging.missing).toBeUndefined()
    expect(warehouse.orphans).toEqual([{ lease: `lease_${login}`, outcome: 'revoked' }])
  })

  it('is one at a time over all brokers', async () => {
    const other = await scene.replica()
    try {
      proxy.holdAfter('USERS')
      const slow = run()
      await proxy.held()
      await expect(reconcile(other.broker.house(), { revoke: true, deadlineMs: 5_000 })).rejects.toMatchObject({ code: 'rate_limited' })
      proxy.release()
      await slow
      await reconcile(other.broker.house(), { revoke: true, deadlineMs: 5_000 })
    } finally {
      await other.stop()
    }
  })

  it('leaves what is more than may go without an operator', async () => {
    const users = Array.from({ length: 5 }, () => someLease())
    for (const user of users) await plantUser(user)
    const ask = { providers: ['cache'], revoke: true, deadlineMs: 20_000 }
    await reconcile(house(), ask)
    await agedSights(scene.redis)
    const [held] = (await reconcile(house(), { ...ask, most: 4 })).providers
    expect(held).toMatchObject({ held: true, orphans: users.map(() => ({ outcome: 'found' })) })
    expect(await cache.users()).toHaveLength(5)
    const [done] = (await reconcile(house(), { ...ask, most: 5 })).providers
    expect(done?.orphans.map(({ outcome }) => outcome)).toEqual(users.map(() => 'revoked'))
    expect(await cache.users()).toEqual([])

    // A ledger that knows nothing of most of what is there is the wrong one, or has lost it.
    const many = Array.from({ length: 11 }, () => someLease())
    for (const user of many) await plantUser(user)
    await reconcile(house(), ask)
    await agedSights(scene.redis)
    expect((await reconcile(house(), { ...ask, most: 100 })).providers).toMatchObject([
      { held: true, orphans: many.map(() => ({ outcome: 'found' })) },
    ])
    expect(await cache.users()).toHaveLength(11)
    expect((await reconcile(house(), ask)).providers[0]?.orphans.filter(({ outcome }) => outcome === 'revoked')).toHaveLength(11)
  })

  it('is for operators whom policy lets, and of providers that are there', async () => {
    for (const who of ['triage', 'flows', 'visitor'])
      expect((await scene.call('POST', '/v1/reconciliations', await scene.token(who), {})).status).toBe(403)
    expect((await scene.call('POST', '/v1/reconciliations', await scene.token('oncall'), { providers: ['nowhere'] })).status).toBe(404)
  })

  it('comes by itself, on one replica each time, and revokes what a second one confirms', async () => {
    const user = someLease()
    await plantUser(user)
    const finished = async () => (await scene.told(({ type }) => type === 'reconciliation.finished')).length
    const before = await finished()
    const timers = [0, 1].map(() => startReconciling(house, { firstMs: 0, tickMs: 20 }))
    await waitFor('the first look', async () => (await finished()) > before)
    expect(await cache.users()).toEqual([`mf-test-${user}`])
    await agedSights(scene.redis)
    await nextTime()
    await waitFor('the second', async () => (await cache.users()).length === 0)
    await Promise.all(timers.map((timer) => timer.stop()))
    expect(await finished()).toBe(before + 2)
  })
})

async function nextTime(): Promise<void> {
  for (const key of await scene.redis.client.keys('mf:*register*')) await scene.redis.client.hdel(key, 'u:timer')
}
