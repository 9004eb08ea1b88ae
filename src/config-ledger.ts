import type { ConfigFile } from './config-schema.js'
import type { ClusterAddress, RedisAddress, Tls } from './ledger/address.js'

export interface LedgerConfig {
  readonly redis: { readonly embedded: true } | RedisAddress
  readonly durability: 'strict' | 'everysec'
  readonly partitions: number
  readonly settledRetentionSeconds: number
  readonly outboxLimit: number
  readonly wait?: { readonly replicas: number; readonly timeoutMs: number }
}

export function ledgerOf({ ledger, audit }: ConfigFile, problems: string[]): LedgerConfig {
  return {
    redis: redisOf(ledger.redis, problems),
    durability: ledger.durability,
    partitions: ledger.partitions,
    settledRetentionSeconds: ledger.settled_retention,
    outboxLimit: audit.outbox_limit,
    wait: ledger.wait && { replicas: ledger.wait.replicas, timeoutMs: ledger.wait.timeout },
  }
}

function redisOf(redis: ConfigFile['ledger']['redis'], problems: string[]): LedgerConfig['redis'] {
  if (redis === 'embedded') return { embedded: true }
  if (typeof redis === 'string') {
    if (!/^(rediss?|unix):/.test(redis))
      problems.push('ledger.redis: must be "embedded", a redis:, rediss: or unix: URL, or {sentinel: …} or {cluster: …}')
    return { url: redis }
  }
  const { sentinel, cluster } = redis
  if ((sentinel === undefined) === (cluster === undefined)) problems.push('ledger.redis: give either "sentinel" or "cluster"')
  if (!sentinel) return { cluster: cluster ? serversOf(cluster) : { nodes: [] } }
  const { name, sentinel_username: sentinelUsername, sentinel_password: sentinelPassword } = sentinel
  return { sentinel: { ...serversOf(sentinel), name, sentinelUsername, sentinelPassword } }
}

type Servers = NonNullable<Extract<ConfigFile['ledger']['redis'], object>['cluster']>

function serversOf({ nodes, username, password, tls }: Servers): ClusterAddress {
  const options: Tls | undefined = tls === true ? {} : tls || undefined
  return { nodes, username, password, tls: options }
}
