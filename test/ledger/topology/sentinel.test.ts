import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { type RedisSentinel, startSentinel } from '../../support/redis-sentinel.js'
import { infoOf } from '../../support/redis-server.js'
import { waitFor } from '../../support/wait.js'
import { event } from '../fixture.js'
import { ask, lostOf, openAt, startLoad, taskIn } from './support.js'

let sentinel: RedisSentinel
let ledger: Ledger
beforeAll(async () => {
  sentinel = await startSentinel()
  ledger = await openAt({ sentinel: sentinel.address }, { wait: { replicas: 1, timeoutMs: 500 } })
}, 60_000)
afterAll(async () => {
  await ledger?.disconnect()
  await sentinel?.stop()
})

const issues = async (tasks: readonly string[]) => (await Promise.all(tasks.map((task) => ask(ledger, task)))).every((one) => 'lease' in one)
const isFollowed = () =>
  waitFor(
    'the other one to follow',
    async () => {
      const [replica] = await sentinel.replicas()
      return replica && (await infoOf(replica, 'replication', 'master_link_status').catch(() => '')) === 'up'
    },
    20_000,
  )

describe('a failover under load, where replicas are waited for', () => {
  it('loses nothing that was handed out, ended or frozen; 503 meanwhile, then issuing again by itself', async () => {
    const tasks = await Promise.all([0, 1, 2, 3, 4, 5].map((partition) => taskIn(ledger, partition)))
    const over = await taskIn(ledger, 6)
    const load = startLoad(ledger, tasks)
    await waitFor('some leases', () => load.granted.length > 100)
    const ended = await ledger.endTask(over, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
    expect(ended.ok && (await ended.replicated)).toBe(true)
    const frozen = await ledger.freeze({ selector: { agent: ['other'] }, reason: 'rogue', by: 'sso/ada' }, event('freeze.set'))
    expect(await frozen.replicated).toBe(true)

    const first = await sentinel.primary()
    await first.kill()
    await waitFor('the outage to be noticed', () => load.refused.length > 0)
    await waitFor('another primary', async () => (await sentinel.primary()) !== first, 20_000)
    // It waits for a replica too: the one before, as soon as it is back.
    await first.restart()
    await waitFor('issuing', () => issues(tasks), 20_000)
    await load.stop()

    expect(new Set(load.refused)).toEqual(new Set(['ledger_unavailable']))
    expect(await lostOf(ledger, load.granted)).toEqual([])
    expect(await ask(ledger, over)).toEqual({ refused: 'ended' })
    expect((await ledger.freezes()).map(({ id }) => id)).toEqual([frozen.freeze.id])
    await isFollowed()
  }, 60_000)

  it('from a primary that hangs for three seconds and comes back as a replica: what it is told is refused, and nothing is lost', async () => {
    const tasks = await Promise.all([0, 1, 2].map((partition) => taskIn(ledger, partition)))
    const load = startLoad(ledger, tasks)
    await waitFor('some leases', () => load.granted.length > 50)
    const first = await sentinel.primary()
    process.kill(first.pid(), 'SIGSTOP')
    try {
      await waitFor('another primary', async () => (await sentinel.primary()) !== first, 20_000)
    } finally {
      process.kill(first.pid(), 'SIGCONT')
    }
    await waitFor('issuing', () => issues(tasks), 20_000)
    await load.stop()
    expect(new Set(load.refused)).toEqual(new Set(['ledger_unavailable']))
    await isFollowed()
    expect(await lostOf(ledger, load.granted)).toEqual([])
  }, 60_000)
})
