import { parseArgs } from 'node:util'
import { median, percentile, round } from '../../bench/support.js'
import { seeded } from '../support/random.js'
import { killing, type Tally } from './killer.js'
import { createSlot } from './slot.js'
import { judge, plant, settle } from './verdict.js'
import { startWorkload } from './workload.js'
import { startWorld } from './world.js'

/**
 * `npm run kills -- [--count 500] [--seed 1] [--plant] [--json]`: brokers are killed with SIGKILL at random moments of issuing and revoking,
 * and the next one starts at once, sometimes with another broker there and sometimes with none. At the end every task is ended and nothing
 * may be left: no role in PostgreSQL, no lease unsettled, no credential that works. `--plant` leaves one of each to be found.
 */
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '500' },
    seed: { type: 'string', default: '1' },
    plant: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const [count, seed] = [Number(values.count), Number(values.seed)]
if (!Number.isInteger(count) || count < 1 || !Number.isInteger(seed)) {
  process.stderr.write('kills: --count and --seed are whole numbers\n')
  process.exit(2)
}
const say = (line: string) => process.stderr.write(`${line}\n`)

const world = await startWorld()
const began = performance.now()
const slots = [createSlot(world, 'slot-a'), createSlot(world, 'slot-b')] as const
await Promise.all(slots.map((slot) => slot.start()))
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    for (const slot of slots) slot.broker()?.signal('SIGKILL')
    void world.stop().finally(() => process.exit(1))
  })
const workload = startWorkload(world, slots, seeded(seed))
const tally: Tally = { kills: 0, duringMint: 0, duringRevoke: 0, idle: 0, cut: 0, alone: 0 }
const seconds = () => round((performance.now() - began) / 1000, 1)
const progress = setInterval(() => say(`${tally.kills} kills, ${workload.seen.credentials.size} credentials, ${seconds()} s`), 10_000)
await Promise.all(
  slots.map((slot, n) => {
    const others = slots.filter((other) => other !== slot)
    return killing(world, slot, others, seeded(seed * 1000 + n + 1), tally, count)
  }),
)
say('every task is ended')
await workload.finish()
say('time to settle')
await settle(world)
clearInterval(progress)
await Promise.all(slots.map((slot) => slot.broker()?.stop()))
if (values.plant) await plant(world, workload.seen.credentials)
const { orphans, unsettled, live, leases } = await judge(world, workload.seen.credentials)
const starts = slots.flatMap(({ startMs }) => [...startMs])
const unexpected = workload.seen.unexpected
const result = {
  kills: tally.kills,
  issued: workload.seen.credentials.size,
  orphans,
  unsettled,
  live,
  seconds: seconds(),
  spread: { during_mint: tally.duringMint, during_revoke: tally.duringRevoke, idle: tally.idle },
  requests_cut: tally.cut,
  kills_with_no_other_broker: tally.alone,
  tasks: workload.seen.tasks,
  leases,
  unexpected: unexpected.length,
  start_ms: { p50: round(median(starts), 0), p95: round(percentile(starts, 95), 0) },
  seed,
}
for (const answer of unexpected.slice(0, 5)) say(`unexpected: ${answer}`)
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`)
await world.stop()
process.exit(orphans + unsettled + live + unexpected.length === 0 ? 0 : 1)
