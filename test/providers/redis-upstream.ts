import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import type { Credential } from '../../src/providers/provider.js'
import { closedPort } from '../support/faulty-upstream.js'
import { startRedis, type TestRedis } from '../support/redis.js'

/** The broker's own user, as docs/providers/redis.md says to make it. */
export const BROKER_RULES =
  'reset on ~mf-guard:* +acl|setuser +acl|deluser +acl|getuser +acl|users +set +del +exists +watch +unwatch +multi +exec +discard +time'.split(' ')

export interface RedisUpstream {
  readonly host: string
  readonly port: number
  readonly url: string
  readonly password: string
  readonly redis: TestRedis
  /** A client as the credential's holder would have it; commands on it fail rather than wait. */
  connect(credential: Credential): Promise<Redis>
  users(): Promise<string[]>
}

export async function startRedisUpstream(): Promise<RedisUpstream> {
  const host = '127.0.0.1'
  const port = await closedPort()
  const redis = await startRedis([`port ${port}`, `bind ${host}`])
  const password = randomBytes(16).toString('hex')
  await redis.client.call('ACL', 'SETUSER', 'mayfly', ...BROKER_RULES, `>${password}`)
  return {
    host,
    port,
    password,
    redis,
    url: `redis://mayfly:${password}@${host}:${port}/0`,
    users: async () => ((await redis.client.call('ACL', 'USERS')) as string[]).filter((user) => user.startsWith('mf-')).sort(),
    async connect({ env }) {
      const client = new Redis(env.REDIS_URL ?? '', {
        lazyConnect: true,
        protocol: 2,
        enableReadyCheck: false,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        retryStrategy: () => null,
      })
      client.on('error', () => undefined)
      await client.connect()
      return client
    },
  }
}
