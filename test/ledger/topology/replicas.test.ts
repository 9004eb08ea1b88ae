import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { infoOf, type RedisServer, startServer } from '../../support/redis-server.js'
import { waitFor } from '../../support/wait.js'
import { event, granted, newLease, openTask, reserved, stateOf, taskNow } from '../fixture.js'
import { ask, openAt } from './support.js'

let primary: RedisServer
let replica: RedisServer
let ledger: Ledger
const waited: { what: string; isReplicated: boolean }[] = []
const addressOf = ({ port }: RedisServer) => ({ url: `redis://127.0.0.1:${port}` })
beforeAll(async () => {
  primary = await startServer([])
  replica = await startServer([`replicaof 127.0.0.1 ${primary.port}`])
  await waitFor('the replica to follow', async () => (await infoOf(replica, 'replication', 'master_link_status')) === 'up')
  ledger = await openAt(addressOf(primary), {
    wait: { replicas: 1, timeoutMs: 300 },
    onWaited: (what, isReplicated) => waited.push({ what, isReplicated }),
  })
  // A replica that has just come may take its time to answer for the first time.
  const { id } = await openTask(ledger)
  await waitFor('the replica to be heard', async () => 'lease' in (await ask(ledger, id)))
}, 30_000)
afterAll(async () => {
  await Promise.all([primary?.stop(), replica?.stop()])
})

const calls = async (command: string) => Number(/calls=(\d+)/.exec((await infoOf(primary, 'commandstats', `cmdstat_${command}`)) ?? '')?.[1] ?? 0)

/** While the replica hears nothing. */
async function withoutReplica(work: () => Promise<void>): Promise<void> {
  process.kill(replica.pid(), 'SIGSTOP')
  try {
    await work()
  } finally {
    process.kill(replica.pid(), 'SIGCONT')
  }
}

describe('a ledger that waits for replicas', () => {
  it('hands out nothing that no replica has', async () => {
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    expect(await replica.client.exists(`mf:{p${lease.id.slice(6, 8)}}:lease:${lease.id}`)).toBe(1)
    const pending = await reserved(ledger, task.id)
    await withoutReplica(async () => {
      const refused = { code: 'ledger_unavailable', details: { retryAfterSeconds: 1 } }
      const now = await taskNow(ledger, task.id)
      await expect(ledger.grant(newLease(ledger, now), event())).rejects.toMatchObject(refused)
      await expect(ledger.reserve(newLease(ledger, now), event())).rejects.toMatchObject(refused)
      await expect(ledger.activate(pending, { handle: pending.handle, expiresAt: ledger.now() + 60_000 }, event())).rejects.toMatchObject(refused)
    })
    await waitFor('the replica to be heard', async () => 'lease' in (await ask(ledger, task.id)))
  })

  it('ends and freezes without waiting, and says when the replicas do not have it', async () => {
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    await withoutReplica(async () => {
      const ended = await ledger.endTask(task.id, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
      expect(ended).toMatchObject({ ok: true, closing: 1, claims: [{ lease: { id: lease.id } }] })
      expect(ended.ok && (await ended.replicated)).toBe(false)
      expect(await stateOf(ledger, lease.id)).toBe('closing')
      const frozen = await ledger.freeze({ selector: { agent: ['other'] }, reason: 'rogue', by: 'sso/ada' }, event('freeze.set'))
      expect(await frozen.replicated).toBe(false)
      expect((await ledger.freezes()).map(({ id }) => id)).toEqual([frozen.freeze.id])
      await ledger.thaw(frozen.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
    })
    const again = await ledger.endTask(task.id, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
    expect(again.ok && (await again.replicated)).toBe(true)
    expect(waited).toEqual(expect.arrayContaining(['ended', 'frozen'].map((what) => ({ what, isReplicated: false }))))
  })

  it('shares one WAIT between many requests', async () => {
    const tasks = await Promise.all(Array.from({ length: 60 }, () => openTask(ledger)))
    const before = await calls('wait')
    await Promise.all(tasks.map((task) => granted(ledger, task.id)))
    const made = (await calls('wait')) - before
    expect(made).toBeGreaterThan(0)
    expect(made).toBeLessThan(tasks.length / 2)
  })

  it('freezes with a full memory too, and the replicas have it', async () => {
    await primary.client.config('SET', 'maxmemory', '1')
    try {
      const frozen = await ledger.freeze({ selector: { agent: ['other'] }, reason: 'rogue', by: 'sso/ada' }, event('freeze.set'))
      expect(await frozen.replicated).toBe(true)
      await ledger.thaw(frozen.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
    } finally {
      await primary.client.config('SET', 'maxmemory', '0')
    }
  })
})

describe('a ledger that does not', () => {
  beforeAll(() => ledger.disconnect())

  it('sends nothing for it, and says that replicas are there', async () => {
    const before = await calls('wait')
    const other = await openAt(addressOf(primary), { createMeta: false })
    const task = await openTask(other)
    await granted(other, task.id)
    const ended = await other.endTask(task.id, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
    expect(ended.ok && ended.replicated).toBeUndefined()
    expect(await calls('wait')).toBe(before)
    expect((await other.status()).problems.join('\n')).toContain('nothing waits for the replicas')
    await other.disconnect()
  })

  it('is not opened on a replica, which it is told', async () => {
    await expect(openAt(addressOf(replica), { createMeta: false })).rejects.toMatchObject({
      code: 'ledger_unavailable',
      message: expect.stringContaining('is a replica, which takes no writes'),
    })
  })
})
