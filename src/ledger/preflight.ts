import type { Redis } from 'ioredis'
import { MayflyError } from '../errors.js'
import { messageOf } from './connection.js'
import type { Node, Nodes } from './nodes.js'
import type { WaitOptions } from './replication.js'

export interface Problem {
  readonly problem: string
  /** How to mend it. */
  readonly mend: string
}
export interface Wanted {
  readonly durability: Durability
  readonly wait?: Pick<WaitOptions, 'replicas'>
}
export type Durability = 'strict' | 'everysec'

const LEAST_VERSION = [7, 0]
/** A lease's fields are shorter than this, and its hash takes half the memory. */
const LISTPACK_VALUE = 1024

/** Two servers of a Cluster may tell the time this much apart: deadlines are each partition's own server's. */
const MOST_SKEW_MS = 500

export interface Checked {
  /** Of the oldest server. */
  readonly redisVersion?: string
  /** What an acknowledged write survives on the weakest. */
  readonly held?: Durability | 'none'
  readonly problems: Problem[]
}

/** Every server that holds a partition. One that does not answer is a problem among the others', unless there is no other. */
export async function check(nodes: Nodes, options: Wanted): Promise<Checked> {
  const all = nodes.all()
  const results = await Promise.allSettled(all.map((node) => checkOne(node, options)))
  const found = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const failure = results.find((result) => result.status === 'rejected')
  if (found.length === 0 && failure) throw failure.reason
  const named = (index: number, problem: string) => (all.length > 1 ? `${all[index]?.name}: ${problem}` : problem)
  const problems = results.flatMap((result, index) =>
    result.status === 'fulfilled'
      ? result.value.problems.map(({ problem, mend }) => ({ problem: named(index, problem), mend }))
      : [{ problem: named(index, messageOf(result.reason)), mend: 'until it answers, or another has its partitions, nothing is issued in them' }],
  )
  const clocks = found.map(({ ahead }) => ahead)
  const skew = Math.max(...clocks) - Math.min(...clocks)
  if (skew > MOST_SKEW_MS) problems.push({ problem: `the clocks of the servers are ${Math.round(skew)} ms apart`, mend: 'run NTP on each of them' })
  const held = found.map((one) => one.held)
  const weakest = held.includes(undefined) ? undefined : WEAKEST_FIRST.find((one) => held.includes(one))
  return { redisVersion: found.map((one) => one.version).sort(byVersion)[0], held: weakest, problems }
}
const WEAKEST_FIRST = ['none', 'everysec', 'strict'] as const

async function checkOne({ redis }: Node, options: Wanted) {
  const sentAt = Date.now()
  const [[seconds, micros], version, held, problems] = await Promise.all([
    redis.time(),
    versionOf(redis),
    durabilityOf(redis),
    preflight(redis, options),
  ])
  const server = Number(seconds) * 1000 + Number(micros) / 1000
  return { ahead: server - (sentAt + Date.now()) / 2, version, held, problems }
}

function byVersion(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

/** Servers that answer what they are asked, so that a start would look as if all were well: a replica, which takes no writes, and one of a Cluster by itself. */
export async function refuseUnfit(nodes: Nodes): Promise<void> {
  for (const { redis, name } of nodes.all()) {
    if (/^role:slave/m.test(await redis.info('replication')))
      throw new MayflyError('ledger_unavailable', `${name} is a replica, which takes no writes`, {
        next: 'give the address of the primary, or of Sentinels (ledger.redis.sentinel), which know it',
      })
    if (!nodes.isCluster && /^cluster_enabled:1/m.test(await redis.info('cluster')))
      throw new MayflyError('ledger_unavailable', `${name} is a server of a Redis Cluster, which is asked otherwise`, {
        next: 'give the addresses of the Cluster (ledger.redis.cluster)',
      })
  }
}

/** What this Redis is not that a ledger needs. Where it hides its configuration (managed services do), that is said instead. */
export async function preflight(redis: Redis, { durability, wait }: Wanted): Promise<Problem[]> {
  const problems: Problem[] = []
  const version = await versionOf(redis)
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < (LEAST_VERSION[0] ?? 0) || (major === LEAST_VERSION[0] && minor < (LEAST_VERSION[1] ?? 0)))
    problems.push({ problem: `Redis is ${version}`, mend: `upgrade to ${LEAST_VERSION.join('.')} or later` })

  const config = await configOf(redis)
  if (!config) {
    const mend = 'allow CONFIG GET, or check by hand: maxmemory-policy noeviction, appendonly yes, appendfsync, hash-max-listpack-value 1024'
    return [...problems, { problem: 'Redis does not show its configuration', mend }]
  }
  const expect = (name: string, good: (value: string) => boolean, mend: string) => {
    const value = config.get(name)
    if (value !== undefined && !good(value)) problems.push({ problem: `${name} is ${value === '' ? 'empty' : value}`, mend })
  }
  expect('maxmemory-policy', (value) => value === 'noeviction', 'set maxmemory-policy noeviction: an evicted lease is a credential nobody revokes')
  expect('appendonly', (value) => value === 'yes', 'set appendonly yes: without it a restart forgets live credentials')
  const fsync = durability === 'strict' ? ['always'] : ['always', 'everysec']
  if (config.get('appendonly') === 'yes')
    expect(
      'appendfsync',
      (value) => fsync.includes(value),
      durability === 'strict' ? 'set appendfsync always, or `durability: everysec`' : 'set appendfsync everysec or always',
    )
  expect(
    'hash-max-listpack-value',
    (value) => Number(value) >= LISTPACK_VALUE,
    `set hash-max-listpack-value ${LISTPACK_VALUE}: a lease takes twice the memory without it`,
  )
  const replication = await redis.info('replication')
  if (/^role:slave/m.test(replication))
    problems.push({
      problem: 'it is a replica, which takes no writes',
      mend: 'give the address of the primary, or of Sentinels (ledger.redis.sentinel)',
    })
  const replicas = Number(/^connected_slaves:(\d+)/m.exec(replication)?.[1] ?? 0)
  if (wait && replicas < wait.replicas)
    problems.push({
      problem: `${replicas} replicas are connected, ledger.wait wants ${wait.replicas}`,
      mend: 'connect them: until then nothing is issued',
    })
  if (!wait && replicas > 0)
    problems.push({ problem: 'nothing waits for the replicas', mend: 'set ledger.wait: a failover loses what no replica has' })
  if (replicas > 0) expect('min-replicas-to-write', (value) => Number(value) > 0, 'set min-replicas-to-write 1: a failover loses what no replica has')
  return problems
}

async function versionOf(redis: Redis): Promise<string> {
  const info = await redis.info('server')
  // Valkey says 7.2.4 as its Redis version and its own beside it.
  return /^redis_version:(\S+)/m.exec(info)?.[1] ?? 'unknown'
}

async function configOf(redis: Redis): Promise<Map<string, string> | undefined> {
  const names = ['maxmemory-policy', 'appendonly', 'appendfsync', 'hash-max-listpack-value', 'min-replicas-to-write']
  try {
    const values = await Promise.all(names.map((name) => redis.config('GET', name)))
    return new Map(values.flatMap((pair) => (Array.isArray(pair) && pair.length >= 2 ? [[String(pair[0]), String(pair[1])] as const] : [])))
  } catch {
    return undefined
  }
}

/** What an acknowledged write survives here. */
async function durabilityOf(redis: Redis): Promise<Durability | 'none' | undefined> {
  const config = await configOf(redis)
  if (!config) return undefined
  if (config.get('appendonly') !== 'yes') return 'none'
  const fsync = config.get('appendfsync')
  return fsync === 'always' ? 'strict' : fsync === 'everysec' ? 'everysec' : 'none'
}
