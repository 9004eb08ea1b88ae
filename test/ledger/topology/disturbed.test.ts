import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { infoOf, type RedisServer, startServer } from '../../support/redis-server.js'
import { waitFor } from '../../support/wait.js'
import { event } from '../fixture.js'
import { lostOf, openAt, startLoad, taskIn } from './support.js'

/** One Redis to which things happen while it works. */

let redis: RedisServer
let ledger: Ledger
let tasks: string[]
beforeAll(async () => {
  redis = await startServer(['enable-debug-command yes'])
  ledger = await openAt({ url: `redis://127.0.0.1:${redis.port}` })
  tasks = await Promise.all([0, 1, 2, 3, 4, 5].map((partition) => taskIn(ledger, partition)))
}, 30_000)
afterAll(async () => {
  await ledger?.disconnect()
  await redis?.stop()
})

/** What was refused meanwhile; everything that was granted is there afterwards. */
async function underLoad(disturb: () => Promise<void>): Promise<string[]> {
  const load = startLoad(ledger, tasks)
  await waitFor('some leases', () => load.granted.length > 30)
  await disturb()
  const before = load.granted.length
  await waitFor('more leases', () => load.granted.length > before + 30)
  await load.stop()
  expect(await lostOf(ledger, load.granted)).toEqual([])
  return load.refused
}

describe('under load', () => {
  it('scripts are forgotten, and nobody notices', async () => {
    expect(await underLoad(async () => void (await Promise.all([1, 2, 3, 4, 5].map(() => redis.client.script('FLUSH')))))).toEqual([])
  })

  it('the append-only file is rewritten, and nobody notices', async () => {
    const rewrites = async () => Number(await infoOf(redis, 'persistence', 'aof_rewrites'))
    const before = await rewrites()
    const refused = await underLoad(async () => {
      await redis.client.bgrewriteaof()
      await waitFor('the rewrite', async () => (await rewrites()) > before && (await infoOf(redis, 'persistence', 'aof_rewrite_in_progress')) === '0')
    })
    expect(refused).toEqual([])
  })

  it('Redis stands still for three seconds, as with a slow disk: 503 meanwhile, ends too, and afterwards everything again', async () => {
    const ended: unknown[] = []
    const refused = await underLoad(async () => {
      const still = redis.client.call('DEBUG', 'SLEEP', '3')
      const end = ledger.endTask(tasks[0] ?? '', { state: 'completed', cause: 'task_completed' }, event('task.ended'))
      ended.push(await end.catch((error: { code: string }) => error.code))
      await still
      tasks = [await taskIn(ledger, 6), ...tasks.slice(1)]
    })
    expect(ended).toEqual(['ledger_unavailable'])
    // The first task may have ended all the same: its answer was lost, not what was asked.
    expect(new Set(refused.filter((code) => code !== 'ended'))).toEqual(new Set(['ledger_unavailable']))
  }, 20_000)
})
