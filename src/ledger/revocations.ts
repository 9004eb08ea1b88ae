import pLimit from 'p-limit'
import { type Claim, type EmergencyRevocation, namesTasksAlone, type Selector, type Verify } from '../types.js'
import { leasesByPartition } from './by-partition.js'
import { keys, partitionOf, partitionOfKey } from './keys.js'
import type { Ledger } from './ledger.js'
import { agentKey } from './places.js'
import { claimOf } from './records.js'
import { fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { revocationLeaseCalls } from './revocation-leases.js'
import { justOpened, openingOf, revocationOf } from './revocation-opening.js'
import { defineScript } from './script.js'
import { matcherOf } from './selectors.js'
import { internalEvent, partitionOfTask, partitionsOf, runOver, type Store, together } from './store.js'

const openScript = defineScript('open-revocation', 'revocation', ['id', 'selector', 'reason', 'by', 'freeze', 'verify', 'event'], {
  isUrgent: true,
})
const closeMatching = defineScript(
  'close-matching',
  'progress',
  ['id', 'selector', 'size', 'room', 'sample', 'cause', 'event', 'skew', 'visibility'],
  {
    rest: 'named',
  },
)
const countMatching = defineScript('count-matching', 'providers', ['selector', 'size', 'cursor'])
const sumsScript = defineScript('revocation-sums', 'progress', [], { rest: 'others' })
const unfinishedScript = defineScript('unfinished', 'revocations', [], { rest: 'others' })
const finishScript = defineScript('finish-revocation', 'revocation', ['id', 'sums', 'event', 'retention'])

/** Leases that one step looks at in one partition, and partitions at once: what else goes on, the next freeze too, waits for no more than these. */
const PAGE = 25
const PAGES_AT_ONCE = 2
/** Of all partitions, to be driven by whoever took the step; the rest is due at once. */
const MOST_CLAIMS = 256
/** Of one agent or task; more than these are found with all the others. */
const MOST_NEAREST = 1_000
/** Leases of one provider in one partition whose deaths are verified. The provider's whole sample is so many times the partitions at most. */
const VERIFIED: Readonly<Record<Verify, number>> = { none: 0, sample: 4, all: 1e15 }
/** A report is read the day after. */
const REPORT_SECONDS = 7 * 86_400

type RevocationCalls = Pick<
  Ledger,
  'match' | 'openRevocation' | 'revocation' | 'takeNearest' | 'advanceRevocation' | 'openRevocations' | 'revocationLeases'
>

interface Home {
  readonly partition: number
  readonly fields: Record<string, string>
  readonly selector: Selector
}
type Count = 'matched' | 'revoked' | 'expired' | 'failed' | 'over'
type Sums = Record<Count, number> & { readonly providers?: Readonly<Record<string, Readonly<Record<Count, number>>>> }

export function revocationCalls(store: Store): RevocationCalls {
  const homeOf = async (id: string): Promise<Home | undefined> => {
    const partition = partitionOf(id, 'revocation', store.options.partitions)
    if (partition === undefined) return undefined
    const fields = await store.ask(partition, (redis) => redis.hgetall(keys.revocation(partition, id)))
    return fields.selector === undefined ? undefined : { partition, fields, selector: JSON.parse(fields.selector) as Selector }
  }

  const sumsOf = async (id: string, home: Home): Promise<Sums> => {
    if (home.fields.sums !== undefined) return JSON.parse(home.fields.sums) as Sums
    const progressIn = async (partitions: readonly number[]) =>
      fieldsOf(await runOver(store, sumsScript, partitions, (partition) => keys.progress(partition, id), {}))
    const groups = await Promise.all(together(store, placesOf(store, home.selector)).map(progressIn))
    const sums = (of = '') => {
      const each = (name: string) => groups.map((progress) => Number(progress[`${name}${of}`] ?? 0))
      const [matched, revoked, expired, failed] = ['matched', 'revoked', 'expired', 'failed'].map((name) => each(name).reduce((a, b) => a + b, 0))
      return { matched: matched ?? 0, revoked: revoked ?? 0, expired: expired ?? 0, failed: failed ?? 0, over: Math.max(0, ...each('over')) }
    }
    const named = groups.flatMap((progress) => Object.keys(progress)).flatMap((field) => /^matched:(.+)$/.exec(field)?.[1] ?? [])
    return { ...sums(), providers: Object.fromEntries([...new Set(named)].sort().map((name) => [name, sums(`:${name}`)])) }
  }

  /** The last step: told once, by whoever finds that all is settled. */
  const finish = async (id: string, home: Home): Promise<void> => {
    const sums = await sumsOf(id, home)
    if (sums.revoked + sums.expired < sums.matched) return
    const { matched, revoked, expired } = sums
    const event = JSON.stringify({ ...JSON.parse(internalEvent('revocation.finished')), detail: { revocation: id, matched, revoked, expired } })
    // Nobody comes back to what is finished: what was closed must be there to stay.
    if (store.replication && !(await store.replication.everywhere('revocation'))) return
    // Before it counts as finished: nobody comes back to it afterwards, and what never expires would stay for ever.
    const kept = placesOf(store, home.selector).flatMap((partition) => [
      keys.progress(partition, id),
      keys.rows(partition, id),
      keys.outcomes(partition, id),
    ])
    await Promise.all(kept.map((key) => store.ask(partitionOfKey(key), (redis) => redis.expire(key, REPORT_SECONDS))))
    await store.run(finishScript, keys.revocation(home.partition, id), { id, sums: JSON.stringify(sums), event, retention: REPORT_SECONDS })
  }

  const argsOf = (id: string, { selector, fields }: Home, room: number) => ({
    id,
    selector: matcherOf(selector),
    size: PAGE,
    room,
    sample: VERIFIED[verifyOf(fields)],
    cause: namesTasksAlone(selector) ? 'task_revoked' : 'emergency',
    skew: store.options.skewMarginMs,
    visibility: store.options.visibilityMs,
  })
  const close = (partition: number, id: string, args: ReturnType<typeof argsOf>, named: readonly string[] = []) =>
    store.run(closeMatching, keys.progress(partition, id), { ...args, event: internalEvent('lease.closing') }, named)

  return {
    ...revocationLeaseCalls(store),
    match: async (selector) => {
      const matcher = matcherOf(selector)
      const found = new Map<string, { provider: string; live: number; residualUntil?: number }>()
      const limit = pLimit(PAGES_AT_ONCE)
      const walk = async (partition: number): Promise<void> => {
        for (let cursor = ''; cursor !== 'done'; ) {
          const [next, ...counts] = listOf(await store.run(countMatching, keys.providers(partition), { selector: matcher, size: PAGE, cursor }))
          cursor = textOf(next)
          for (let i = 0; i < counts.length; i += 3) {
            const provider = textOf(counts[i])
            const before = found.get(provider)
            const residualUntil = Math.max(before?.residualUntil ?? 0, numberOf(counts[i + 2]))
            found.set(provider, { provider, live: (before?.live ?? 0) + numberOf(counts[i + 1]), residualUntil })
          }
        }
      }
      await Promise.all(placesOf(store, selector).map((partition) => limit(walk, partition)))
      return [...found.values()].sort((a, b) => (a.provider < b.provider ? -1 : 1))
    },

    openRevocation: async (ask, event) => {
      const opening = openingOf(ask, event, store)
      const { id, partition, selector, reason, by, freeze = '', verify } = opening
      const args = { id, selector: JSON.stringify(selector), reason, by, freeze, verify, event: JSON.stringify(opening.event) }
      return justOpened(opening, numberOf(await store.run(openScript, keys.revocation(partition, id), args)))
    },

    revocation: async (idOrFreeze) => {
      const id = revocationOf(idOrFreeze)
      const home = await homeOf(id)
      return home && report(id, home, await sumsOf(id, home))
    },

    takeNearest: async (id, most = MOST_CLAIMS) => {
      const home = await homeOf(id)
      if (!home || home.fields.finished !== undefined) return []
      const places = placesOf(store, home.selector)
      const pages = leasesByPartition(store, await nearest(store, home.selector), PAGE).filter(([partition]) => places.includes(partition))
      const limit = pLimit(PAGES_AT_ONCE)
      const args = argsOf(id, home, Math.ceil(most / Math.max(1, pages.length)))
      const taken = await Promise.allSettled(
        pages.map(([partition, ids]) => limit(async () => listOf(listOf(await close(partition, id, args, ids))[1]).map(claimOf))),
      )
      // What could not be done is done with all the others.
      return taken.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    },

    advanceRevocation: async (id, most = MOST_CLAIMS, whenMatched = undefined) => {
      const home = await homeOf(id)
      if (!home || home.fields.finished !== undefined) return { claims: [], done: true }
      const partitions = placesOf(store, home.selector)
      const args = argsOf(id, home, Math.ceil(most / Math.max(1, partitions.length)))
      const limit = pLimit(PAGES_AT_ONCE)
      const replies = await Promise.allSettled(partitions.map((partition) => limit(close, partition, id, args)))
      const claims: Claim[] = []
      let done = true
      let failure: unknown
      for (const reply of replies) {
        if (reply.status === 'rejected') {
          done = false
          failure = reply.reason
          continue
        }
        const [over, taken] = listOf(reply.value)
        done &&= numberOf(over) === 1
        claims.push(...listOf(taken).map(claimOf))
      }
      if (failure !== undefined && claims.length === 0) throw failure
      if (!done) return { claims, done }
      const { reason = '', by = '' } = home.fields
      const ended = (async () => {
        await whenMatched?.({ selector: home.selector, reason, by })
        await finish(id, home)
      })()
      // What was claimed must reach its caller: whoever comes next finds that it is not finished.
      if (claims.length > 0) await ended.catch(() => undefined)
      else await ended
      return { claims, done }
    },

    openRevocations: async () => {
      const openIn = async (partitions: readonly number[]) =>
        listOf(await runOver(store, unfinishedScript, partitions, keys.revocations, {})).map(textOf)
      const open = await Promise.all(together(store).map(openIn))
      return open.flat()
    },
  }
}

/** Partitions in which a selector may match something: a task is in one with all that comes from it. */
function placesOf(store: Store, { task }: Selector): readonly number[] {
  if (task === undefined) return partitionsOf(store)
  return [...new Set(task.flatMap((id) => partitionOfTask(store, id) ?? []))]
}

/** Leases that may be covered and are found at once: those counted for a named agent, and those of a named task itself. */
async function nearest(store: Store, { agent = [], task = [] }: Selector): Promise<string[]> {
  const ofAgents = agent.map((name) => {
    const key = agentKey(name, store.options.partitions)
    return store.ask(partitionOfKey(key), (redis) => redis.zrevrange(key, 0, MOST_NEAREST - 1))
  })
  const ofTasks = task.map(async (id) => {
    const partition = partitionOfTask(store, id)
    if (partition === undefined) return []
    return store.ask(partition, (redis) => redis.srandmember(`${keys.task(partition, id)}:live`, MOST_NEAREST))
  })
  const found = await Promise.allSettled([...ofAgents, ...ofTasks])
  return found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
}

/** One that an older broker began asks nobody. */
function verifyOf({ verify }: Record<string, string>): Verify {
  return verify === 'all' || verify === 'sample' ? verify : 'none'
}

function report(id: string, { fields, selector }: Home, sums: Sums): EmergencyRevocation {
  const { matched, revoked, expired, failed } = sums
  const providers = Object.entries(sums.providers ?? {}).map(([provider, { over, ...at }]) => {
    const pending = Math.max(0, at.matched - at.revoked - at.expired)
    return { provider, ...at, pending, residualUntil: pending > 0 ? over : undefined }
  })
  return {
    id,
    selector,
    reason: fields.reason ?? '',
    by: fields.by ?? '',
    startedAt: Number(fields.at),
    finishedAt: fields.finished === undefined ? undefined : Number(fields.finished),
    state: fields.finished === undefined ? 'running' : 'finished',
    freeze: fields.freeze || undefined,
    verify: verifyOf(fields),
    matched,
    revoked,
    expired,
    failed,
    providers,
    pending: Math.max(0, matched - revoked - expired - failed),
    residualUntil: sums.over || undefined,
  }
}
