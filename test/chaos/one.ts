/** One seed, in a process and a folder of its own: what it starts, it finds its temporary folders there. Started by `main.ts`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { planOf } from './plan.js'
import { PLANTS, type Plant } from './plant.js'
import { run } from './run.js'

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    ms: { type: 'string' },
    brokers: { type: 'string' },
    rate: { type: 'string' },
    folder: { type: 'string' },
    plant: { type: 'string' },
  },
})
const [seed, ms, brokers, perSecond] = [values.seed, values.ms, values.brokers, values.rate].map(Number)
const { folder = '' } = values
const planted: Plant | undefined = PLANTS.find((one) => one === values.plant)
const say = (line: string) => process.stderr.write(`seed ${seed}: ${line}\n`)
const outcome = await run(planOf(seed ?? 1, { ms: ms ?? 0, brokers: brokers ?? 3, perSecond: perSecond ?? 20 }), { folder, say, planted })
await writeFile(join(folder, 'outcome.json'), JSON.stringify(outcome, null, 2))
process.exit(0)
