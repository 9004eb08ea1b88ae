import { startRedisUpstream } from '../test/providers/redis-upstream.js'
import { waitFor } from '../test/support/wait.js'
import { startDoor } from './bulkhead/door.js'
import { beside, CONCURRENCY, measure, NEIGHBOURS, type Run } from './bulkhead/run.js'
import { startFleet } from './fleet.js'
import { MEASURING, median, pinSelf, round } from './support.js'

/** The promise: what an upstream that is down may cost the others. */
const MOST = { p50: 1.2, p99: 1.5 } as const
const FIELDS = ['p50_ms', 'p99_ms'] as const

/**
 * What one upstream that is down costs the others. The same broker, the same traffic to two Redis upstreams; of each three runs, the neighbour's server
 * works in one, is stopped in one (SIGSTOP), so that its mints and revokes hang until they time out, and refuses connections in one. Ratios to
 * the run beside it, and the medians of five.
 */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const rounds = quick ? 1 : 5
  const leases = quick ? 300 : 1_500
  pinSelf(MEASURING)
  const [works, neighbour] = await Promise.all([startRedisUpstream(), startRedisUpstream()])
  const door = await startDoor(neighbour.url)
  const fleet = await startFleet({ roles: [], redisUpstreams: { works: works.url, neighbour: door.url } })
  const runs = { undisturbed: [] as Run[], hanging: [] as Run[], refusing: [] as Run[] }
  const down = {
    undisturbed: { begin: async () => undefined, end: async () => undefined },
    hanging: { begin: async () => process.kill(neighbour.redis.pid(), 'SIGSTOP'), end: async () => process.kill(neighbour.redis.pid(), 'SIGCONT') },
    refusing: { begin: () => door.shut(), end: () => door.open() },
  } as const
  try {
    await measure(fleet, 200)
    for (let n = 1; n <= rounds; n++) {
      const order = ['undisturbed', 'hanging', 'refusing'] as const
      for (const which of n % 2 === 0 ? order.toReversed() : order) {
        await down[which].begin()
        try {
          runs[which].push(await beside(fleet, () => measure(fleet, leases)))
        } finally {
          await down[which].end()
        }
        // The circuit closes again, and what was left of the neighbour's is taken back, before the next.
        await waitFor('the neighbour to be rid of its users', async () => (await neighbour.users()).length === 0, 180_000)
        const last = runs[which].at(-1)
        say(
          `round ${n}, ${which}: issue p50 ${last?.issue.p50_ms} ms, revoke ${last?.revoke.p50_ms} ms, emergency ${round(last?.emergency.p50_ms ?? 0)} ms`,
        )
      }
    }
  } finally {
    await fleet.stop()
    await Promise.all([works, neighbour].map(({ redis }) => redis.stop()))
  }
  const of = (what: keyof Run) =>
    Object.fromEntries(
      FIELDS.map((field) => {
        const middle = (some: readonly Run[]) => round(median(some.map((one) => one[what][field])))
        const against = (some: readonly Run[]) => {
          const ratios = some.map((one, n) => one[what][field] / (runs.undisturbed[n]?.[what][field] ?? Number.NaN))
          return { ms: middle(some), ratio: round(median(ratios), 3) }
        }
        return [field, { undisturbed: middle(runs.undisturbed), hanging: against(runs.hanging), refusing: against(runs.refusing) }] as const
      }),
    )
  const result = { issue: of('issue'), revoke: of('revoke'), emergency: of('emergency') }
  const kept = Object.values(result).every(({ p50_ms, p99_ms }) =>
    (['hanging', 'refusing'] as const).every((how) => (p50_ms?.[how].ratio ?? 9) <= MOST.p50 && (p99_ms?.[how].ratio ?? 9) <= MOST.p99),
  )
  return { ...result, most: MOST, kept, leases, concurrency: CONCURRENCY, neighbours: NEIGHBOURS, rounds }
}
