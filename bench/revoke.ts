import { setPriority } from 'node:os'
import { startRedisUpstream } from '../test/providers/redis-upstream.js'
import { startPostgres, type TestPostgres } from '../test/support/postgres.js'
import { type Fleet, startFleet } from './fleet.js'
import { bareLoop, CONCURRENCY } from './revoke/bare-loop.js'
import { capacity, issue, neighbours, stopUnderLoad } from './revoke/emergency.js'
import { allRevoked, stop } from './revoke/stop.js'
import { measureTaskEnds } from './revoke/task-ends.js'
import { MEASURING, pinSelf, round } from './support.js'

/** Redis shares a core with PostgreSQL and the load here; a ledger has one of its own, and does not wait for eight sessions of a database. */
const REDIS_PRIORITY = -10
type Say = (line: string) => void

/** Taking back: what ends with its task, and the stop of a whole provider, in PostgreSQL and in a cheap upstream, with and without other work. */
export async function run({ quick, say }: { quick: boolean; say: Say }): Promise<object> {
  pinSelf(MEASURING)
  const postgres = await startPostgres({ settings: ['log_statement=none', 'log_connections=off'] })
  const task_ends = await measureTaskEnds({ quick, say, postgres })
  const sql = await stopPostgres(quick ? 500 : 10_000, { quick, say, postgres })
  await postgres.stop()
  const test_upstream = await stopUpstream(quick ? 5_000 : 100_000, { quick, say })
  const most = (of: 'under_load' | 'while_closing') => Math.max(...[sql, test_upstream].map(({ freeze_ms }) => freeze_ms[of].most))
  const freeze_ms = { under_load: most('under_load'), while_closing: most('while_closing') }
  return { freeze_ms, ratio: sql.ratio, redis_priority: REDIS_PRIORITY, postgres: sql, test_upstream, task_ends }
}

/** Beside a bare loop of the same statements, once with nothing else to do, and once while others issue. */
async function stopPostgres(leases: number, { quick, say, postgres }: { quick: boolean; say: Say; postgres: TestPostgres }) {
  const url = await postgres.createBroker(['reporting_ro'], { name: 'mayfly_emergency' })
  say(`PostgreSQL: a bare loop over ${leases} roles`)
  const bare_seconds = await bareLoop(url, leases)
  const left = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-bench-%'"))[0]?.n)
  const fresh = () => startFleet({ roles: ['warehouse-read', 'role-0'], postgresUrl: url, ttlSeconds: 900 })

  const quiet = await withFleet(await fresh(), async (fleet) => {
    say(`issuing ${leases} leases`)
    await issue(fleet, 'warehouse-read', leases)
    return allRevoked(fleet, await stop(fleet, { provider: ['warehouse'] }), leases)
  })
  say(`bare ${round(bare_seconds)} s, stopped in ${quiet} s`)
  const loaded = await withFleet(await fresh(), async (fleet) => {
    const ask = await neighbours(fleet)
    const most = await capacity(fleet, ask, quick ? 2_000 : 8_000)
    await issue(fleet, 'warehouse-read', leases)
    say(`once more, beside ${round(most * 0.7, 0)} requests a second`)
    return stopUnderLoad(fleet, { provider: 'warehouse', leases, most, ask, others: quick ? 10 : 30, left })
  })
  return { ...loaded, quiet_seconds: quiet, bare_seconds: round(bare_seconds), ratio: round(bare_seconds / quiet, 3), concurrency: CONCURRENCY }
}

/** ACL users of a Redis server: each revoke is a real one, and cheap. */
async function stopUpstream(leases: number, { quick, say }: { quick: boolean; say: Say }) {
  const upstream = await startRedisUpstream()
  const fleet = await startFleet({ roles: ['role-0'], ttlSeconds: 900, redisUpstreams: { works: upstream.url } })
  const measured = await withFleet(fleet, async () => {
    const ask = await neighbours(fleet)
    const most = await capacity(fleet, ask, quick ? 2_000 : 8_000)
    say(`test upstream: issuing ${leases} leases`)
    await issue(fleet, 'works-read', leases)
    say(`stopping them, beside ${round(most * 0.7, 0)} requests a second`)
    const left = async () => (await upstream.users()).length
    return stopUnderLoad(fleet, { provider: 'works', leases, most, ask, others: quick ? 10 : 30, left })
  })
  await upstream.redis.stop()
  return { upstream: 'redis acl users', ...measured, concurrency: CONCURRENCY }
}

async function withFleet<T>(fleet: Fleet, work: (fleet: Fleet) => Promise<T>): Promise<T> {
  setPriority(fleet.redisPid, REDIS_PRIORITY)
  try {
    return await work(fleet)
  } finally {
    await fleet.stop()
  }
}
