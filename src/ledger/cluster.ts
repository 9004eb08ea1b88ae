import { setImmediate } from 'node:timers/promises'
import { Command, type Redis, type RedisOptions } from 'ioredis'
import { MayflyError } from '../errors.js'
import type { ClusterAddress, HostAndPort } from './address.js'
import { type Log, messageOf, open, unreachable } from './connection.js'
import { keys, META } from './keys.js'
import { leave, type Node, type Nodes } from './nodes.js'
import { listOf, numberOf, textOf } from './reply.js'

/**
 * A Redis Cluster, as one connection for each server that holds a partition. Not ioredis's own client for it: that one follows a slot to
 * wherever it went before anybody could bring the freezes there, runs scripts on a half of a slot (ASK), and sends again what may have
 * been done. Here a command is sent once, and once more only after MOVED, which says that it was not done.
 */

/** While some server does not answer, or has gone. */
const LOOK_AGAIN_MS = 250
/** For one server to say who holds what. */
const SLOTS_TIMEOUT_MS = 1_000
/** A server that holds something by now is waited for this long, so that what is asked of it is not refused for nothing. */
const REACH_MS = 2_000
/** Of what moved away, answers are still due. */
const LEAVE_MS = 3_000

/** Which server holds what, by name: the partitions in their order, `mf:meta` last. */
type View = readonly string[]

export async function connectCluster(address: ClusterAddress, partitions: number, log: Log): Promise<Nodes> {
  const { nodes: seeds, username, password, tls } = address
  const slots = [...Array.from({ length: partitions }, (_, partition) => slotOf(keys.prefix(partition))), slotOf(META)]
  /** State: the servers by name, and who holds what, in the order of `slots`. */
  const known = new Map<string, Node>()
  let owners: readonly Node[] = []
  const listeners = new Set<() => void>()
  let looking: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  let subscription: { channel: string; listener: Parameters<Nodes['subscribe']>[1]; node: Node; redis: Redis } | undefined

  const nodeAt = ({ host, port }: HostAndPort): Node => {
    const name = `${host}:${port}`
    const another = (overrides?: RedisOptions) => open({ server: { host, port, username, password, tls } }, log, overrides)
    return { name, redis: another(), another }
  }
  const tell = () => {
    for (const listener of listeners) listener()
  }
  const isIn = (node: Node) => owners.includes(node)

  /** Connects by itself from now on; what it says afterwards counts while it holds something. */
  const admit = async (node: Node): Promise<void> => {
    known.set(node.name, node)
    node.redis.on('ready', () => {
      if (isIn(node)) tell()
    })
    node.redis.on('close', () => {
      if (isIn(node)) later()
    })
    await within(REACH_MS, node.redis.connect()).catch(() => undefined)
  }

  const later = (): void => {
    if (isOver) return
    timer ??= setTimeout(() => {
      timer = undefined
      void look()
    }, LOOK_AGAIN_MS).unref()
  }

  const views = async (): Promise<View[]> => {
    const asked = [...known.values()].filter(({ redis }) => redis.status === 'ready')
    const told = await Promise.all(asked.map(({ name, redis }) => viewOf(redis, name, slots)))
    const found = told.filter((view) => view !== undefined)
    if (found.length > 0) return found
    // Nobody known is there: as at the start.
    for (const seed of seeds) {
      const { name, redis } = nodeAt(seed)
      try {
        await within(REACH_MS, redis.connect())
        const view = await viewOf(redis, name, slots)
        if (view) return [view]
      } catch (error) {
        lastTrouble = error
      } finally {
        redis.disconnect()
      }
    }
    return []
  }
  let lastTrouble: unknown

  const lookNow = async (): Promise<void> => {
    const names = mostSaid(await views(), slots.length)
    if (isOver) return
    const missing = names.some((name) => name === undefined)
    // A Cluster that has lost a server says so of its slots; until another has them, they stay where they were.
    const next = names.map((name, at) => name ?? owners[at]?.name)
    const coming = [...new Set(next)].filter((name) => name !== undefined && !known.has(name))
    await Promise.all(coming.map((name) => admit(nodeAt(hostAndPort(name ?? '')))))
    // In a turn of its own: whoever has asked already whether it may be issued has sent what it has to send.
    await setImmediate()
    if (isOver) return
    const then = next.map((name) => (name === undefined ? undefined : known.get(name))).filter((node) => node !== undefined)
    if (then.length < slots.length) return
    const moved = then.some((node, at) => node !== owners[at])
    const isFirst = owners.length === 0
    owners = then
    if (moved && !isFirst) {
      log('info', 'partitions are held by other servers of the Cluster', { servers: [...new Set(then.map(({ name }) => name))] })
      tell()
      void follow()
    }
    for (const node of known.values()) if (!isIn(node)) dismiss(node)
    if (missing || then.some(({ redis }) => redis.status !== 'ready')) later()
  }
  const look = (): Promise<void> => {
    looking ??= lookNow()
      .catch((error: unknown) => log('warn', 'who holds what in the Cluster cannot be found out', { error: messageOf(error) }))
      .finally(() => {
        looking = undefined
      })
    return looking
  }

  const dismiss = (node: Node): void => {
    known.delete(node.name)
    setTimeout(() => node.redis.disconnect(), LEAVE_MS).unref()
  }

  /** What is published reaches every server: it is heard where the first partition is. */
  const follow = async (): Promise<void> => {
    if (!subscription || subscription.node === owners[0] || !owners[0]) return
    const { channel, listener, redis } = subscription
    redis.disconnect()
    await listen(channel, listener).catch((error: unknown) => log('warn', 'nothing is heard from other brokers', { error: messageOf(error) }))
  }
  const listen = async (channel: string, listener: Parameters<Nodes['subscribe']>[1]): Promise<void> => {
    const node = ownerAt(0)
    const redis = node.another({ commandTimeout: undefined })
    subscription = { channel, listener, node, redis }
    redis.on('message', listener)
    // Whenever it is there again: what was never begun is not begun again by itself.
    redis.on('ready', () => void redis.subscribe(channel).catch(() => undefined))
    await redis.connect()
  }
  const ownerAt = (at: number): Node => {
    const node = owners[at]
    if (!node) throw unreachable('no server of the Cluster holds it')
    return node
  }
  const disconnect = async (): Promise<void> => {
    isOver = true
    clearTimeout(timer)
    subscription?.redis.disconnect()
    await Promise.all([...known.values()].map(({ redis }) => leave(redis)))
  }

  await lookNow()
  const absent = owners.filter(({ redis }) => redis.status !== 'ready')
  if (owners.length === 0 || absent.length > 0) {
    await disconnect()
    throw absent[0] ? unreachable(`${absent[0].name} does not answer`) : notServing(lastTrouble)
  }
  return {
    isCluster: true,
    of: ownerAt,
    meta: () => ownerAt(partitions),
    partitionOf: (node) => {
      const at = owners.indexOf(node)
      return at >= 0 && at < partitions ? at : undefined
    },
    all: () => [...new Set(owners)],
    look,
    doubt: later,
    again: tell,
    onReturn: (listener) => {
      listeners.add(listener)
    },
    subscribe: listen,
    disconnect,
  }
}

/** Who holds each slot, as one server sees it; '' where it knows nobody. Undefined: it does not say. */
async function viewOf(redis: Redis, name: string, slots: readonly number[]): Promise<View | undefined> {
  try {
    const ranges = listOf(await within(SLOTS_TIMEOUT_MS, redis.cluster('SLOTS'))).map(rangeOf)
    return slots.map((slot) => {
      const holder = ranges.find(({ from, to }) => from <= slot && slot <= to)
      if (!holder) return ''
      // It does not know under which name it is called: under this one.
      const { host, port } = holder
      return `${host === '' || host === '?' ? hostAndPort(name).host : host}:${port}`
    })
  } catch {
    return undefined
  }
}

/** https://redis.io/docs/latest/commands/cluster-slots/: first and last slot, then the primary as host (or nil), port, and more. */
function rangeOf(reply: unknown): { from: number; to: number } & HostAndPort {
  const [from, to, primary] = listOf(reply)
  const [host, port] = listOf(primary)
  return { from: numberOf(from), to: numberOf(to), host: textOf(host), port: numberOf(port) }
}

/** For each slot, the holder that most servers name: one that is cut off from the rest still names itself. */
export function mostSaid(views: readonly View[], slots: number): (string | undefined)[] {
  return Array.from({ length: slots }, (_, at) => {
    const votes = new Map<string, number>()
    for (const view of views) {
      const name = view[at]
      if (name) votes.set(name, (votes.get(name) ?? 0) + 1)
    }
    return [...votes].sort(([, a], [, b]) => b - a)[0]?.[0]
  })
}

function slotOf(key: string): number {
  return new Command('exists', [key]).getSlot()
}

function hostAndPort(name: string): HostAndPort {
  const at = name.lastIndexOf(':')
  return { host: name.slice(0, at), port: Number(name.slice(at + 1)) }
}

function notServing(trouble: unknown): MayflyError {
  if (trouble !== undefined) return unreachable(trouble)
  return new MayflyError('ledger_unavailable', 'the Redis Cluster does not serve all slots', {
    next: 'check `redis-cli --cluster check`, and that ledger.redis names servers of a Cluster',
  })
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
