import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestPostgres } from '../../test/support/postgres.js'
import { waitFor } from '../../test/support/wait.js'
import { type Fleet, startFleet } from '../fleet.js'
import { load } from '../load.js'
import { median, percentile, round } from '../support.js'
import { bareLoop, CONCURRENCY } from './bare-loop.js'

const LEASES_PER_TASK = 10

interface Round {
  readonly seconds: number
  readonly p50_ms: number
  readonly p99_ms: number
}

/**
 * Leases of PostgreSQL over many tasks, all of which end at once: from the task's end to the confirmed revoke, on the ledger's clock, beside a
 * bare loop of the same statements over as many roles, at the same concurrency on the same server.
 */
export async function measureTaskEnds({
  quick,
  say,
  postgres,
}: {
  quick: boolean
  say: (line: string) => void
  postgres: TestPostgres
}): Promise<object> {
  const tasks = quick ? 20 : 100
  const pairs = quick ? 1 : 3
  const postgresUrl = await postgres.createBroker(['reporting_ro'])
  const fleet = await startFleet({ roles: ['warehouse-read'], postgresUrl })
  const full: Round[] = []
  const bare: number[] = []
  for (let pair = 1; pair <= pairs; pair++) {
    full.push(await endAll(fleet, postgres, tasks))
    bare.push(await bareLoop([postgresUrl], tasks * LEASES_PER_TASK))
    say(`task ends, pair ${pair}: full ${full.at(-1)?.seconds} s, bare ${round(bare.at(-1) ?? 0)} s`)
  }
  const orphans = await count(postgres)
  await fleet.stop()
  const of = (field: keyof Round) => round(median(full.map((one) => one[field])))
  return {
    leases: tasks * LEASES_PER_TASK,
    tasks,
    task_end_to_revoked: { p50_ms: of('p50_ms'), p99_ms: of('p99_ms') },
    full_seconds: of('seconds'),
    bare_seconds: round(median(bare)),
    ratio: round(median(full.map((one, n) => (bare[n] ?? 0) / one.seconds)), 3),
    concurrency: CONCURRENCY,
    orphans,
    pairs,
  }
}

async function endAll(fleet: Fleet, postgres: TestPostgres, count_: number): Promise<Round> {
  const ids = await fleet.openTasks(count_, (n) => ({ agents: [`agent-${n}`], roles: ['warehouse-read'] }))
  const requests = await Promise.all(
    ids.flatMap((task, n) => {
      const token = fleet.token(`agent-${n}`)
      return Array.from({ length: LEASES_PER_TASK }, async () => ({ token: await token, body: JSON.stringify({ task, role: 'warehouse-read' }) }))
    }),
  )
  const { statuses } = await load(fleet.port, '/v1/leases', requests, CONCURRENCY)
  if (statuses['201'] !== requests.length) throw new Error(`not every lease was issued: ${JSON.stringify(statuses)}`)

  const flows = await fleet.token('flows')
  const started = performance.now()
  await Promise.all(
    ids.map(async (task) => {
      const headers = { authorization: `Bearer ${flows}`, 'content-type': 'application/json' }
      const answer = await fetch(`http://127.0.0.1:${fleet.port}/v1/tasks/${task}/complete`, { method: 'POST', headers, body: '{}' })
      if (answer.status !== 200) throw new Error(`a task did not end: ${answer.status}`)
      await answer.arrayBuffer()
    }),
  )
  await waitFor('every role to be dropped', async () => (await count(postgres)) === 0, 120_000)
  const seconds = round((performance.now() - started) / 1000)
  const late = await latencies(fleet, new Set(ids), requests.length)
  return { seconds, p50_ms: percentile(late, 50), p99_ms: percentile(late, 99) }
}

/** From the events: `task.ended` to each `lease.revoked`, on the ledger's clock. */
async function latencies(fleet: Fleet, tasks: ReadonlySet<string>, expected: number): Promise<number[]> {
  return waitFor('the events to be written', async () => {
    const ended = new Map<string, number>()
    const revoked: { task: string; at: number }[] = []
    for (const line of (await readFile(join(fleet.folder, 'audit/events.jsonl'), 'utf8')).split('\n')) {
      if (!line.includes('"task.ended"') && !line.includes('"lease.revoked"')) continue
      const event = JSON.parse(line) as { type: string; task: string; at: string }
      if (!tasks.has(event.task)) continue
      if (event.type === 'task.ended') ended.set(event.task, Date.parse(event.at))
      else revoked.push({ task: event.task, at: Date.parse(event.at) })
    }
    if (revoked.length < expected || ended.size < tasks.size) return undefined
    return revoked.map(({ task, at }) => at - (ended.get(task) ?? at))
  })
}

async function count(postgres: TestPostgres): Promise<number> {
  const rows = await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-bench-%'")
  return Number(rows[0]?.n)
}
