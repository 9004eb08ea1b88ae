import { startRedisUpstream } from '../test/providers/redis-upstream.js'
import { waitFor } from '../test/support/wait.js'
import { type Fleet, startFleet } from './fleet.js'
import { type Load, load } from './load.js'
import { MEASURING, median, pinSelf, round } from './support.js'

const CONCURRENCY = 4
const NEIGHBOURS = 16
/** Each neighbour asks this often, hanging or not: what differs between two runs is the upstream alone. */
const PACE_MS = 250
/** The promise: what a hanging upstream may cost the others. */
const MOST = { p50: 1.2, p99: 1.5 } as const

interface Run {
  readonly issue: Load
  readonly revoke: Load
}

/**
 * What one hanging upstream costs the others. The same broker, the same traffic to two Redis upstreams; in every second run the neighbour's
 * server is stopped (SIGSTOP), so that its mints and revokes hang until they time out. Ratios of each pair, and the medians of five pairs.
 */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const pairs = quick ? 1 : 5
  const leases = quick ? 500 : 2_000
  pinSelf(MEASURING)
  const [works, neighbour] = await Promise.all([startRedisUpstream(), startRedisUpstream()])
  const fleet = await startFleet({ roles: [], redisUpstreams: { works: works.url, neighbour: neighbour.url } })
  const undisturbed: Run[] = []
  const hanging: Run[] = []
  try {
    await measure(fleet, 200)
    for (let pair = 1; pair <= pairs; pair++) {
      undisturbed.push(await beside(fleet, () => measure(fleet, leases)))
      process.kill(neighbour.redis.pid(), 'SIGSTOP')
      try {
        hanging.push(await beside(fleet, () => measure(fleet, leases)))
      } finally {
        process.kill(neighbour.redis.pid(), 'SIGCONT')
      }
      // The circuit closes again, and what was left of the neighbour's is taken back, before the next pair.
      await waitFor('the neighbour to be rid of its users', async () => (await neighbour.users()).length === 0, 120_000)
      say(`pair ${pair}: issue p50 ${undisturbed.at(-1)?.issue.p50_ms} ms, hanging ${hanging.at(-1)?.issue.p50_ms} ms`)
    }
  } finally {
    await fleet.stop()
    await Promise.all([works, neighbour].map(({ redis }) => redis.stop()))
  }
  const of = (what: keyof Run, field: 'p50_ms' | 'p99_ms') => {
    const ratios = hanging.map((one, n) => one[what][field] / (undisturbed[n]?.[what][field] ?? Number.NaN))
    const middle = (runs: Run[]) => round(median(runs.map((one) => one[what][field])))
    return { undisturbed: middle(undisturbed), hanging: middle(hanging), ratio: round(median(ratios), 3) }
  }
  const result = {
    issue: { p50_ms: of('issue', 'p50_ms'), p99_ms: of('issue', 'p99_ms') },
    revoke: { p50_ms: of('revoke', 'p50_ms'), p99_ms: of('revoke', 'p99_ms') },
  }
  const kept = [result.issue, result.revoke].every(({ p50_ms, p99_ms }) => p50_ms.ratio <= MOST.p50 && p99_ms.ratio <= MOST.p99)
  return { ...result, most: MOST, kept, leases, concurrency: CONCURRENCY, neighbours: NEIGHBOURS, pairs }
}

/** Leases of a task each, then the end of each task, answered when its lease is confirmed revoked. */
async function measure(fleet: Fleet, leases: number): Promise<Run> {
  const tasks = await fleet.openTasks(leases, () => ({ agents: ['agent-1'], roles: ['works-read'] }))
  const [agent, flows] = await Promise.all([fleet.token('agent-1'), fleet.token('flows')])
  const asks = tasks.map((task) => ({ token: agent, body: JSON.stringify({ task, role: 'works-read' }) }))
  const issue = await load(fleet.port, '/v1/leases', asks, CONCURRENCY)
  const ends = tasks.map((task) => ({ token: flows, body: '{}', path: `/v1/tasks/${task}/complete?wait=10` }))
  const revoke = await load(fleet.port, '', ends, CONCURRENCY)
  if (issue.statuses['201'] !== leases || revoke.statuses['200'] !== leases)
    throw new Error(`not all was issued and revoked: ${JSON.stringify([issue.statuses, revoke.statuses])}`)
  return { issue, revoke }
}

/** Runs it while neighbours obtain from the other upstream, at one pace whatever becomes of it, and end their tasks. */
async function beside<T>(fleet: Fleet, work: () => Promise<T>): Promise<T> {
  const stop = new AbortController()
  const [agent, flows] = await Promise.all([fleet.token('agent-2'), fleet.token('flows')])
  const call = (path: string, token: string, body: string) =>
    fetch(`http://127.0.0.1:${fleet.port}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(PACE_MS * 20),
    })
      .then((answer) => answer.arrayBuffer())
      .catch(() => undefined)
  const neighbour = async () => {
    while (!stop.signal.aborted) {
      const [task] = await fleet.openTasks(1, () => ({ agents: ['agent-2'], roles: ['neighbour-read'] }))
      const until = performance.now() + PACE_MS
      await call('/v1/leases', agent, JSON.stringify({ task, role: 'neighbour-read' }))
      await call(`/v1/tasks/${task}/complete`, flows, '{}')
      const left = until - performance.now()
      if (left > 0) await new Promise((resolve) => setTimeout(resolve, left))
    }
  }
  const neighbours = Promise.all(Array.from({ length: NEIGHBOURS }, neighbour))
  const result = await work().finally(() => stop.abort())
  await neighbours
  return result
}
