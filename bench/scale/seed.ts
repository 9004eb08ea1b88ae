import { Redis } from 'ioredis'
import { keys, newId, partitionOf } from '../../src/ledger/keys.js'
import { agentKey } from '../../src/ledger/places.js'
import type { Fleet } from '../fleet.js'
import { load } from '../load.js'

export const PARTITIONS = 64
const AGENTS = 1_000
export const LEASES_PER_TASK = 50
const ROLE = 'role-long'
const CONCURRENCY = 32

/** What `grant.lua` writes of a lease, once more for each of the ids, from what it wrote of a real one. */
const CLONE = `
local base = string.sub(KEYS[1], 1, 9)
local record = redis.call('HGETALL', KEYS[1])
local is = {}
for i = 1, #record, 2 do is[record[i]] = record[i + 1] end
local task, due = base .. 'task:' .. is.t, base .. 'due:' .. is.pr
local at, over = redis.call('ZSCORE', due, ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1])
for i = 2, #ARGV do
  redis.call('HSET', base .. 'lease:' .. ARGV[i], unpack(record))
  redis.call('SADD', task .. ':live', ARGV[i])
  redis.call('ZADD', due, at, ARGV[i])
  redis.call('ZADD', KEYS[2], over, ARGV[i])
end
redis.call('HINCRBY', task, 'L:' .. is.a, #ARGV - 1)
redis.call('HINCRBY', task, 'c:' .. is.ac, #ARGV - 1)
return #ARGV - 1`

export interface Seeded {
  readonly leases: number
  /** Of them, which were issued by the broker. */
  readonly issued: number
  /** A task with its agent, whose other leases are clones. */
  readonly sample: { readonly task: string; readonly agent: string; readonly clone: string }
}

/**
 * Live leases by the million. One of each task is issued, by the broker; the others are written beside it, because a million requests would take
 * longer than all that is measured.
 */
export async function seed(fleet: Fleet, leases: number): Promise<Seeded> {
  const count = leases / LEASES_PER_TASK
  const agentOf = (n: number) => `agent-${n % AGENTS}`
  const tasks = await fleet.openTasks(count, (n) => ({ agents: [agentOf(n)], roles: [ROLE] }))
  const tokens = await Promise.all(Array.from({ length: AGENTS }, (_, n) => fleet.token(agentOf(n))))
  const issued = new Map<string, string>()
  const asks = tasks.map((task, n) => ({ token: tokens[n % AGENTS] ?? '', body: JSON.stringify({ task, role: ROLE, ttl: 3_000 }) }))
  const { statuses } = await load(fleet.port, '/v1/leases', asks, CONCURRENCY, ({ body }) => {
    const { lease } = JSON.parse(body) as { lease: { id: string; task: string } }
    issued.set(lease.task, lease.id)
  })
  if (statuses['201'] !== count) throw new Error(`not every lease was issued: ${JSON.stringify(statuses)}`)

  const redis = new Redis(fleet.redisSocket)
  // Written once, at the end, as a rewrite.
  await redis.config('SET', 'appendonly', 'no')
  const clones = tasks.map((task, n) => clone(redis, issued.get(task) ?? '', agentOf(n)))
  const [first] = await Promise.all(clones)
  await redis.config('SET', 'appendonly', 'yes')
  for (;;) {
    const info = await redis.info('persistence')
    if (/aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info)) break
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
  redis.disconnect()
  return { leases, issued: count, sample: { task: tasks[0] ?? '', agent: agentOf(0), clone: first ?? '' } }
}

async function clone(redis: Redis, lease: string, agent: string): Promise<string> {
  const partition = partitionOf(lease, 'lease', PARTITIONS) ?? 0
  const ids = Array.from({ length: LEASES_PER_TASK - 1 }, () => newId('lease', partition))
  await redis.eval(CLONE, 2, keys.lease(partition, lease), agentKey(agent, PARTITIONS), lease, ...ids)
  return ids[0] ?? ''
}
