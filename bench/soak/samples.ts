import { readdirSync, readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { keys } from '../../src/ledger/keys.js'
import type { Fleet } from '../fleet.js'

export interface Sample {
  /** Seconds since the first. */
  readonly at: number
  readonly rss_bytes: number
  readonly heap_bytes: number
  readonly redis_keys: number
  readonly redis_bytes: number
  readonly file_handles: number
}

const PARTITIONS = 64

/**
 * What the broker and its ledger hold now. Without the reports of the emergencies of this run, which are kept for a week: they are told apart, so
 * that nothing else hides behind them.
 */
export async function sample(
  fleet: Fleet,
  redis: Redis,
  at: number,
  revocations: readonly string[],
): Promise<Sample & { readonly report_keys: number }> {
  const [metrics, all, memory, report_keys] = await Promise.all([
    fleet.metrics(),
    redis.dbsize(),
    redis.info('memory'),
    reportKeys(redis, revocations),
  ])
  const status = readFileSync(`/proc/${fleet.pid}/status`, 'utf8')
  return {
    at,
    rss_bytes: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024,
    heap_bytes: Number(/^mayfly_nodejs_heap_size_used_bytes (\S+)/m.exec(metrics)?.[1]),
    redis_keys: all - report_keys,
    redis_bytes: Number(/used_memory:(\d+)/.exec(memory)?.[1]),
    file_handles: readdirSync(`/proc/${fleet.pid}/fd`).length,
    report_keys,
  }
}

async function reportKeys(redis: Redis, revocations: readonly string[]): Promise<number> {
  let found = 0
  for (const id of revocations) {
    const names = Array.from({ length: PARTITIONS }, (_, partition) =>
      [keys.revocation, keys.progress, keys.rows, keys.outcomes].map((key) => key(partition, id)),
    )
    found += await redis.exists(...names.flat())
  }
  return found
}
