import type { Redis } from 'ioredis'

export interface Problem {
  readonly problem: string
  /** How to mend it. */
  readonly mend: string
}
export type Durability = 'strict' | 'everysec'

const LEAST_VERSION = [7, 0]
/** A lease's fields are shorter than this, and its hash takes half the memory. */
const LISTPACK_VALUE = 1024

/** What this Redis is not that a ledger needs. Where it hides its configuration (managed services do), that is said instead. */
export async function preflight(redis: Redis, options: { durability: Durability }): Promise<Problem[]> {
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
  const fsync = options.durability === 'strict' ? ['always'] : ['always', 'everysec']
  if (config.get('appendonly') === 'yes')
    expect(
      'appendfsync',
      (value) => fsync.includes(value),
      options.durability === 'strict' ? 'set appendfsync always, or `durability: everysec`' : 'set appendfsync everysec or always',
    )
  expect(
    'hash-max-listpack-value',
    (value) => Number(value) >= LISTPACK_VALUE,
    `set hash-max-listpack-value ${LISTPACK_VALUE}: a lease takes twice the memory without it`,
  )
  if (/^connected_slaves:[1-9]/m.test(await redis.info('replication')))
    expect('min-replicas-to-write', (value) => Number(value) > 0, 'set min-replicas-to-write 1: a failover loses what no replica has')
  return problems
}

export async function versionOf(redis: Redis): Promise<string> {
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
export async function durabilityOf(redis: Redis): Promise<'strict' | 'everysec' | 'none' | undefined> {
  const config = await configOf(redis)
  if (!config) return undefined
  if (config.get('appendonly') !== 'yes') return 'none'
  const fsync = config.get('appendfsync')
  return fsync === 'always' ? 'strict' : fsync === 'everysec' ? 'everysec' : 'none'
}
