import { afterEach, describe, expect, it } from '@jest/globals'
import { initLedger, openLedger, preflight } from '../../src/ledger/index.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'
import { event, type Fixture, granted, makeDue, newLease, newTask, openTask, PLENTY, reserved, startLedger, stateOf, taskNow } from './fixture.js'

let fixture: Fixture | undefined
let bare: TestRedis | undefined
afterEach(async () => {
  await fixture?.stop()
  await bare?.stop()
  fixture = bare = undefined
})

describe('opening a ledger', () => {
  const options = {
    instance: 'test',
    partitions: 4,
    durability: 'strict',
    settledRetentionSeconds: 60,
    outboxLimit: 100,
    createMeta: false,
    visibilityMs: 1_000,
    skewMarginMs: 0,
    taskCacheSize: 10,
  } as const

  it('never takes an empty Redis for a first start', async () => {
    bare = await startRedis()
    const redis = { socketPath: bare.socketPath }
    await expect(openLedger({ ...options, redis })).rejects.toMatchObject({
      code: 'ledger_unavailable',
      message: expect.stringContaining('mf:meta is missing'),
      details: { next: expect.stringContaining('mayfly ledger init') },
    })
    expect(await initLedger({ ...options, redis })).toBe(true)
    expect(await initLedger({ ...options, redis })).toBe(false)
    const ledger = await openLedger({ ...options, redis: { url: `unix://${bare.socketPath}` } })
    expect((await ledger.status()).reachable).toBe(true)
    await ledger.disconnect()
  })

  it("refuses another installation's ledger, and another number of partitions", async () => {
    bare = await startRedis()
    const redis = { socketPath: bare.socketPath }
    await initLedger({ ...options, redis })
    await expect(openLedger({ ...options, redis, instance: 'other' })).rejects.toThrow('instance "test"')
    await expect(openLedger({ ...options, redis, partitions: 8 })).rejects.toThrow('4 partitions')
    await expect(initLedger({ ...options, redis, instance: 'other' })).rejects.toThrow('instance "test"')
    await expect(initLedger({ ...options, redis, partitions: 101 })).rejects.toThrow('1 to 100')
    await bare.client.hset('mf:meta', { schema: 99 })
    await expect(openLedger({ ...options, redis })).rejects.toThrow('schema 99')
  })

  it('says at once when there is no Redis', async () => {
    await expect(openLedger({ ...options, redis: { socketPath: '/nonexistent/redis.sock' } })).rejects.toMatchObject({ code: 'ledger_unavailable' })
  })

  it('names each thing that Redis is not, and how to mend it', async () => {
    bare = await startRedis(['maxmemory-policy allkeys-lru', 'hash-max-listpack-value 64'])
    const problems = await preflight(bare.client, { durability: 'strict' })
    expect(problems.map(({ problem }) => problem)).toEqual(['maxmemory-policy is allkeys-lru', 'appendonly is no', 'hash-max-listpack-value is 64'])
    await bare.client.config('SET', 'appendonly', 'yes')
    await bare.client.config('SET', 'maxmemory-policy', 'noeviction')
    await bare.client.config('SET', 'hash-max-listpack-value', '2048')
    expect(await preflight(bare.client, { durability: 'strict' })).toMatchObject([{ problem: 'appendfsync is everysec' }])
    expect(await preflight(bare.client, { durability: 'everysec' })).toEqual([])
  })
})

describe('when Redis has trouble', () => {
  it('says so at once, and works again by itself once Redis does: restarted, scripts forgotten', async () => {
    fixture = await startLedger({}, ['appendonly yes', 'appendfsync always'])
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    let hints = 0
    ledger.onDue(() => hints++)
    await redis.kill()
    const started = performance.now()
    await expect(ledger.grant(newLease(ledger, task), event())).rejects.toMatchObject({
      code: 'ledger_unavailable',
      details: { retryAfterSeconds: 1 },
    })
    await expect(ledger.task(task.id, { fresh: true })).rejects.toMatchObject({ code: 'ledger_unavailable' })
    expect(performance.now() - started).toBeLessThan(4_000)
    expect(await ledger.status()).toMatchObject({ reachable: false })
    await redis.restart()
    await waitFor('the ledger to answer', async () => (await ledger.status()).reachable)
    expect(await stateOf(ledger, lease.id)).toBe('active')
    await granted(ledger, task.id)
    expect(await waitFor('a look at what became due', () => hints > 0)).toBe(true)
  })

  it('that came back without its data issues nothing, until it is a ledger again', async () => {
    fixture = await startLedger()
    const { ledger, redis } = fixture
    await redis.restart()
    const opened = () => ledger.openTask(newTask(ledger), event('task.opened')).catch((error: unknown) => error)
    const refused = { code: 'ledger_unavailable', message: expect.stringContaining('mf:meta is missing') }
    await waitFor('the connection', async () => (await ledger.status()).reachable)
    expect(await opened()).toMatchObject(refused)
    expect(await opened()).toMatchObject(refused)
    await initLedger({ instance: 'test', partitions: 4, redis: { socketPath: redis.socketPath } })
    expect(await waitFor('the ledger', async () => ('ok' in Object(await opened()) ? 'used' : undefined))).toBe('used')
  })

  it('times out when Redis hangs, instead of waiting with it', async () => {
    fixture = await startLedger()
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    process.kill(redis.pid(), 'SIGSTOP')
    try {
      await expect(ledger.task(task.id, { fresh: true })).rejects.toMatchObject({ code: 'ledger_unavailable' })
    } finally {
      process.kill(redis.pid(), 'SIGCONT')
    }
    await waitFor('the ledger to answer', async () => (await ledger.status()).reachable)
  })

  it('that is read-only, it says so, and looks for the primary on another connection', async () => {
    fixture = await startLedger()
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const connections = async () => [...String(await redis.client.client('LIST')).matchAll(/^id=(\d+)/gm)].map(([, id]) => id)
    const before = await connections()
    await redis.client.replicaof('127.0.0.1', '1')
    await expect(ledger.grant(newLease(ledger, task), event())).rejects.toMatchObject({ code: 'ledger_unavailable' })
    await redis.client.replicaof('NO', 'ONE')
    await waitFor('another connection', async () => (await connections()).some((id) => !before.includes(id)))
    await waitFor('the ledger to issue', async () => (await ledger.grant(newLease(ledger, task), event()).catch(() => ({ ok: false }))).ok)
  })
})

describe('a Redis that is full', () => {
  it('stops what issues, and nothing that narrows', async () => {
    fixture = await startLedger()
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const other = await openTask(ledger)
    const [a, b, c] = [await granted(ledger, task.id), await granted(ledger, other.id), await granted(ledger, other.id)]
    const pending = await reserved(ledger, task.id)
    const now = await taskNow(ledger, task.id)
    await redis.client.config('SET', 'maxmemory', '1')
    await expect(redis.client.set('x', 'y')).rejects.toMatchObject({ message: expect.stringContaining('OOM') })

    const unavailable = { code: 'ledger_unavailable' }
    await expect(ledger.reserve(newLease(ledger, now), event())).rejects.toMatchObject(unavailable)
    await expect(ledger.grant(newLease(ledger, now), event())).rejects.toMatchObject(unavailable)
    await expect(ledger.openTask(newTask(ledger), event())).rejects.toMatchObject(unavailable)
    expect((await taskNow(ledger, task.id)).counts.read).toBe(2)

    expect(await ledger.freeze({ selector: { all: true }, reason: 'r', by: 'op' }, event('freeze.set'))).toMatchObject({ holding: 4, unreachable: 0 })
    expect(await ledger.activate(pending, { handle: {}, expiresAt: ledger.now() + 1_000 }, event())).toMatchObject({
      state: 'closing',
      cause: 'frozen',
    })
    expect(await ledger.close(a.id, 'released', event('lease.closing'))).toMatchObject({ ok: true, lease: { state: 'closing' } })
    expect(await ledger.settle({ lease: a.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))).toMatchObject({ state: 'revoked' })
    await redis.client.config('SET', 'maxmemory', '0')
    await makeDue(redis, 'due:warehouse', pending.id)
    await redis.client.config('SET', 'maxmemory', '1')
    expect((await ledger.claim(PLENTY)).claims).toMatchObject([{ lease: { id: pending.id } }])
    const { id } = await ledger.openRevocation({ selector: { all: true }, reason: 'r', by: 'op' }, event('revocation.started'))
    for (let done = false; !done; ) done = (await ledger.advanceRevocation(id)).done
    expect([await stateOf(ledger, b.id), await stateOf(ledger, c.id)]).toEqual(['closing', 'closing'])
    expect(await ledger.endTask(other.id, { state: 'failed', cause: 'task_failed' }, event('task.ended'))).toMatchObject({ ok: true, first: true })
    expect(await ledger.revocation(id)).toMatchObject({ matched: 3 })
    expect(await ledger.outbox.hold('reader', 1_000)).toHaveLength(4)
  })
})
