import type { Redis } from 'ioredis'
import { MayflyError } from '../errors.js'
import { type Log, messageOf, RETRY_AFTER_SECONDS } from './connection.js'
import { keys } from './keys.js'
import { type Node, type Nodes, runIdOf } from './nodes.js'
import { createTurns } from './register-reader.js'
import { defineScript } from './script.js'

const markScript = defineScript('mark', 'wait', ['at'])

export interface WaitOptions {
  /** That must have a write before it counts. */
  readonly replicas: number
  readonly timeoutMs: number
}
/** What was written, for metrics: nothing else depends on it. */
export type Written = 'issued' | 'renewed' | 'ended' | 'closed' | 'changed' | 'frozen' | 'revocation' | 'withdrawn'
export type OnWaited = (what: Written, isReplicated: boolean, ms: number) => void

/**
 * Waits until replicas have what was written, so that it survives the loss of the primary. Many requests share one WAIT: what was written
 * before it was sent is covered by it. It has a connection of its own to each server, since it holds up whatever comes after it on the same.
 */
export interface Replication {
  /** Whether all that was written in a partition, up to now and answered, is with the replicas. Does not throw. */
  of(partition: number, what: Written): Promise<boolean>
  /** The same, for what is only remembered: neither counted nor told. */
  isKept(partition: number): Promise<boolean>
  /** The same of every partition. */
  everywhere(what: Written): Promise<boolean>
  stop(): void
}

/** Beyond the timeout, which Redis keeps itself. */
const ANSWER_MS = 1_000
const TELL_AGAIN_MS = 10_000

interface Line {
  readonly redis: Redis
  /** The server process that the connection leads to, undefined while it leads to none. */
  readonly run: () => Promise<string | undefined>
  /** The same of the connection on which things are written. */
  readonly writes: () => Promise<string | undefined>
}
interface Waited {
  readonly isReplicated: boolean
  readonly run: string | undefined
}

export function createReplication(nodes: Nodes, { replicas, timeoutMs }: WaitOptions, log: Log, onWaited: OnWaited = () => undefined): Replication {
  /** State: a line to each server, and when it was last said that replicas are late. */
  const lines = new Map<Node, Line>()
  const inTurn = createTurns<Waited>()
  let toldAt = Number.NEGATIVE_INFINITY

  const lineTo = (node: Node): Line => {
    const known = lines.get(node)
    if (known) return known
    const redis = node.another({ commandTimeout: timeoutMs + ANSWER_MS })
    const line = { redis, run: runOf(redis), writes: runOf(node.redis) }
    redis.connect().catch(() => undefined)
    lines.set(node, line)
    return line
  }
  const follow = (): void => {
    const all = nodes.all()
    for (const node of all) lineTo(node)
    for (const [node, { redis }] of lines) {
      if (all.includes(node)) continue
      lines.delete(node)
      redis.disconnect()
    }
  }

  const wait = async ({ redis, run }: Line, partition: number): Promise<Waited> => {
    const mine = run()
    const marked = markScript.run(redis, keys.wait(partition), { at: Date.now() }, undefined, nodes.isCluster)
    const [, have] = await Promise.all([marked, redis.wait(replicas, timeoutMs)])
    return { isReplicated: Number(have) >= replicas, run: await mine }
  }
  const isWith = async (partition: number): Promise<boolean> => {
    try {
      const node = nodes.of(partition)
      const line = lineTo(node)
      // Where it was written: another server that took its place meanwhile would say of its own writes what is asked of this one's.
      const written = line.writes()
      const waited = await inTurn(node.name, () => wait(line, partition))
      return waited.isReplicated && waited.run !== undefined && waited.run === (await written)
    } catch (error) {
      tell(messageOf(error))
      return false
    }
  }
  const tell = (why: string): void => {
    if (performance.now() - toldAt < TELL_AGAIN_MS) return
    toldAt = performance.now()
    log('warn', 'what was written is not known to be with the replicas', { replicas, why })
  }
  const counted = async (what: Written, look: () => Promise<boolean>): Promise<boolean> => {
    const startedAt = performance.now()
    const isReplicated = await look()
    onWaited(what, isReplicated, performance.now() - startedAt)
    if (!isReplicated) tell(`fewer had it after ${timeoutMs} ms`)
    return isReplicated
  }

  follow()
  nodes.onReturn(follow)
  return {
    isKept: isWith,
    of: (partition, what) => counted(what, () => isWith(partition)),
    everywhere: (what) =>
      counted(what, async () => {
        const held = nodes.all().flatMap((node) => nodes.partitionOf(node) ?? [])
        return (await Promise.all(held.map(isWith))).every(Boolean)
      }),
    stop: () => {
      for (const { redis } of lines.values()) redis.disconnect()
    },
  }
}

/** What may be lost is not handed out. It is written all the same: whoever asked closes it. */
export function notReplicated(): MayflyError {
  return new MayflyError('ledger_unavailable', 'the ledger is unavailable', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    internal: 'too few replicas have what was written (ledger.wait)',
  })
}

/** By the run id. */
function runOf(redis: Redis): () => Promise<string | undefined> {
  /** State: of the connection that there is now; forgotten with it, and where it was not told. */
  let known: Promise<string | undefined> | undefined
  const forget = (): void => {
    known = undefined
  }
  redis.on('ready', forget)
  redis.on('close', forget)
  return () => {
    if (known) return known
    const mine = runIdOf(redis)
    known = mine
    void mine.then((run) => {
      if (run === undefined && known === mine) known = undefined
    })
    return mine
  }
}
