import { Redis } from 'ioredis'
import { startRedisUpstream } from '../../test/providers/redis-upstream.js'
import { startFleet } from '../fleet.js'
import { cpuMicroseconds, MEASURING, pinSelf, round } from '../support.js'
import { startEmergencies } from './emergencies.js'
import { createLives, type Lives, ROLES, TOOLS } from './life.js'
import { openPool } from './pool.js'
import { type Sample, sample } from './samples.js'
import { type Trend, trendOf } from './trend.js'

/** Of what the broker can do at most. */
const SHARE = 0.7
const CAPACITY_SECONDS = 15
/** What Node takes in a pod with the chart's limit of 512 MiB. With all the memory of a large machine it puts off collecting, and what is garbage looks like growth. */
const HEAP_MIB = 256
const CONCURRENCY = 32
/** A task rests for so long between its use and its end, at most. */
const MOST_REST_MS = 5_000
const SAMPLES = 240
const MOST_EVERY_MS = 5_000
/** Their reports are kept, so that more of them would be a growth that is meant. */
const EMERGENCIES = 15
/** The first part of the run, in which caches fill and the first records go. */
const WARM_UP = 1 / 3
const TOLERANCE_PERCENT = { rss_bytes: 5, heap_bytes: 10, redis_keys: 3, redis_bytes: 5, file_handles: 3 } as const
/** The heap is looked at when it has just been collected: the least of so many samples. */
const HEAP_SAMPLES = 8

type What = keyof typeof TOLERANCE_PERCENT

export interface Soaked {
  readonly minutes: number
  readonly grows: boolean
  readonly trends: Readonly<Record<What, Trend>>
  readonly [more: string]: unknown
}

/** A broker at a share of its capacity, for as long as asked, with everything that agents, orchestrators and operators do: what it holds must not grow. */
export async function soak({ minutes, say }: { minutes: number; say: (line: string) => void }): Promise<Soaked> {
  pinSelf(MEASURING)
  const upstream = await startRedisUpstream()
  const fleet = await startFleet({
    roles: ['role-0'],
    tools: TOOLS,
    redisUpstreams: { works: upstream.url },
    settledRetention: '60s',
    heapMiB: HEAP_MIB,
  })
  const redis = new Redis(fleet.redisSocket)
  const pool = openPool(() => fleet.port)
  const lives = await createLives(fleet, pool)
  await atOnce(lives, CAPACITY_SECONDS / 3)
  const capacity = await atOnce(lives, CAPACITY_SECONDS)
  say(`${round(capacity)} tasks a second at most; ${minutes} minutes at ${SHARE * 100} % of it`)

  const stop = paced(lives, capacity * SHARE)
  const emergencies = startEmergencies(fleet, pool, (minutes * 60_000) / EMERGENCIES)
  const samples: (Sample & { report_keys: number })[] = []
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  const before = { cpu: cpuMicroseconds(fleet.pid), requests: lives.requests(), at: seconds() }
  const everyMs = Math.min(MOST_EVERY_MS, (minutes * 60_000) / SAMPLES)
  while (seconds() < minutes * 60) {
    await new Promise((resolve) => setTimeout(resolve, everyMs))
    samples.push(await sample(fleet, redis, seconds(), emergencies.revocations))
    const last = samples.at(-1)
    if (last && samples.length % 24 === 0)
      say(`${round(last.at, 0)} s: ${round(last.rss_bytes / 2 ** 20, 0)} MiB, ${last.redis_keys} keys, ${last.file_handles} handles`)
  }
  const cores = (cpuMicroseconds(fleet.pid) - before.cpu) / 1e6 / (seconds() - before.at)
  const per_s = (lives.requests() - before.requests) / (seconds() - before.at)
  const late = await stop()
  await emergencies.stop()
  pool.end()
  const trends = trendsOf(samples.filter(({ at }) => at >= minutes * 60 * WARM_UP))
  redis.disconnect()
  await fleet.stop()
  await upstream.redis.stop()
  return {
    minutes,
    grows: Object.values(trends).some(({ grows }) => grows),
    trends,
    warm_up_minutes: round(minutes * WARM_UP),
    samples: samples.length,
    capacity_tasks_per_s: round(capacity),
    asked_tasks_per_s: round(capacity * SHARE),
    late_tasks: late,
    requests_per_s: round(per_s, 0),
    broker_cores: round(cores),
    emergencies: emergencies.revocations.length,
    report_keys: samples.at(-1)?.report_keys ?? 0,
    answers: Object.fromEntries([...lives.answers].sort()),
    roles: ROLES,
  }
}

/** A closed loop of lives for some seconds. @returns lives a second */
async function atOnce(lives: Lives, seconds: number): Promise<number> {
  const started = performance.now()
  let done = 0
  const loop = async () => {
    while (performance.now() - started < seconds * 1000) {
      await lives.live(0)
      done++
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, loop))
  return done / ((performance.now() - started) / 1000)
}

/** So many lives a second, evenly. More under way than four times what their rest makes of it: a broker that cannot keep up is asked less, and it is said. */
function paced(lives: Lives, perSecond: number): () => Promise<number> {
  const most = Math.ceil(perSecond * (MOST_REST_MS / 1000) * 4)
  const started = performance.now()
  const underWay = new Set<Promise<void>>()
  let begun = 0
  let late = 0
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - started) / 1000) * perSecond)
    for (; begun < due; begun++) {
      if (underWay.size >= most) {
        late++
        continue
      }
      const one = lives.live(Math.random() * MOST_REST_MS).finally(() => {
        underWay.delete(one)
      })
      underWay.add(one)
    }
  }, 10)
  return async () => {
    clearInterval(timer)
    await Promise.all(underWay)
    return late
  }
}

function trendsOf(samples: readonly Sample[]): Record<What, Trend> {
  const of = (what: What, some: readonly Sample[] = samples) =>
    trendOf(
      some.map(({ at }) => at),
      some.map((one) => one[what]),
      TOLERANCE_PERCENT[what],
    )
  const collected = Array.from({ length: Math.floor(samples.length / HEAP_SAMPLES) }, (_, n) =>
    samples.slice(n * HEAP_SAMPLES, (n + 1) * HEAP_SAMPLES).reduce((least, one) => (one.heap_bytes < least.heap_bytes ? one : least)),
  )
  return {
    rss_bytes: of('rss_bytes'),
    heap_bytes: of('heap_bytes', collected),
    redis_keys: of('redis_keys'),
    redis_bytes: of('redis_bytes'),
    file_handles: of('file_handles'),
  }
}
