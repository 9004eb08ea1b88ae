import { readFileSync } from 'node:fs'
import { type Fleet, startFleet } from './fleet.js'
import { bytesOf, type Flooded, flood } from './flood.js'
import { load } from './load.js'
import { post } from './post.js'
import type { Probed } from './probe.js'
import { startProbing } from './probing.js'
import { cpuMicroseconds, MEASURING, percentile, pinSelf, round } from './support.js'

const AGENTS = 1_000
const TASKS = 2_000
const ROLE = 'api-token'
const CONNECTIONS = 1_024
const LEVELS = [0.7, 4, 10] as const
/** Between two calls of an operator, and between two ends of tasks. */
const PROBE_MS = 100
const PROBES = 100

/**
 * Far more requests than the broker can serve, on the one listener that it has, while an operator revokes and tasks end: what is still issued, how soon
 * the stop answers, what memory it costs, and how soon all is well again.
 */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const ms = quick ? 4_000 : 10_000
  pinSelf(MEASURING)
  const fleet = await startFleet({ roles: [ROLE] })
  say('opening tasks')
  const tokens = await Promise.all(Array.from({ length: AGENTS }, (_, n) => fleet.token(`agent-${n}`)))
  const tasks = await fleet.openTasks(TASKS, (n) => ({ agents: [`agent-${n % AGENTS}`], roles: [ROLE] }))
  const ends = await fleet.openTasks(600, (n) => ({ agents: [`agent-${n % AGENTS}`], roles: [ROLE] }))
  const bodies = tasks.map((task, n) => ({ token: tokens[n % AGENTS] ?? '', body: JSON.stringify({ task, role: ROLE }) }))
  const requests = bodies.map(({ token, body }) => bytesOf('/v1/leases', token, body))
  const forged = requests.map((text) => text.replace(/\.([\w-]{4})[\w-]*\r\n/, (part, first) => part.replace(first, 'AAAA')))
  const anyOf = (some: readonly string[]) => () => some[Math.floor(Math.random() * some.length)] ?? ''

  say('warming up')
  const closed = (count: number) => Array.from({ length: count }, () => bodies[Math.floor(Math.random() * bodies.length)] ?? { token: '', body: '' })
  await load(fleet.port, '/v1/leases', closed(8_000), 32)
  const { rps: capacity } = await load(fleet.port, '/v1/leases', closed(quick ? 6_000 : 12_000), 32)
  say(`capacity: ${capacity} rps`)
  const quiet = await alone(fleet, bodies[0])
  const rss: Record<string, number> = { before: rssOf(fleet.pid) }
  const levels: object[] = []
  const at = async (name: string, next: () => string, rps: number) => {
    await fleet.metrics()
    const probing = await probe(fleet, ends)
    const cpu = cpuMicroseconds(fleet.pid)
    const flooded: Flooded = await flood({ port: fleet.port, connections: CONNECTIONS, rps, ms, next })
    const probed = await probing.stop()
    rss[name] = rssOf(fleet.pid)
    const lag = /^mayfly_nodejs_eventloop_lag_(p99|max)_seconds .*$/gm
    const lags = (await fleet.metrics()).match(lag)
    say(String(lags))
    const level = {
      name,
      ...flooded,
      ...probed,
      cpu: round((cpuMicroseconds(fleet.pid) - cpu) / 1000 / ms),
      recovered_ms: await recovery(fleet, bodies[0], quiet),
    }
    say(JSON.stringify(level))
    levels.push(level)
  }
  for (const times of LEVELS) await at(`${times}x`, anyOf(requests), capacity * times)
  await at('4x of strangers', anyOf(forged), capacity * 4)
  const idle = await flood({ port: fleet.port, connections: 8, rps: 100, ms: 2_000, next: anyOf(requests) })
  rss.after = rssOf(fleet.pid)
  await fleet.stop()
  return { capacity_rps: capacity, quiet_ms: quiet, connections: CONNECTIONS, seconds_each: ms / 1000, levels, afterwards: idle, rss_mb: rss }
}

/** An operator who revokes, each time on a new connection, and an orchestrator that ends tasks. */
async function probe(fleet: Fleet, ends: string[]): Promise<{ stop(): Promise<{ emergency: Probed; task_end: Probed }> }> {
  const [oncall, flows] = await Promise.all([fleet.token('oncall'), fleet.token('flows')])
  const revoke = (n: number) => ({
    path: '/v1/emergency/revoke',
    token: oncall,
    body: { selector: { agent: `agent-gone-${n}` }, reason: 'measuring' },
    expected: 202,
  })
  const end = () => ({ path: `/v1/tasks/${ends.pop()}/complete`, token: flows, body: {}, expected: 200 })
  const probing = await startProbing(fleet.port, PROBE_MS)
  probing.call(Array.from({ length: PROBES }, (_, n) => revoke(n)))
  probing.call(Array.from({ length: PROBES }, end))
  return {
    async stop() {
      const [emergency, task_end] = (await probing.stop()) as [Probed, Probed]
      return { emergency, task_end }
    },
  }
}

type One = { readonly token: string; readonly body: string } | undefined

/** The median of some requests that nothing is in the way of. */
async function alone(fleet: Fleet, one: One): Promise<number> {
  const latencies: number[] = []
  for (let n = 0; n < 100; n++) latencies.push(await timed(fleet, one))
  return round(percentile(latencies, 50))
}

async function timed({ port }: Fleet, one: One): Promise<number> {
  const started = performance.now()
  const status = await post(port, { path: '/v1/leases', token: one?.token ?? '', body: JSON.parse(one?.body ?? '{}') })
  return status === 201 ? performance.now() - started : Number.POSITIVE_INFINITY
}

/** Until ten in a row take no more than three times as long as before. */
async function recovery(fleet: Fleet, one: One, quiet: number): Promise<number> {
  const started = performance.now()
  let wellSince = started
  for (let well = 0; well < 10 && performance.now() - started < 30_000; ) {
    const began = performance.now()
    if ((await timed(fleet, one).catch(() => Number.POSITIVE_INFINITY)) <= quiet * 3) well++
    else well = 0
    if (well === 1) wellSince = began
  }
  return round(wellSince - started, 0)
}

function rssOf(pid: number): number {
  return round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024, 0)
}
