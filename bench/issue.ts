import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Redis } from 'ioredis'
import { startPostgres } from '../test/support/postgres.js'
import { waitFor } from '../test/support/wait.js'
import { type Fleet, startFleet } from './fleet.js'
import { type Load, load, type Request } from './load.js'
import { cpuMicroseconds, MEASURED, MEASURING, median, pinSelf, round, startPinned } from './support.js'

export const CONCURRENCY = 32
const AGENTS = 1_000
const ROLES = Array.from({ length: 10 }, (_, n) => `role-${n}`)
const TASKS = 4_000

export interface Measured extends Omit<Load, 'statuses' | 'seconds'> {
  readonly cpu_us: number
}

/** `POST /v1/leases`, full broker beside the bare baseline: interleaved pairs after a fixed warm-up, each side on the same core. */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const pairs = quick ? 2 : 7
  const perRound = quick ? 4_000 : 8_000
  pinSelf(MEASURING)
  const postgres = await startPostgres()
  await postgres.query('create role reporting_ro nologin').catch(() => undefined)
  const postgresUrl = await postgres.createBroker(['reporting_ro'])
  const fleet = await startFleet({ roles: [...ROLES, 'warehouse-read'], postgresUrl })
  say('opening tasks')
  const agents = Array.from({ length: AGENTS }, (_, n) => `agent-${n}`)
  const tokens = await Promise.all(agents.map((agent) => fleet.token(agent)))
  const tasks = await fleet.openTasks(TASKS, (n) => ({ agents: [`agent-${n % AGENTS}`], roles: [...ROLES, 'warehouse-read'] }))
  const requests = (count: number, role: (n: number) => string): Request[] =>
    Array.from({ length: count }, () => {
      const n = Math.floor(Math.random() * TASKS)
      return { token: tokens[n % AGENTS] ?? '', body: JSON.stringify({ task: tasks[n], role: role(n) }) }
    })
  const anyRole = () => ROLES[Math.floor(Math.random() * ROLES.length)] ?? ''

  say('cold: the first request of each agent')
  await fleet.stopBroker()
  await fleet.startBroker()
  const cold = await measure(
    fleet.pid,
    fleet.port,
    agents.map((_, n) => ({ token: tokens[n] ?? '', body: JSON.stringify({ task: tasks[n], role: ROLES[0] }) })),
  )

  const { leaseBytes, eventBytes } = await bytesWritten(fleet)
  say(`a lease is ${leaseBytes} bytes and its event ${eventBytes}; the baseline writes the same`)
  const bare = await startBare(fleet, { leaseBytes, eventBytes })

  say('warming up')
  await measure(fleet.pid, fleet.port, requests(perRound * 2, anyRole))
  await measure(bare.pid, bare.answer, requests(perRound * 2, anyRole))
  const full: Measured[] = []
  const bares: Measured[] = []
  for (let pair = 1; pair <= pairs; pair++) {
    const sides = [
      async () => full.push(await measure(fleet.pid, fleet.port, requests(perRound, anyRole))),
      async () => bares.push(await measure(bare.pid, bare.answer, requests(perRound, anyRole))),
    ]
    for (const side of pair % 2 === 0 ? sides.reverse() : sides) await side()
    say(`pair ${pair}: full ${full.at(-1)?.rps} rps, ${full.at(-1)?.cpu_us} us; bare ${bares.at(-1)?.rps} rps, ${bares.at(-1)?.cpu_us} us`)
  }
  const hits = await hitRates(fleet)

  say('postgres')
  const logins = await measure(
    fleet.pid,
    fleet.port,
    requests(quick ? 100 : 600, () => 'warehouse-read'),
  )
  await bare.stop()
  await fleet.stop()
  await postgres.stop()
  return {
    ratio: round(median(full.map((one, n) => one.rps / (bares[n]?.rps ?? 1))), 3),
    cpu_ratio: round(median(full.map((one, n) => (bares[n]?.cpu_us ?? 0) / one.cpu_us)), 3),
    full: middle(full),
    bare: middle(bares),
    cold,
    postgres: logins,
    ...hits,
    pairs,
    requests_per_round: perRound,
    concurrency: CONCURRENCY,
    bytes: { lease: leaseBytes, event: eventBytes },
  }
}

export function startBare({ redisSocket, signingKeys }: Fleet, { leaseBytes, eventBytes }: { leaseBytes: number; eventBytes: number }) {
  const script = resolve(import.meta.dirname, 'bare.ts')
  return startPinned(MEASURED, [process.execPath, '--import', 'tsx', script, redisSocket, signingKeys, `${leaseBytes}`, `${eventBytes}`], {
    env: { NODE_ENV: 'production' },
    ready: (line) => (line.startsWith('{"port"') ? Number(JSON.parse(line).port) : undefined),
  })
}

export async function measure(pid: number, port: number, requests: readonly Request[], expected = '201'): Promise<Measured> {
  const before = cpuMicroseconds(pid)
  const { statuses, seconds: _, ...result } = await load(port, '/v1/leases', requests, CONCURRENCY)
  const used = cpuMicroseconds(pid) - before
  const refused = Object.entries(statuses).filter(([status]) => status !== expected)
  if (refused.length > 0) throw new Error(`answers other than ${expected}: ${JSON.stringify(statuses)}`)
  return { ...result, cpu_us: round(used / requests.length, 0) }
}

export function middle(rounds: readonly Measured[]): Measured {
  const of = (field: keyof Measured) => round(median(rounds.map((one) => one[field])))
  return { rps: of('rps'), p50_ms: of('p50_ms'), p99_ms: of('p99_ms'), cpu_us: of('cpu_us') }
}

async function hitRates(fleet: Fleet): Promise<{ memo_hit_rate: number; token_cache_hit_rate: number }> {
  const metrics = await fleet.metrics()
  const gauge = (name: string) => round(Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1] ?? 0), 4)
  return { memo_hit_rate: gauge('mayfly_policy_memo_hit_ratio'), token_cache_hit_rate: gauge('mayfly_token_cache_hit_ratio') }
}

/** Payload of one lease's hash, as it stands in Redis, and of its event, as the sink wrote it. */
export async function bytesWritten(fleet: Fleet): Promise<{ leaseBytes: number; eventBytes: number }> {
  const issued = await waitFor('an event to be written', async () => {
    const lines = (await readFile(join(fleet.folder, 'audit/events.jsonl'), 'utf8').catch(() => '')).split('\n')
    return lines.find((line) => line.includes('"type":"lease.issued"'))
  })
  const { lease, partition, stream_id, at, ...event } = JSON.parse(issued) as Record<string, string>
  const redis = new Redis(fleet.redisSocket)
  const [key] = (await redis.keys(`mf:*:lease:${lease}`)) as [string]
  const fields = Object.entries(await redis.hgetall(key))
  redis.disconnect()
  return {
    leaseBytes: fields.reduce((sum, [field, value]) => sum + field.length + value.length, 0),
    eventBytes: JSON.stringify({ ...event, lease }).length,
  }
}
