import { randomInt } from 'node:crypto'
import { MayflyError } from '../errors.js'
import type { Event, Freeze } from '../types.js'
import { messageOf } from './connection.js'
import { eventOf, type Held, heldOf, jsonOf, named } from './freeze-record.js'
import { DUE_CHANNEL, keys, newId, partitionOf } from './keys.js'
import type { Ledger } from './ledger.js'
import { listOf, numberOf } from './reply.js'
import { justOpened, type Opening, openingOf } from './revocation-opening.js'
import { defineScript } from './script.js'
import { freezeFields } from './selectors.js'
import { ofReachable, ofReachableTogether, partitionsOf, runOver, type Store, together } from './store.js'

const freezeScript = defineScript(
  'freeze',
  'freezes',
  [
    ...(['id', 'kind', 'generation', 'json', 'shape', 'fields', 'event', 'about', 'told', 'known'] as const),
    ...(['revocation', 'selector', 'reason', 'by', 'verify', 'started'] as const),
  ],
  { rest: 'others', isUrgent: true },
)
const digestsScript = defineScript('freeze-digests', 'freezes', [], { rest: 'others' })
const NO_REVOCATION = { revocation: '', selector: '', reason: '', by: '', verify: '', started: '' }

const REPEAT_MS = 1_000
/**
 * A partition that one broker could not tell of a freeze may have been there all the time for the others, and that broker may be gone: each looks
 * when it is told so, and this often.
 */
const LOOK_MS = 5_000
/** One look in so many reads all of them, whatever the digests say: they tell nothing of what was told, nor of what an older broker wrote. */
const LOOKS_TO_FULL = 12
/** Until then whoever was asked for a freeze tells of it, and after that nobody comes to tell of it any more. */
const TELL_AFTER_MS = 3_000
const TELL_UNTIL_MS = 3_600_000
/** Fields that one step writes, over all of its partitions: nothing else is done meanwhile. */
const MOST_FIELDS = 4_000

interface Write extends Held {
  /** In one step; its event and what it opens belong into the first. */
  readonly partitions: readonly number[]
  readonly event?: Event
  /** Its event was told elsewhere, or before. */
  readonly isTold?: boolean
  readonly opening?: Opening
}

interface Written {
  readonly holding: number
  readonly unreachable: number
  /** Of the emergency, where it was opened with it. */
  readonly startedAt?: number
}

interface Found extends Held {
  /** Its event was told in this partition. */
  readonly isTold: boolean
}

export interface FreezeCalls extends Pick<Ledger, 'freeze' | 'thaw' | 'freezes'> {
  /**
   * Brings all partitions to the union of what they hold, highest generation first; before any of them issues again. Answers those that could
   * not be reached, which have it before them.
   */
  reconcile(): Promise<number[]>
  /** Brings them together soon: some broker could not write one everywhere. */
  look(): void
  /** Writes one as it is, everywhere; what is newer there stays. Without an event it was told of before. */
  apply(held: Held, event?: Event): Promise<void>
  stop(): void
}

export function freezeCalls(store: Store): FreezeCalls {
  /** State: what a partition that could not be reached has yet to be told. */
  let owed: Write[] = []
  let timer: NodeJS.Timeout | undefined
  let looking: NodeJS.Timeout | undefined
  let isLooking = false
  let lookAgain = false
  let isOver = false
  /** Some freeze could not be brought, or was told by nobody, when they were last read. */
  let isPending = false
  let looks = 0

  /** @returns when the emergency that it opens started, where it could be opened */
  const write = async ({ partitions, frozen, freeze, thaw, event, isTold, opening }: Write): Promise<number | undefined> => {
    const { fields, shape } = freezeFields(freeze.selector)
    // What issues looks for this one with the same command that tells whether there is any.
    if (freeze.kind === 'quarantine') fields.push('quarantine')
    const [first = 0, ...others] = partitions
    const args = {
      id: freeze.id,
      kind: frozen ? 'F' : 'T',
      generation: freeze.generation,
      json: jsonOf({ freeze, thaw }),
      shape,
      fields: JSON.stringify(fields),
      event: event ? JSON.stringify(event) : '',
      about: event?.type ?? '',
      told: isTold ? 1 : 0,
      known: store.witness.mark(first),
      ...(opening ? openingArgs(opening) : NO_REVOCATION),
    }
    const rest = others.flatMap((partition) => [keys.freezes(partition), store.witness.mark(partition)])
    const [startedAt, ...marks] = listOf(await store.run(freezeScript, keys.freezes(first), args, rest))
    for (const [index, partition] of partitions.entries()) store.witness.marked(partition, numberOf(marks[index]))
    return startedAt === '' ? undefined : Number(startedAt)
  }

  const repeat = async (): Promise<void> => {
    const due = owed
    owed = []
    const results = await Promise.allSettled(due.map(write))
    owed.push(...due.filter((_, index) => results[index]?.status === 'rejected'))
    timer = owed.length > 0 && !isOver ? setTimeout(() => void repeat(), REPEAT_MS).unref() : undefined
  }

  /**
   * To every partition at once, and what is told to the freeze's own; who cannot be reached now is told later. What is opened finds the freeze everywhere,
   * so it is not where that takes more than one step.
   */
  const writeEverywhere = async (held: Held, { event, isTold, opening }: Pick<Write, 'event' | 'isTold' | 'opening'>): Promise<Written> => {
    const home = partitionOf(held.freeze.id, 'freeze', store.options.partitions)
    const most = Math.floor(MOST_FIELDS / freezeFields(held.freeze.selector).fields.length)
    const steps = together(store, partitionsOf(store, home), most)
    const atHome = { event, isTold, opening: steps.length === 1 ? opening : undefined }
    const writes = steps.map((partitions): Write => ({ ...held, partitions, ...(partitions[0] === home && atHome) }))
    const results = await Promise.allSettled(writes.map(write))
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []))
    if (failures.length === writes.length) throw failures[0]
    const missed = writes.filter((_, index) => results[index]?.status === 'rejected')
    const reached = writes.find((one) => !missed.includes(one))?.partitions[0]
    const toldElsewhere = reached !== undefined && event && missed.some((one) => one.event) && (await tellAt(reached, held, event))
    // Whoever stopped is told that nothing was opened, and opens it, or asks again.
    owed.push(...missed.map((one) => ({ ...one, opening: undefined, ...(toldElsewhere && one.event && { event: undefined, isTold: true }) })))
    if (missed.length > 0) {
      timer ??= setTimeout(() => void repeat(), REPEAT_MS).unref()
      if (reached !== undefined) hintOthers(reached, held.freeze.id)
    }
    const opened = results[writes.findIndex((one) => one.opening !== undefined)]
    const unreachable = missed.flatMap(({ partitions }) => partitions).length
    return { holding: store.options.partitions - unreachable, unreachable, startedAt: opened?.status === 'fulfilled' ? opened.value : undefined }
  }

  /** They may reach what this broker could not. Who does not hear it looks by itself. */
  const hintOthers = (reached: number, id: string): void => {
    store.ask(reached, (redis) => redis.publish(DUE_CHANNEL, id)).catch(() => undefined)
  }

  /** Its own partition cannot be reached: that it was asked for must not be known to this process alone. */
  const tellAt = (partition: number, held: Held, event: Event): Promise<boolean> =>
    write({ ...held, partitions: [partition], event }).then(
      () => true,
      () => false,
    )

  const heldIn = async (partition: number): Promise<Map<string, Found>> => {
    const fields = await store.ask(partition, (redis) => redis.hgetall(keys.freezes(partition)))
    const found = Object.entries(fields).flatMap(([name, text]): [string, Found][] => {
      if (!name.startsWith('#')) return []
      const held = heldOf(name.slice(1), text)
      const told = Number(fields[`!${held.frozen ? 'F' : 'T'}${held.freeze.id}`] ?? 0)
      return [[held.freeze.id, { ...held, isTold: told >= held.freeze.generation }]]
    })
    return new Map(found)
  }

  /** Of the partitions that can be reached: each freeze is in all of them. */
  const union = async (): Promise<{ all: Map<string, Found>; each: Map<number, Map<string, Found>>; unreachable: number[] }> => {
    const { answers: each, unreachable } = await ofReachable(store, heldIn)
    const all = new Map<string, Found>()
    for (const held of each.values())
      for (const [id, one] of held) {
        const newer = one.freeze.generation - (all.get(id)?.freeze.generation ?? -1)
        // Of the same, one that was told: told is told, wherever.
        if (newer > 0 || (newer === 0 && one.isTold)) all.set(id, one)
      }
    return { all, each, unreachable }
  }

  /** Of one that was asked for, the newest that can be found. */
  const find = async (id: string): Promise<Held | undefined> => {
    const { answers } = await ofReachable(store, (partition) => store.ask(partition, (redis) => redis.hget(keys.freezes(partition), `#${id}`)))
    const found = [...answers.values()].flatMap((text) => (text === null ? [] : [heldOf(id, text)]))
    return found.sort((one, other) => other.freeze.generation - one.freeze.generation)[0]
  }

  /** However many freezes there are: a few bytes of each partition. */
  const isSameEverywhere = async (): Promise<boolean> => {
    const digests = async (partitions: readonly number[]) => listOf(await runOver(store, digestsScript, partitions, keys.freezes, {}))
    const { answers, unreachable } = await ofReachableTogether(store, digests)
    return unreachable.length === 0 && new Set(answers.values()).size === 1
  }

  /** Who was asked for it may be gone before its own partition could be told: then nobody else tells of it. */
  const eventOwed = (one: Held, partition: number): Event | undefined => {
    const { id, generation } = one.freeze
    if (partition !== partitionOf(id, 'freeze', store.options.partitions) || !mayBeOwed(one)) return undefined
    return store.clock.now() - generation > TELL_AFTER_MS ? eventOf(one) : undefined
  }
  const mayBeOwed = ({ freeze: { kind, generation } }: Held): boolean => kind !== 'quarantine' && store.clock.now() - generation < TELL_UNTIL_MS

  const reconcile = async (): Promise<number[]> => {
    const { all, each, unreachable } = await union()
    const missing = [...each].flatMap(([partition, held]) =>
      [...all].flatMap(([id, one]): Write[] => {
        const here = held.get(id)
        const isThere = here !== undefined && here.freeze.generation >= one.freeze.generation
        const event = one.isTold ? undefined : eventOwed(one, partition)
        return isThere && !event ? [] : [{ ...one, partitions: [partition], event }]
      }),
    )
    const written = await Promise.allSettled(missing.map(write))
    const failed = missing.flatMap(({ partitions }, index) => (written[index]?.status === 'rejected' ? partitions : []))
    isPending = failed.length > 0 || [...all.values()].some((one) => !one.isTold && mayBeOwed(one))
    if (missing.length > failed.length)
      store.log('warn', 'freezes were missing, or not told of, in some partitions, and are there now', { written: missing.length - failed.length })
    return [...new Set([...unreachable, ...failed])]
  }

  /** A ledger that cannot be reached is told of elsewhere, and looked at again. */
  const tellTrouble = (error: unknown): void => {
    if (error instanceof MayflyError && error.code === 'ledger_unavailable') return
    store.log('error', 'freezes could not be brought together', { error: messageOf(error) })
  }

  const lookOnce = async (): Promise<void> => {
    looks = (looks + 1) % LOOKS_TO_FULL
    if (looks === 0 || isPending || !(await isSameEverywhere())) await reconcile()
  }

  /** One look at a time; one that was asked for meanwhile follows. */
  const look = async (): Promise<void> => {
    if (isLooking) {
      lookAgain = true
      return
    }
    isLooking = true
    clearTimeout(looking)
    do {
      lookAgain = false
      await lookOnce().catch(tellTrouble)
    } while (lookAgain && !isOver)
    isLooking = false
    if (!isOver) looking = setTimeout(() => void look(), LOOK_MS).unref()
  }

  return {
    freeze: async ({ selector, reason, by, kind, revoke }, event) => {
      freezeFields(selector)
      const at = store.clock.now()
      const freeze = { id: newId('freeze', randomInt(store.options.partitions)), selector, generation: at, reason, by, at, kind }
      const opening = revoke && openingOf({ selector, reason, by, freeze: freeze.id, verify: revoke.verify }, revoke.event, store)
      const { startedAt, ...written } = await writeEverywhere({ frozen: true, freeze }, { event: named(event, freeze), opening })
      const revocation = opening && startedAt !== undefined ? justOpened(opening, startedAt) : undefined
      return { freeze, ...written, revocation, replicated: store.replication?.everywhere('frozen') }
    },

    thaw: async (id, { reason, by }, event) => {
      if (partitionOf(id, 'freeze', store.options.partitions) === undefined) return { ok: false, refused: 'not_found' }
      const held = await find(id)
      if (!held) return { ok: false, refused: 'not_found' }
      if (!held.frozen) return { ok: true, freeze: held.freeze }
      const generation = Math.max(held.freeze.generation + 1, store.clock.now())
      const thawed = { ...held.freeze, generation }
      const { unreachable } = await writeEverywhere({ frozen: false, freeze: thawed, thaw: { reason, by } }, { event: named(event, thawed) })
      store.log('info', 'a freeze was thawed', { freeze: id, by, reason, unreachable })
      return { ok: true, freeze: thawed }
    },

    freezes: async () => {
      const { all, each } = await union()
      const whereOf = ({ id }: Freeze) => {
        const holding = [...each.values()].filter((held) => held.get(id)?.frozen === true).length
        return { holding, unreachable: store.options.partitions - holding }
      }
      return [...all.values()].flatMap(({ frozen, freeze }) => (frozen ? [{ ...freeze, partitions: whereOf(freeze) }] : []))
    },

    apply: async (held, event) => {
      await writeEverywhere(held, event ? { event } : { isTold: true })
    },

    reconcile: async () => {
      looking ??= setTimeout(() => void look(), LOOK_MS).unref()
      return reconcile()
    },

    look: () => {
      if (!isOver) void look()
    },

    stop: () => {
      isOver = true
      clearTimeout(timer)
      clearTimeout(looking)
    },
  }
}

function openingArgs({ id, selector, reason, by, verify, event }: Opening): typeof NO_REVOCATION {
  return { revocation: id, selector: JSON.stringify(selector), reason, by, verify, started: JSON.stringify(event) }
}
