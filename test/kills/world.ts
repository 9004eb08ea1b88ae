import { type Prepared, prepare } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

export const INSTANCE = 'kills'
export const ROLE = 'warehouse-read'

/** What the brokers of all lives share: one Redis, one PostgreSQL, one configuration. */
export interface World {
  readonly redis: TestRedis
  readonly postgres: TestPostgres
  readonly prepared: Prepared
  stop(): Promise<void>
}

export async function startWorld(): Promise<World> {
  const [redis, postgres] = await Promise.all([
    startRedis(['appendonly yes', 'appendfsync everysec']),
    // Thousands of statements; what they were is of no use here.
    startPostgres({ settings: ['log_statement=none', 'log_connections=off'] }),
  ])
  const prepared = await prepare({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    instance: INSTANCE,
    partitions: 4,
    // Policies cost a start more than all the rest; these are what the workload needs.
    shipped: ['tasks', 'operators'],
    policy: '@id("read") permit(principal is Agent, action == Action::"read", resource);',
    agents: '  - {id: "{sub}", match: {issuer: test, sub: "slot-*"}, owner: sre@example.com, autonomy: scripted, team: platform}\n',
    limits: '{requests_per_second: 100000, per_agent_live: 100000, per_task_live: 1000}',
  })
  return {
    redis,
    postgres,
    prepared,
    async stop() {
      await Promise.all([redis.stop(), postgres.stop()])
    },
  }
}
