import { freePort, infoOf, type RedisServer, startServer } from './redis-server.js'
import { waitFor } from './wait.js'

/** A real Cluster on loopback: primaries with the slots between them, and a replica of each. */
export interface RedisCluster {
  /** What `ledger.redis.cluster` wants. */
  readonly address: { nodes: { host: string; port: number }[] }
  readonly servers: readonly ClusterServer[]
  /** Who holds a slot now, as most servers that answer say. */
  holderOf(slot: number): Promise<ClusterServer>
  replicaOf(primary: ClusterServer): ClusterServer
  /** Moves a slot with all that is in it, as `redis-cli --cluster reshard` would; `halfway` runs when some of the keys have moved. */
  moveSlot(slot: number, to: ClusterServer, halfway?: () => Promise<void>): Promise<void>
  stop(): Promise<void>
}
export interface ClusterServer extends RedisServer {
  readonly id: string
}

const HOST = '127.0.0.1'
const SLOTS = 16_384
const KEYS_AT_ONCE = 20

export async function startCluster({
  primaries = 3,
  replicas = true,
  config = [] as readonly string[],
  password = undefined as string | undefined,
} = {}): Promise<RedisCluster> {
  const count = replicas ? primaries * 2 : primaries
  const busPorts = await Promise.all(Array.from({ length: count }, freePort))
  const settings = ['cluster-enabled yes', 'cluster-node-timeout 1000', 'cluster-replica-validity-factor 0', 'cluster-allow-replica-migration no']
  const servers = await Promise.all(
    busPorts.map(async (bus): Promise<ClusterServer> => {
      const server = await startServer([...settings, `cluster-port ${bus}`, ...config], { password })
      return Object.assign(server, { id: String(await server.client.cluster('MYID')) })
    }),
  )
  const firsts = servers.slice(0, primaries)
  const share = Math.ceil(SLOTS / primaries)
  for (const [at, { client }] of firsts.entries()) await client.call('CLUSTER', 'ADDSLOTSRANGE', at * share, Math.min(SLOTS, (at + 1) * share) - 1)
  for (const [at, { client }] of servers.entries()) await client.call('CLUSTER', 'SET-CONFIG-EPOCH', at + 1)
  for (const [at, { port }] of servers.entries()) if (at > 0) await firsts[0]?.client.call('CLUSTER', 'MEET', HOST, port, busPorts[at] ?? 0)
  const knows = async ({ client }: RedisServer, ids: readonly string[]) => {
    const seen = String(await client.call('CLUSTER', 'NODES'))
    return ids.every((id) => seen.includes(id)) && !seen.includes('handshake')
  }
  const ids = servers.map(({ id }) => id)
  for (const server of servers) await waitFor('the servers to know each other', () => knows(server, ids), 20_000)
  const replicaOf = (primary: ClusterServer): ClusterServer => {
    const at = servers.indexOf(primary)
    return servers[(at + primaries) % count] ?? primary
  }
  for (const primary of replicas ? firsts : []) {
    const replica = replicaOf(primary)
    await replica.client.call('CLUSTER', 'REPLICATE', primary.id)
    await waitFor('the replica to follow', async () => (await infoOf(replica, 'replication', 'master_link_status')) === 'up')
  }
  for (const { client } of servers)
    await waitFor('the Cluster to serve', async () => String(await client.cluster('INFO')).includes('cluster_state:ok'), 20_000)

  const holderOf = async (slot: number): Promise<ClusterServer> => {
    const votes = await Promise.all(servers.filter(isUp).map(async ({ client }) => holderIn(await client.cluster('SLOTS'), slot)))
    const port = votes.sort((a, b) => votes.filter((vote) => vote === b).length - votes.filter((vote) => vote === a).length)[0]
    const found = servers.find((one) => one.port === port)
    if (!found) throw new Error(`nobody holds slot ${slot}`)
    return found
  }
  return {
    address: { nodes: servers.map(({ port }) => ({ host: HOST, port })) },
    servers,
    holderOf,
    replicaOf,
    moveSlot: async (slot, to, halfway) => {
      const from = await holderOf(slot)
      await to.client.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id)
      await from.client.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id)
      let isHalfway = false
      for (;;) {
        const keys = await from.client.cluster('GETKEYSINSLOT', slot, KEYS_AT_ONCE)
        if (keys.length === 0) break
        await from.client.call('MIGRATE', HOST, to.port, '', 0, 5_000, 'KEYS', ...keys)
        if (!isHalfway) await halfway?.()
        isHalfway = true
      }
      await to.client.call('CLUSTER', 'SETSLOT', slot, 'NODE', to.id)
      await from.client.call('CLUSTER', 'SETSLOT', slot, 'NODE', to.id)
    },
    stop: async () => {
      await Promise.all(servers.map((one) => one.stop()))
    },
  }
}

function isUp({ client }: RedisServer): boolean {
  return client.status === 'ready'
}

function holderIn(ranges: readonly unknown[], slot: number): number | undefined {
  for (const range of ranges) {
    if (!Array.isArray(range)) continue
    const [from, to, holder] = range
    if (from <= slot && slot <= to && Array.isArray(holder)) return Number(holder[1])
  }
  return undefined
}
