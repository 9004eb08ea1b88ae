/** `npm run soak -- [--minutes 30] [--json]`: exits with 1 when something grows. */
import { parseArgs } from 'node:util'
import { soak } from './soak.js'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' }, json: { type: 'boolean' } } })
const minutes = Number(values.minutes)
if (!(minutes > 0)) {
  process.stderr.write('--minutes is a number above 0\n')
  process.exit(2)
}
const result = await soak({ minutes, say: (line) => process.stderr.write(`${line}\n`) })
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`)
process.exit(result.grows ? 1 : 0)
