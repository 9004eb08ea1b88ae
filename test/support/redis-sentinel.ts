import { infoOf, type RedisServer, startServer } from './redis-server.js'
import { waitFor } from './wait.js'

/** A primary with replicas, and Sentinels that put a replica in its place. */
export interface RedisSentinel {
  /** What `ledger.redis.sentinel` wants. */
  readonly address: { name: string; nodes: { host: string; port: number }[] }
  readonly servers: readonly RedisServer[]
  /** Which server is the primary now, as most Sentinels say. */
  primary(): Promise<RedisServer>
  replicas(): Promise<RedisServer[]>
  stop(): Promise<void>
}

const NAME = 'ledger'
const SENTINELS = 3
/** A busy machine is silent for a while, too. */
export const DOWN_AFTER_MS = 1_000

/** `lineTo`: where a replica reaches the first primary, when that is not where it is. */
export async function startSentinel({
  replicas = 1,
  config = [],
  password,
  lineTo = async (port) => port,
}: {
  replicas?: number
  config?: readonly string[]
  /** Of Redis and of the Sentinels. */
  password?: string
  lineTo?: (port: number) => Promise<number>
} = {}): Promise<RedisSentinel> {
  const first = await startServer(config, { password })
  const line = await lineTo(first.port)
  const others = await Promise.all(Array.from({ length: replicas }, () => startServer([...config, `replicaof 127.0.0.1 ${line}`], { password })))
  const servers = [first, ...others]
  for (const one of others) await waitFor('the replica to follow', async () => (await infoOf(one, 'replication', 'master_link_status')) === 'up')
  const watch = [
    `sentinel monitor ${NAME} 127.0.0.1 ${first.port} 2`,
    `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER_MS}`,
    `sentinel failover-timeout ${NAME} 3000`,
    ...(password === undefined ? [] : [`sentinel auth-pass ${NAME} ${password}`, `sentinel sentinel-pass ${password}`]),
  ]
  const sentinels = await Promise.all(Array.from({ length: SENTINELS }, () => startServer(watch, { sentinel: true, password })))
  const known = async (sentinel: RedisServer) => {
    const [, state] = /status=(\w+)/.exec(await sentinel.client.info('sentinel')) ?? []
    const [, count] = /slaves=(\d+)/.exec(await sentinel.client.info('sentinel')) ?? []
    const [, peers] = /sentinels=(\d+)/.exec(await sentinel.client.info('sentinel')) ?? []
    return state === 'ok' && Number(count) >= replicas && Number(peers) === SENTINELS
  }
  for (const sentinel of sentinels) await waitFor('the Sentinels to know all', () => known(sentinel), 20_000)
  const primary = async () => {
    const ports = await Promise.all(
      sentinels.map(async ({ client }) => Number(listOf(await client.call('SENTINEL', 'get-master-addr-by-name', NAME))[1])),
    )
    const most = ports.sort((a, b) => ports.filter((port) => port === b).length - ports.filter((port) => port === a).length)[0]
    const found = servers.find(({ port }) => port === most)
    if (!found) throw new Error('the Sentinels know no primary')
    return found
  }
  return {
    address: { name: NAME, nodes: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })) },
    servers,
    primary,
    replicas: async () => {
      const now = await primary()
      return servers.filter((one) => one !== now)
    },
    stop: async () => {
      await Promise.all([...sentinels, ...servers].map((one) => one.stop()))
    },
  }
}

function listOf(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : []
}
