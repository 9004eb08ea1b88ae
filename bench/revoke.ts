import { setPriority } from 'node:os'
import { startRedisUpstream } from '../test/providers/redis-upstream.js'
import { startPostgres, type TestPostgres } from '../test/support/postgres.js'
import { type Fleet, startFleet } from './fleet.js'
import { OPERATOR_PRIORITY } from './probing.js'
import { bareLoop, CONCURRENCY } from './revoke/bare-loop.js'
import { capacity, issue, LOAD_PRIORITY, neighbours, stopUnderLoad } from './revoke/emergency.js'
import { allRevoked, stop } from './revoke/stop.js'
import { measureTaskEnds } from './revoke/task-ends.js'
import { beforeOtherSessions, MEASURING, pinSelf, round } from './support.js'

/**
 * Users that Mayfly has at the server, a provider each. Of each statement about a role, PostgreSQL 16 and later looks through all that its user administers,
 * which is every login that this user has made: a bare loop over 10,000 of one was not through after ten minutes.
 */
const DATABASES = 8
/** Redis shares a core with PostgreSQL and the load here; a ledger has one of its own. */
const REDIS_PRIORITY = -10
type Say = (line: string) => void

/** Taking back: what ends with its task, and the stop of a whole provider, in PostgreSQL and in a cheap upstream, with and without other work. */
export function run(options: { quick: boolean; say: Say }): Promise<object> {
  pinSelf(MEASURING)
  return beforeOtherSessions(() => measure(options))
}

async function measure({ quick, say }: { quick: boolean; say: Say }): Promise<object> {
  const postgres = await startPostgres({ settings: ['log_statement=none', 'log_connections=off'] })
  const task_ends = await measureTaskEnds({ quick, say, postgres })
  const sql = await stopPostgres(quick ? 800 : 10_000, { quick, say, postgres })
  await postgres.stop()
  const test_upstream = await stopUpstream(quick ? 5_000 : 100_000, { quick, say })
  const most = (of: 'under_load' | 'while_closing') => Math.max(...[sql, test_upstream].map(({ freeze_ms }) => freeze_ms[of].most))
  const of_the_stop = Math.max(...[sql, test_upstream].map((one) => one.freeze_ms.of_the_stop))
  const freeze_ms = { under_load: Math.max(most('under_load'), of_the_stop), while_closing: most('while_closing') }
  return {
    freeze_ms,
    ratio: sql.ratio,
    priorities: { redis: REDIS_PRIORITY, load: LOAD_PRIORITY, operator: OPERATOR_PRIORITY },
    postgres: sql,
    test_upstream,
    task_ends,
  }
}

/** Beside a bare loop of the same statements, once with nothing else to do, and once while others issue. */
async function stopPostgres(leases: number, { quick, say, postgres }: { quick: boolean; say: Say; postgres: TestPostgres }) {
  const names = Array.from({ length: DATABASES }, (_, n) => `warehouse${n}`)
  const urls: string[] = []
  for (const name of names) urls.push(await postgres.createBroker(['reporting_ro'], { name }))
  const postgresUpstreams = Object.fromEntries(names.map((name, n) => [name, urls[n] ?? '']))
  const roles = names.map((name) => `${name}-read`)
  say(`PostgreSQL: a bare loop over ${leases} roles`)
  const bare_seconds = await bareLoop(urls, leases)
  const left = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-bench-%'"))[0]?.n)
  const fresh = () => startFleet({ roles: ['role-0'], postgresUpstreams, ttlSeconds: 900 })

  const quiet = await withFleet(await fresh(), async (fleet) => {
    say(`issuing ${leases} leases`)
    await issue(fleet, roles, leases)
    return allRevoked(fleet, await stop(fleet, { provider: names }), leases)
  })
  say(`bare ${round(bare_seconds)} s, stopped in ${quiet} s`)
  const loaded = await withFleet(await fresh(), async (fleet) => {
    const ask = await neighbours(fleet)
    const most = await capacity(fleet, ask, quick ? 2_000 : 8_000)
    await issue(fleet, roles, leases)
    say(`once more, beside ${round(most * 0.7, 0)} requests a second`)
    return stopUnderLoad(fleet, { providers: names, leases, most, ask, others: quick ? 10 : 30, left })
  })
  return {
    ...loaded,
    quiet_seconds: quiet,
    bare_seconds: round(bare_seconds),
    ratio: round(bare_seconds / quiet, 3),
    concurrency: CONCURRENCY,
    users: DATABASES,
  }
}

/** ACL users of a Redis server: each revoke is a real one, and cheap. */
async function stopUpstream(leases: number, { quick, say }: { quick: boolean; say: Say }) {
  const upstream = await startRedisUpstream()
  const fleet = await startFleet({ roles: ['role-0'], ttlSeconds: 900, redisUpstreams: { works: upstream.url } })
  const measured = await withFleet(fleet, async () => {
    const ask = await neighbours(fleet)
    const most = await capacity(fleet, ask, quick ? 2_000 : 8_000)
    say(`test upstream: issuing ${leases} leases`)
    await issue(fleet, ['works-read'], leases)
    say(`stopping them, beside ${round(most * 0.7, 0)} requests a second`)
    const left = async () => (await upstream.users()).length
    return stopUnderLoad(fleet, { providers: ['works'], leases, most, ask, others: quick ? 10 : 30, left })
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
