/**
 * `npm run chaos -- --seeds 1..20 --minutes 2 --json`: breaks brokers, Redis, PostgreSQL and the network between them while agents, orchestrators
 * and operators work, and checks afterwards what became of every credential. Exit 1 where a promise was broken. See README.md.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Totals } from './checker.js'
import { planOf } from './plan.js'
import { PLANTS } from './plant.js'
import type { Outcome } from './run.js'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string', default: '2' },
    rate: { type: 'string', default: '20' },
    brokers: { type: 'string', default: '3' },
    jobs: { type: 'string', default: '1' },
    plant: { type: 'string' },
    plan: { type: 'boolean' },
    keep: { type: 'boolean' },
    json: { type: 'boolean' },
  },
})
const seeds = seedsOf(values.seeds ?? values.seed ?? '1')
const shape = { ms: Number(values.minutes) * 60_000, brokers: Number(values.brokers), perSecond: Number(values.rate) }
const wrong = [...seeds, shape.ms, shape.brokers, shape.perSecond, Number(values.jobs)].some((one) => !(one > 0))
if (seeds.length === 0 || wrong || (values.plant !== undefined && !PLANTS.some((one) => one === values.plant))) {
  process.stderr.write(
    `usage: npm run chaos -- [--seed N | --seeds A..B] [--minutes M] [--rate PER_SECOND] [--brokers N] [--jobs N] [--plan] [--plant ${PLANTS.join('|')}] [--keep] [--json]\n`,
  )
  process.exit(2)
}
if (values.plan) {
  for (const seed of seeds) process.stdout.write(`${JSON.stringify(planOf(seed, shape), null, values.json ? undefined : 2)}\n`)
  process.exit(0)
}

const outcomes: Outcome[] = []
const running = new Set<ChildProcess>()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    for (const child of running) child.kill(signal)
    process.exit(1)
  })
const queue = [...seeds]
await Promise.all(
  Array.from({ length: Number(values.jobs) }, async () => {
    for (let seed = queue.shift(); seed !== undefined; seed = queue.shift()) outcomes.push(await runApart(seed))
  }),
)
outcomes.sort((a, b) => a.seed - b.seed)
const fields = ['issued', 'live', 'orphans', 'lost', 'falsely_reported'] as const
const totals = Object.fromEntries(fields.map((field) => [field, outcomes.reduce((sum, one) => sum + one.totals[field], 0)])) as unknown as Totals
const faults: Record<string, number> = {}
for (const one of outcomes) for (const [kind, count] of Object.entries(one.faults)) faults[kind] = (faults[kind] ?? 0) + count
const answer = {
  totals,
  faults: Object.fromEntries(Object.entries(faults).sort(([a], [b]) => (a < b ? -1 : 1))),
  seeds: outcomes.map(({ seed, seconds, totals, faults, violations }) => ({ seed, seconds, ...totals, faults, violations })),
}
process.stdout.write(`${JSON.stringify(answer, null, values.json ? undefined : 2)}\n`)
process.exit(outcomes.some(({ violations }) => violations.length > 0) ? 1 : 0)

/** In a process of its own, with a folder of its own: what was found there stays where something was. */
async function runApart(seed: number): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), `mayfly-chaos-${seed}-`))
  // PostgreSQL runs as a user of its own where the run is root's.
  await chmod(folder, 0o711)
  const given = { seed, ms: shape.ms, brokers: shape.brokers, rate: shape.perSecond, folder, ...(values.plant && { plant: values.plant }) }
  const options = Object.entries(given).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'one.ts'), ...options], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  running.add(child)
  await once(child, 'exit')
  running.delete(child)
  const text = await readFile(join(folder, 'outcome.json'), 'utf8').catch(() => undefined)
  const outcome = text === undefined ? broken(seed) : (JSON.parse(text) as Outcome)
  process.stderr.write(`seed ${seed}: ${JSON.stringify(outcome.totals)} after ${outcome.seconds} s\n`)
  for (const note of outcome.notes) process.stderr.write(`seed ${seed}: note: ${note}\n`)
  for (const { kind, what, id, detail } of outcome.violations) process.stderr.write(`seed ${seed}: ${kind}: ${what}: ${id} (${detail})\n`)
  if (outcome.violations.length > 0 || values.keep) process.stderr.write(`seed ${seed}: what it left is in ${folder}\n`)
  else await rm(folder, { recursive: true, force: true })
  return outcome
}

/** A run that came to no verdict has shown nothing: it is no less than a violation. */
function broken(seed: number): Outcome {
  const violations = [{ kind: 'crashed', what: 'the run came to no verdict', id: '' }] as const
  return { seed, seconds: 0, totals: { issued: 0, live: 0, orphans: 0, lost: 0, falsely_reported: 0 }, faults: {}, notes: [], violations }
}

function seedsOf(text: string): number[] {
  const [, from, to] = /^(\d+)(?:\.\.(\d+))?$/.exec(text) ?? []
  if (from === undefined) return []
  const last = Number(to ?? from)
  return Array.from({ length: Math.max(0, last - Number(from) + 1) }, (_, index) => Number(from) + index)
}
