import { Redis } from 'ioredis'
import { waitFor } from '../test/support/wait.js'
import { type Fleet, startFleet } from './fleet.js'
import { load, type Request } from './load.js'
import { commandsOfAStart } from './scale/startup.js'
import { MEASURING, pinSelf, round } from './support.js'

const AGENTS = 1_000
const CONCURRENCY = 32
const ROLES = ['role-0', 'role-long']

/** Many live leases: what they weigh, what a start-up costs, how fast they expire, and what issuing feels of it. */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const leases = quick ? 20_000 : 200_000
  const tasks = leases / 50
  pinSelf(MEASURING)
  const fleet = await startFleet({ roles: ROLES, ttlSeconds: 3_600 })
  const redis = new Redis(fleet.redisSocket)
  const startupEmpty = await commandsOfAStart(fleet)

  say('opening tasks')
  const ids = await fleet.openTasks(tasks, (n) => ({ agents: [`agent-${n % AGENTS}`], roles: [...ROLES] }))
  const tokens = await Promise.all(Array.from({ length: AGENTS }, (_, n) => fleet.token(`agent-${n}`)))
  const requests = (count: number, ttl: number): Request[] =>
    Array.from({ length: count }, (_, n) => ({
      token: tokens[(n % tasks) % AGENTS] ?? '',
      body: JSON.stringify({ task: ids[n % tasks], role: 'role-0', ttl }),
    }))
  await drained(redis)
  const before = await usedMemory(redis)
  say(`issuing ${leases} leases`)
  const calm = await load(fleet.port, '/v1/leases', requests(leases, 3_000), CONCURRENCY)
  await drained(redis)
  const bytes = (await usedMemory(redis)) - before
  const startupFull = await commandsOfAStart(fleet)

  // A burst that comes due together, while issuing goes on: what expires is claimed in pages and never stops the way in.
  const undisturbed = await load(fleet.port, '/v1/leases', requests(10_000, 3_000), CONCURRENCY)
  const burst = leases / 10
  say(`${burst} leases that expire together`)
  await load(fleet.port, '/v1/leases', requests(burst, 8), CONCURRENCY)
  const expiredBefore = await expired(fleet)
  await waitFor('the first to expire', async () => (await expired(fleet)) > expiredBefore, 60_000)
  const first = { at: performance.now(), count: await expired(fleet) }
  const sweeping = await load(fleet.port, '/v1/leases', requests(10_000, 3_000), CONCURRENCY)
  const done = await waitFor(
    'all of them to expire',
    async () => {
      const count = await expired(fleet)
      return count - expiredBefore >= burst ? count : undefined
    },
    120_000,
  )
  const seconds = (performance.now() - first.at) / 1000
  redis.disconnect()
  await fleet.stop()
  return {
    leases,
    bytes_per_lease: round(bytes / leases, 0),
    startup_commands: { empty: startupEmpty, full: startupFull },
    expired: done - expiredBefore,
    expiries_per_second: round((done - first.count) / seconds, 0),
    issue_p99_ms: { undisturbed: undisturbed.p99_ms, sweeping: sweeping.p99_ms, ratio: round(sweeping.p99_ms / undisturbed.p99_ms) },
    issue_rps: calm.rps,
  }
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1])
}

/** Waits until the audit sink has taken what is in the outbox, so that events are not counted as leases. */
async function drained(redis: Redis): Promise<void> {
  for (;;) {
    let left = 0
    const [, keys] = await redis.scan('0', 'MATCH', 'mf:*:events', 'COUNT', 10_000_000)
    for (const key of keys) left += await redis.xlen(key)
    if (left === 0) return
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

async function expired(fleet: Fleet): Promise<number> {
  const metrics = await fleet.metrics()
  return [...metrics.matchAll(/^mayfly_leases_settled_total\{[^}]*outcome="expired"[^}]*\} (\d+)/gm)].reduce(
    (sum, match) => sum + Number(match[1]),
    0,
  )
}
