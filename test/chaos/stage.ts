import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { BROKER_RULES } from '../providers/redis-upstream.js'
import { type Prepared, prepare } from '../support/broker.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { type BrokerSlot, createBrokerSlot } from './broker-slot.js'
import { INSTANCE, PARTITIONS } from './installation.js'
import { LINKS, type Link } from './plan.js'
import { type LinkProxy, startProxy } from './proxy.js'
import { randomOf } from './random.js'

export interface StagedBroker extends BrokerSlot {
  /** Between this broker and everything that it talks to. */
  readonly links: Readonly<Record<Link, LinkProxy>>
  /** Of its JSONL sink. */
  readonly sink: string
}
/** Everything that runs, each in a process of its own. */
export interface Stage {
  readonly redis: TestRedis
  readonly cache: TestRedis
  readonly postgres: TestPostgres
  readonly brokers: readonly StagedBroker[]
  readonly signing: string
  token(sub: string): Promise<string>
  stop(): Promise<void>
}

const DURABLE = ['appendonly yes', 'appendfsync always']

export async function startStage({
  brokers: count,
  seed,
  folder,
  onCrash,
}: {
  brokers: number
  seed: number
  folder: string
  onCrash: (what: string) => void
}): Promise<Stage> {
  const [redis, cache, postgres] = await Promise.all([startRedis(DURABLE), startRedis(), startPostgres()])
  const secret = randomBytes(16).toString('hex')
  await cache.client.call('ACL', 'SETUSER', 'mayfly', ...BROKER_RULES, `>${secret}`)
  const warehouse = new URL(await postgres.createBroker(['reporting_ro']))
  const targets = {
    ledger: { path: redis.socketPath },
    warehouse: { host: postgres.host, port: postgres.port },
    cache: { path: cache.socketPath },
  }
  /** The first one makes the ledger; no start after that may take an empty Redis for a first start. */
  const stageBroker = async (index: number, like?: Prepared): Promise<{ broker: StagedBroker; prepared: Prepared }> => {
    const links = Object.fromEntries(
      await Promise.all(LINKS.map(async (link) => [link, await startProxy(targets[link], randomOf(seed, `${link} of ${index}`).next)])),
    ) as Record<Link, LinkProxy>
    const prepared = await prepare({ ...CONFIGURED, redisSocket: redis.socketPath, postgresUrl: warehouse.href, like })
    const url = new URL(warehouse)
    url.port = String(links.warehouse.port)
    const env = {
      ...prepared.env,
      REDIS_URL: `redis://127.0.0.1:${links.ledger.port}`,
      WAREHOUSE_URL: url.href,
      CACHE_URL: `redis://mayfly:${secret}@127.0.0.1:${links.cache.port}/0`,
    }
    const log = join(folder, `broker-${index}.log`)
    const slot = createBrokerSlot({ configPath: prepared.configPath, env, log, onCrash: (why) => onCrash(`broker ${index} ${why}`) })
    await slot.start({ initLedger: like === undefined })
    return { broker: { ...slot, links, sink: join(prepared.folder, 'audit/events.jsonl') }, prepared }
  }
  const first = await stageBroker(0)
  const others = await Promise.all(Array.from({ length: count - 1 }, (_, index) => stageBroker(index + 1, first.prepared)))
  const brokers = [first, ...others].map(({ broker }) => broker)
  // Whatever ends this process, nothing that it started goes on; PostgreSQL sees to that itself.
  process.once('exit', () => {
    for (const broker of brokers) void broker.kill()
    for (const server of [redis, cache]) void server.kill()
  })
  return {
    redis,
    cache,
    postgres,
    brokers,
    signing: first.prepared.env.SIGNING ?? '',
    token: first.prepared.token,
    async stop() {
      await Promise.all(brokers.map((broker) => broker.kill()))
      await Promise.all(brokers.flatMap(({ links }) => Object.values(links).map((link) => link.close())))
      await Promise.all([redis.stop(), cache.stop(), postgres.stop()])
    },
  }
}

const CONFIGURED = {
  instance: INSTANCE,
  partitions: PARTITIONS,
  postgresTimeout: '3s',
  agents: '  - {id: "{sub}", match: {issuer: test, sub: "worker-*"}, owner: chaos@example.com, autonomy: supervised, team: platform}\n',
  providers: '  cache: {type: redis, url: env:CACHE_URL, timeout: 3s}',
  roles:
    '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 10m, max_lifetime: 30m, params: {keys: ["reports:*"], commands: ["+@read"]}}',
  // Written for policies that are tried here, not for one agent's conduct: twelve agents do the work of hundreds.
  more: 'risk: {enabled: false}\n',
  env: { CACHE_URL: '' },
}
