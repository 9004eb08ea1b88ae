/** `npm run fuzz -- [--minutes M] [--seed N] [--json]`: requests of every kind to a broker of its own; fails where one was answered as it should not be. */
import { parseArgs } from 'node:util'
import { startTestBroker } from '../support/broker.js'
import { startRedis } from '../support/redis.js'
import { attack } from './attack.js'

const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' }, json: { type: 'boolean' } } })
const minutes = Number(values.minutes ?? 1)
const seed = Number(values.seed ?? Date.now() % 1e9)
const redis = await startRedis()
const test = await startTestBroker({ redisSocket: redis.socketPath, partitions: 4 })
const rssMb = () => Math.round(process.memoryUsage.rss() / 2 ** 20)
const before = rssMb()
const attacked = await attack(test, { seed, runs: Number.MAX_SAFE_INTEGER, until: Date.now() + minutes * 60_000 })
const accidents = test.logs.filter((line) => line.includes('"level":50'))
const keys = await redis.client.dbsize()
await test.stop()
await redis.stop()
const result = { seed, minutes, ...attacked, accidents: accidents.slice(0, 20), redis_keys: keys, rss_mb: { before, after: rssMb() } }
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`)
process.exit(attacked.problems.length + accidents.length > 0 ? 1 : 0)
