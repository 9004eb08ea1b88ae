import { randomInt, randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { MayflyError } from '../errors.js'
import { partsOf } from '../stream-id.js'
import type { Event, Freeze, Quarantine, QuarantineReport } from '../types.js'
import { asLedgerError, messageOf } from './connection.js'
import type { FreezeCalls } from './freezes.js'
import { keys, META, newId } from './keys.js'
import type { Ledger } from './ledger.js'
import { numberOf } from './reply.js'
import { defineScript, type Script } from './script.js'
import { ofReachable, type Store } from './store.js'
import { isBehind, type Outside, type Standing, standingOf } from './witness.js'

const standingScript = defineScript('standing', 'freezes', [])
const armScript = defineScript('arm', 'freezes', ['least_ms', 'least', 'mark', 'event'])
const enterScript = defineScript('enter-quarantine', 'meta', ['least', 'since', 'record'])
const liftScript = defineScript('lift-quarantine', 'meta', ['generation', 'record'])
const beatScript = defineScript('beat', 'meta', ['name', 'keep_ms', 'report'])

const BEAT_MS = 1_000
const DAY_MS = 86_400_000
const KEEP_BEATS_MS = 30 * DAY_MS
/** Partitions that the record of a quarantine names. */
const MOST_BEHIND = 100
const EVERYTHING = { all: true } as const

export interface QuarantineCalls extends Pick<Ledger, 'quarantined' | 'quarantine' | 'liftQuarantine' | 'unread' | 'noteRead' | 'onQuarantine'> {
  /** Looks where the ledger stands, and joins or enters a quarantine; before anything is issued, at the start and whenever Redis came back. */
  settle(): Promise<void>
  /** The same if what was found on the way says that it is due. Never throws. */
  observe(known: readonly Standing[], found: ReadonlyMap<number, Standing>): void
}

/** What the ledger says of itself in `mf:meta`. */
interface Meta {
  readonly ledger: string
  readonly generation: number
  /** 0: this broker left none. */
  readonly beat: number
  /** Of the last one, open or not. */
  readonly record?: Quarantine
  /** By generation: what was told from then on may have been lost at it. */
  readonly since: ReadonlyMap<number, number>
  readonly reads: readonly QuarantineReport[]
}

/** Recognises a Redis that went backwards, by what this broker remembers and by `outside`; what follows from it is `../quarantine.ts`. */
export function quarantineCalls(store: Store, freezes: Pick<FreezeCalls, 'apply'>, outside: Outside | undefined): QuarantineCalls {
  /** State: what this broker goes by. */
  let joined: { ledger: string; generation: number } | undefined
  let record: Quarantine | undefined
  let isLost = false
  let owed: { since: number; generation: number } | undefined
  let beatAt = Number.NEGATIVE_INFINITY
  let underWay: Promise<void> | undefined
  const listeners = new Set<() => void>()

  const onMeta = async <T>(command: (redis: Redis) => Promise<T>): Promise<T> => {
    try {
      return await command(store.nodes.meta().redis)
    } catch (error) {
      throw asLedgerError(error)
    }
  }
  const runOnMeta = <Arg extends string>(script: Script<Arg>, args: Readonly<Record<Arg, string | number>>) =>
    onMeta((redis) => script.run(redis, META, args, undefined, store.nodes.isCluster))

  const readMeta = async (): Promise<Meta | undefined> => {
    const fields = await onMeta((redis) => redis.hgetall(META))
    if (fields.schema === undefined) return undefined
    if (fields.ledger === undefined) {
      // Made by a version that gave it no id.
      await onMeta((redis) => redis.hsetnx(META, 'ledger', randomUUID()))
      return readMeta()
    }
    return metaOf(fields, outside?.name)
  }
  /** Of the partitions that can be reached; the others are looked at when they are back, before anything is issued there. */
  const standings = async (): Promise<ReadonlyMap<number, Standing>> =>
    (await ofReachable(store, async (partition) => standingOf(await store.run(standingScript, keys.freezes(partition), {})))).answers

  /** Why the ledger is not the one that this broker knows, if it is not. */
  const doubt = (
    meta: Meta,
    known: readonly Standing[],
    found: ReadonlyMap<number, Standing>,
  ): Pick<Quarantine, 'reason' | 'since' | 'behind'> | undefined => {
    const kept = outside?.kept()
    const mine = joined ?? kept
    if (mine && mine.ledger !== meta.ledger) return meta.record ? undefined : { reason: 'another', since: 0, behind: [] }
    // Others have found it out: what was known before is of no use.
    if (mine && meta.generation > mine.generation) return undefined
    const behind = [...found].flatMap(([partition, one]) => {
      const before = known[partition]
      return before && isBehind(one, before) ? [{ partition, found: one.last, known: before.last }] : []
    })
    // That of a broker that was away for so long is removed, and missing it says nothing.
    const beatAt = kept && (meta.beat > 0 || kept.beat > store.clock.now() - KEEP_BEATS_MS + DAY_MS) ? kept.beat : 0
    const isOlder = mine !== undefined && (meta.generation < mine.generation || meta.beat < beatAt)
    if (behind.length === 0 && !isOlder) return undefined
    const first = meta.beat > 0 ? meta.beat : Math.min(...behind.map((one) => partsOf(one.found)[0]))
    return { reason: 'behind', since: Number.isFinite(first) ? first : 0, behind: behind.slice(0, MOST_BEHIND) }
  }

  const enter = async (why: Pick<Quarantine, 'reason' | 'since' | 'behind'>): Promise<void> => {
    const freeze = newId('freeze', randomInt(store.options.partitions))
    const written = { ...why, freeze, at: store.clock.now(), by: outside?.name ?? '' }
    const least = Math.max(joined?.generation ?? 0, outside?.kept()?.generation ?? 0)
    await runOnMeta(enterScript, { least, since: why.since, record: JSON.stringify(written) })
    store.log('error', 'Redis went backwards: nothing is issued until an operator says so', { ...why, behind: why.behind.length })
  }

  /** Each partition issues nothing from here on, and stands behind everything that this broker knows, so that nobody finds it again. */
  const join = async (open: Quarantine, known: readonly Standing[]): Promise<ReadonlyMap<number, Standing>> => {
    const { reason, since, generation } = open
    const told = (type: 'quarantine.entered' | 'quarantine.behind'): Event => ({ id: randomUUID(), type, detail: { reason, since, generation } })
    await freezes.apply({ frozen: true, freeze: freezeOf(open) }, told('quarantine.entered'))
    const { answers } = await ofReachable(store, async (partition) => {
      const { last, mark } = known[partition] ?? { last: '', mark: 0 }
      const args = { least_ms: partsOf(last)[0], least: last, mark, event: JSON.stringify(told('quarantine.behind')) }
      return standingOf(await store.run(armScript, keys.freezes(partition), args))
    })
    return answers
  }

  const settle = async (): Promise<void> => {
    const known = store.witness.known()
    let meta = await readMeta().catch(async (error: unknown) => {
      // Of a Cluster, the others go on without the server that holds it, as long as nothing is wrong with them.
      if (!store.nodes.isCluster || !joined || !(error instanceof MayflyError)) throw error
      for (const [partition, standing] of await standings()) if (isBehind(standing, known[partition])) throw error
      return 'away' as const
    })
    if (meta === 'away') return
    if (!meta) {
      if (!isLost) store.log('error', 'Redis holds no ledger any more: nothing is issued', { next: 'restore it, or mayfly ledger init --after-loss' })
      isLost = true
      return
    }
    let found = await standings()
    const why = doubt(meta, known, found)
    if (why) {
      await enter(why)
      meta = (await readMeta()) ?? meta
    }
    const open = openOf(meta.record)
    if (open) found = await join(open, known)
    else {
      const { record: over } = meta
      if (over?.lifted && [...found.values()].some(({ quarantine }) => quarantine.includes(over.freeze)))
        await freezes.apply({ frozen: false, freeze: { ...freezeOf(over), generation: over.lifted.generation } }, liftedEvent(over))
      const unarmed = { least_ms: 0, least: '', mark: 0, event: '' }
      const armed = await Promise.all(
        [...found].map(async ([partition, standing]) => {
          if (standing.mark > 0) return [partition, standing] as const
          // Where it cannot be done now nothing is issued, and it is tried again.
          const reply = store.run(armScript, keys.freezes(partition), unarmed).then(standingOf)
          return [partition, await reply.catch(() => standing)] as const
        }),
      )
      found = new Map(armed)
    }
    for (const [partition, standing] of found) store.witness.accept(partition, standing)
    await accept(meta)
  }

  const accept = async (meta: Meta): Promise<void> => {
    const { ledger, generation } = meta
    const before = `${joined?.generation} ${record?.lifted?.at} ${isLost}`
    joined = { ledger, generation }
    record = meta.record
    isLost = false
    const kept = outside?.kept()
    const read = kept && kept.ledger === ledger ? kept.generation : 0
    if (kept && read < generation) owed = { generation, since: sinceOf(meta, read) }
    else if (outside && !kept) await outside.note({ ledger, generation, beat: 0 })
    // Whatever was known of the generation before is of no use.
    if (kept && (read < generation || meta.beat < kept.beat)) await outside?.note({ beat: 0 })
    if (before !== `${joined.generation} ${record?.lifted?.at} ${isLost}`) for (const listener of listeners) listener()
  }

  /** One at a time. */
  const settleOnce = (): Promise<void> => {
    underWay ??= settle().finally(() => {
      underWay = undefined
    })
    return underWay
  }

  /** That this broker left its name: a failover that takes it back is none that lost anything. */
  const isKept = async (): Promise<boolean> => {
    const { nodes, replication } = store
    if (!replication) return true
    const partition = nodes.partitionOf(nodes.meta())
    return partition !== undefined && (await replication.isKept(partition))
  }

  const beat = async (): Promise<void> => {
    if (!outside || performance.now() - beatAt < BEAT_MS) return
    beatAt = performance.now()
    const at = numberOf(await runOnMeta(beatScript, { name: outside.name, keep_ms: KEEP_BEATS_MS, report: '' }))
    if (at > 0 && (await isKept())) await outside.note({ beat: at })
  }

  const look = async (known: readonly Standing[], found: ReadonlyMap<number, Standing>): Promise<void> => {
    const [schema, ledger, generation, lifted] = await onMeta((redis) => redis.hmget(META, 'schema', 'ledger', 'generation', 'lifted'))
    const isSame = schema !== null && joined?.ledger === ledger && String(joined?.generation) === generation
    const open = openOf(record)
    const isAsSaid = open === undefined || lifted === null
    const isHeld = (standing: Standing) => record !== undefined && standing.quarantine.includes(record.freeze)
    const isOdd = [...found].some(
      ([partition, standing]) => standing.mark === 0 || isBehind(standing, known[partition]) || isHeld(standing) !== (open !== undefined),
    )
    if (!isSame || !isAsSaid || isOdd || isLost) return settleOnce()
    for (const [partition, { last }] of found) store.witness.saw(partition, last)
    await beat()
  }

  return {
    settle: settleOnce,
    observe: (known, found) => {
      if (underWay !== undefined) return
      look(known, found).catch((error: unknown) => store.log('warn', 'where the ledger stands could not be told', { error: messageOf(error) }))
    },
    quarantined: () => (isLost ? 'lost' : openOf(record)),
    quarantine: async () => {
      const meta = await readMeta()
      return meta?.record && { ...meta.record, reads: meta.reads }
    },
    liftQuarantine: async ({ by, reason }, event) => {
      const meta = await readMeta()
      const open = openOf(meta?.record)
      if (!meta || !open) return { ok: false, refused: 'not_found' }
      const { generation } = open
      const lifted = { by, reason, at: store.clock.now(), generation: Math.max(open.at + 1, store.clock.now()) }
      await runOnMeta(liftScript, { generation, record: JSON.stringify(lifted) })
      await freezes.apply({ frozen: false, freeze: { ...freezeOf(open), generation: lifted.generation } }, event)
      await settleOnce()
      return { ok: true, quarantine: { ...open, lifted, reads: meta.reads } }
    },
    unread: () => owed,
    noteRead: async (report) => {
      if (!owed || !outside || !joined) return
      const { generation } = owed
      const told: QuarantineReport = { ...report, generation, broker: outside.name }
      const at = await runOnMeta(beatScript, { name: outside.name, keep_ms: KEEP_BEATS_MS, report: JSON.stringify(told) })
      await outside.note({ ledger: joined.ledger, generation, beat: numberOf(at) })
      if (owed.generation === generation) owed = undefined
    },
    onQuarantine: (listener) => {
      listeners.add(listener)
    },
  }
}

/** Where whoever lifted it came no further than to write it down. */
function liftedEvent({ lifted, generation }: Quarantine): Event {
  return { id: randomUUID(), type: 'quarantine.lifted', detail: { generation, reason: lifted?.reason, by: lifted?.by } }
}

function openOf(record: Quarantine | undefined): Quarantine | undefined {
  return record?.lifted ? undefined : record
}

function freezeOf({ freeze: id, at, reason }: Quarantine): Freeze {
  return { id, kind: 'quarantine', selector: EVERYTHING, generation: at, reason: `quarantine: ${REASONS[reason]}`, by: 'mayfly', at }
}

/** The record of the quarantine in which a ledger begins that is made in place of one that was lost. */
export function quarantineOfLoss(partitions: number): string {
  const record: Omit<Quarantine, 'generation'> = {
    reason: 'lost',
    at: Date.now(),
    since: 0,
    by: '',
    freeze: newId('freeze', randomInt(partitions)),
    behind: [],
  }
  return JSON.stringify(record)
}

const REASONS: Record<Quarantine['reason'], string> = {
  lost: 'the ledger was lost and made anew',
  behind: 'Redis went backwards',
  another: 'this is another ledger than brokers remember',
}

/** The earliest of what may have been lost at the quarantines after `read`. */
function sinceOf({ since }: Meta, read: number): number {
  return Math.min(...[...since].flatMap(([generation, at]) => (generation > read ? [at] : [])), Number.MAX_SAFE_INTEGER)
}

function metaOf(fields: Record<string, string>, name: string | undefined): Meta {
  const generation = Number(fields.generation ?? 1)
  const ledger = fields.ledger
  if (ledger === undefined) throw new MayflyError('internal', 'the ledger has no id')
  const written = fields.quarantine === undefined ? undefined : (JSON.parse(fields.quarantine) as Omit<Quarantine, 'generation' | 'lifted'>)
  const lifted = fields.lifted === undefined ? undefined : (JSON.parse(fields.lifted) as Quarantine['lifted'])
  const named = (prefix: string) => Object.entries(fields).filter(([field]) => field.startsWith(prefix))
  return {
    ledger,
    generation,
    beat: Number(fields[`beat:${name}`] ?? 0),
    record: written && { ...written, generation, lifted },
    since: new Map(named('since:').map(([field, at]) => [Number(field.slice('since:'.length)), Number(at)])),
    reads: named('read:').map(([, text]) => JSON.parse(text) as QuarantineReport),
  }
}
