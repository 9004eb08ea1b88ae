// `mayfly serve` as the executable has it, with what only a test may set: MAYFLY_TEST_OVERRIDES is JSON of `Overrides` in src/broker.ts, and
// MAYFLY_TEST_DIST the folder of the built broker.
import { join } from 'node:path'

const { MAYFLY_TEST_DIST: dist, MAYFLY_TEST_OVERRIDES: overrides } = process.env
const { serve } = await import(join(dist ?? join(import.meta.dirname, '../../dist'), 'serve.js'))
const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stopping.abort())
const config = process.argv[process.argv.indexOf('--config') + 1]
await serve({ config, initLedger: true, env: process.env, stop: stopping.signal, onHangup: () => {}, overrides: JSON.parse(overrides ?? '{}') })
process.exit()
