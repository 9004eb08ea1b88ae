import type { Redis, RedisOptions } from 'ioredis'
import type { RedisAddress } from './address.js'
import { connectCluster } from './cluster.js'
import { connect, type Log, type OneAddress, open } from './connection.js'
import { watchSwitch } from './sentinel.js'

/** One Redis server that holds partitions, with the connection that everything but subscribing and waiting goes through. */
export interface Node {
  /** For people. */
  readonly name: string
  readonly redis: Redis
  /** For what may not wait behind all that goes through the other, where there is one that leads to the same server just now. */
  readonly urgent?: () => Redis | undefined
  /** One more connection to it, which connects by itself. */
  another(overrides?: RedisOptions): Redis
}

/** The servers that the ledger is on: one, or those of a Cluster. */
export interface Nodes {
  /** Of several servers, each with slots that may move. */
  readonly isCluster: boolean
  /** Who holds a partition, by the last that is known. */
  of(partition: number): Node
  /** Who holds `mf:meta`. */
  meta(): Node
  /** One that this server holds; none where it has `mf:meta` alone. */
  partitionOf(node: Node): number | undefined
  /** Everybody who holds a partition, each once. */
  all(): readonly Node[]
  /** Looks for who holds what: after an answer that it is elsewhere. Does not throw. */
  look(): Promise<void>
  /** Has a look soon: after no answer, or one that it cannot be done now. */
  doubt(): void
  /** Connects anew, where what was found cannot be used. */
  again(): void
  /** Called, before anything is sent to it, when a server came back or a partition has another. */
  onReturn(listener: () => void): void
  subscribe(channel: string, listener: (channel: string, message: string) => void): Promise<void>
  disconnect(): Promise<void>
}

/** Connected to everything, or an error that says what is wrong. */
export async function connectNodes(address: RedisAddress, partitions: number, log: Log): Promise<Nodes> {
  return 'cluster' in address ? connectCluster(address.cluster, partitions, log) : connectOne(address, log)
}

async function connectOne(address: OneAddress, log: Log): Promise<Nodes> {
  const redis = await connect(address, log)
  /** State: every connection, and the subscription among them. */
  const connections = new Set([redis])
  let subscriber: Redis | undefined
  const another = (overrides?: RedisOptions) => {
    const more = open(address, log, overrides)
    connections.add(more)
    more.once('end', () => connections.delete(more))
    return more
  }
  const watch =
    'sentinel' in address
      ? watchSwitch(address.sentinel, () => {
          log('info', 'the Sentinels have another primary', {})
          for (const one of connections) again(one)
        })
      : undefined
  const { urgent, isSame } = createTwin(redis, another)
  return {
    ...oneNode(redis, nameOf(address), another, () => (isSame() ? urgent : undefined)),
    subscribe: async (channel, listener) => {
      subscriber = another({ commandTimeout: undefined })
      subscriber.on('message', listener)
      await subscriber.connect()
      await subscriber.subscribe(channel)
    },
    disconnect: async () => {
      watch?.stop()
      subscriber?.disconnect()
      urgent.disconnect()
      await leave(redis)
    },
  }
}

/** A connection that there is already. */
export function oneNode(
  redis: Redis,
  name = 'Redis',
  another: Node['another'] = (overrides) => redis.duplicate(overrides),
  urgent?: Node['urgent'],
): Nodes {
  const node: Node = { name, redis, another, urgent }
  const only = [node]
  return {
    isCluster: false,
    of: () => node,
    meta: () => node,
    partitionOf: () => 0,
    all: () => only,
    look: async () => undefined,
    doubt: () => undefined,
    again: () => again(redis),
    onReturn: (listener) => {
      redis.on('ready', listener)
    },
    subscribe: async () => undefined,
    disconnect: () => leave(redis),
  }
}

/** A second connection, and whether both lead to the same server process: one that is seldom used does not notice by itself that another took its place. */
function createTwin(redis: Redis, another: Node['another']): { urgent: Redis; isSame: () => boolean } {
  // Where it cannot be had, the other will do, and it tries again by itself.
  const urgent = another({ sentinelRetryStrategy: (times) => Math.min(times * TWIN_RETRY_MS, MOST_TWIN_RETRY_MS) })
  /** State: known to be so, of the connections that there are now. */
  let same = false
  let turn = 0
  const compare = async (): Promise<void> => {
    const mine = ++turn
    same = false
    if (redis.status !== 'ready' || urgent.status !== 'ready') return
    const [one, two] = await Promise.all([redis, urgent].map(runIdOf))
    if (mine === turn) same = one !== undefined && one === two
  }
  const part = (): void => {
    turn++
    same = false
  }
  for (const each of [redis, urgent]) {
    each.on('ready', () => void compare())
    each.on('close', part)
  }
  redis.on('close', () => again(urgent))
  urgent.connect().catch(() => undefined)
  return { urgent, isSame: () => same }
}
const TWIN_RETRY_MS = 50
const MOST_TWIN_RETRY_MS = 1_000

/** Another process at the same address has another; undefined where it does not say. */
export function runIdOf(redis: Redis): Promise<string | undefined> {
  return redis.info('server').then(
    (info) => /^run_id:(\w+)/m.exec(info)?.[1],
    () => undefined,
  )
}

/** One that is on its way already is left alone: ioredis gives up for good when it is disturbed while it asks the Sentinels. */
function again(redis: Redis): void {
  if (redis.status === 'ready') redis.disconnect(true)
}

/** What is in flight may still be answered; a Redis that is gone is no reason to wait. */
export async function leave(redis: Redis): Promise<void> {
  await redis.quit().catch(() => redis.disconnect())
}

function nameOf(address: OneAddress): string {
  if ('socketPath' in address) return address.socketPath
  if ('sentinel' in address) return `the primary "${address.sentinel.name}"`
  if ('server' in address) return `${address.server.host}:${address.server.port}`
  return URL.canParse(address.url) ? new URL(address.url).host || new URL(address.url).pathname : 'Redis'
}
