import pLimit from 'p-limit'
import { MayflyError } from '../errors.js'
import type { Claim } from '../types.js'
import { keys } from './keys.js'
import type { Ledger } from './ledger.js'
import { leaveAgent } from './places.js'
import { claimOf } from './records.js'
import { listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { internalEvent, ofReachable, ofReachableTogether, runOver, type Store } from './store.js'
import { type Standing, standingOf } from './witness.js'

const peekScript = defineScript('peek', 'providers', ['standings'], { rest: 'others' })
const sweepScript = defineScript('sweep', 'sweep', ['gap_ms'])
const claimScript = defineScript(
  'claim',
  'providers',
  ['outage_from', 'outage_to', 'most_tasks', 'most_checks', 'budget', 'skew', 'visibility', 'retention', 'event'],
  { rest: 'capacities' },
)

/** Brokers sweep once a second; nobody sweeping for this long means that none was there, or no ledger. */
const OUTAGE_GAP_MS = 10_000
/** Of one partition in one step, so that nothing else waits for it. */
const MOST_TASKS = 20
const MOST_CHECKS = 50
const CLOSE_BUDGET = 200
/** Of one provider; more only where there is room for more in every partition. */
const MOST_CLAIMS = 50
/** Steps that one Redis has to do one behind the other before it comes to what else is asked, a freeze too. */
const STEPS_AT_ONCE = 2

type Swept = Awaited<ReturnType<Ledger['claim']>>

/** `onStanding`: where each partition stands, and what this broker knew of it before it asked. */
export function sweepCalls(
  store: Store,
  onStanding: (known: readonly Standing[], found: ReadonlyMap<number, Standing>) => void,
): Pick<Ledger, 'claim'> {
  let turn = 0

  const round = async (capacity: ReadonlyMap<string, number>, full: boolean): Promise<Swept & { tasks: boolean }> => {
    const sentAt = performance.now()
    const known = store.witness.known()
    const [outages, { answers }] = await Promise.all([outagesOf(store), ofReachableTogether(store, (partitions) => peek(store, partitions, full))])
    const peeked = [...answers].flatMap(([partition, due]) => {
      const outage = outages(partition)
      return outage ? [{ partition, due, outage }] : []
    })
    if (full) onStanding(known, new Map([...answers].flatMap(([partition, { standing }]) => (standing ? [[partition, standing]] : []))))
    const server = peeked.at(-1)?.due.now
    if (server !== undefined) store.clock.sync(server, sentAt)

    // Another partition begins each time, so that none is always last.
    turn = (turn + 1) % Math.max(1, peeked.length)
    const { shares, waiting } = share([...peeked.slice(turn), ...peeked.slice(0, turn)], capacity, full)
    const args = {
      most_tasks: MOST_TASKS,
      most_checks: MOST_CHECKS,
      budget: CLOSE_BUDGET,
      skew: store.options.skewMarginMs,
      visibility: store.options.visibilityMs,
      retention: store.options.settledRetentionSeconds,
    }
    const { isCluster } = store.nodes
    const limit = pLimit(isCluster ? Number.POSITIVE_INFINITY : STEPS_AT_ONCE)
    /** One Redis that does not answer is not waited for once more by each step that follows. */
    let away: unknown
    const claim = async ({ partition, outage, rooms }: (typeof shares)[number]): Promise<unknown> => {
      if (away !== undefined) throw away
      try {
        return await store.run(claimScript, keys.providers(partition), { ...args, ...outage, event: internalEvent('lease.closing') }, rooms)
      } catch (error) {
        if (!isCluster && error instanceof MayflyError && error.code === 'ledger_unavailable') away = error
        throw error
      }
    }
    const replies = await Promise.allSettled(shares.map((share) => limit(claim, share)))
    const taken = replies.flatMap((reply) => (reply.status === 'fulfilled' ? [listOf(reply.value)] : []))
    const failed = replies.find((reply) => reply.status === 'rejected')
    // What was claimed must reach its caller, even where another partition failed.
    if (failed && taken.length === 0) throw failed.reason
    return { ...swept(store, taken), waiting, tasks: peeked.some(({ due }) => due.tasks > 0) }
  }

  return {
    claim: async (capacity, { full = true } = {}) => {
      const { tasks, ...first } = await round(capacity, full)
      if (!tasks) return first
      // Tasks that ended just now have leases due now, which the first look could not see.
      const left = new Map(capacity)
      for (const { lease } of first.claims) left.set(lease.provider, (left.get(lease.provider) ?? 0) - 1)
      const second = await round(left, full).catch(() => undefined)
      if (!second) return first
      return {
        claims: [...first.claims, ...second.claims],
        expired: [...first.expired, ...second.expired],
        ended: first.ended + second.ended,
        lagMs: Math.max(first.lagMs, second.lagMs),
        more: second.more,
        waiting: second.waiting,
      }
    },
  }
}

interface Outage {
  readonly outage_from: number
  readonly outage_to: number
}

/** One Redis is away as a whole, and the first partition tells for all; of a Cluster each partition for itself. */
async function outagesOf(store: Store): Promise<(partition: number) => Outage | undefined> {
  const look = async (partition: number): Promise<Outage> => {
    const [from, to] = listOf(await store.run(sweepScript, keys.sweep(partition), { gap_ms: OUTAGE_GAP_MS })).map(numberOf)
    return { outage_from: from ?? 0, outage_to: to ?? 0 }
  }
  if (!store.nodes.isCluster) {
    const one = await look(0)
    return () => one
  }
  const { answers } = await ofReachable(store, look)
  return (partition) => answers.get(partition)
}

function swept(store: Store, answers: unknown[][]): Omit<Swept, 'waiting'> {
  const claims: Claim[] = []
  const expired: { lease: string; provider: string }[] = []
  let ended = 0
  let oldest = 0
  let more = false
  for (const [claimed, over, tasks, due, left] of answers) {
    claims.push(...listOf(claimed).map(claimOf))
    for (const one of listOf(over)) {
      const [lease, provider, agent] = listOf(one).map(textOf)
      expired.push({ lease: lease ?? '', provider: provider ?? '' })
      leaveAgent(store, agent ?? '', lease ?? '')
    }
    ended += numberOf(tasks)
    const since = numberOf(due)
    if (since > 0 && (oldest === 0 || since < oldest)) oldest = since
    more ||= numberOf(left) > 0
  }
  return { claims, ended, expired, lagMs: oldest > 0 ? Math.max(0, store.clock.now() - oldest) : 0, more }
}

interface Due {
  readonly now: number
  readonly tasks: number
  readonly settled: number
  /** At a full look. */
  readonly standing?: Standing
  readonly leases: readonly { provider: string; due: number }[]
}

async function peek(store: Store, partitions: readonly number[], full: boolean): Promise<Due[]> {
  return listOf(await runOver(store, peekScript, partitions, keys.providers, { standings: full ? 1 : 0 })).map(dueOf)
}

function dueOf(found: unknown): Due {
  const [now, tasks, settled, standing, ...rest] = listOf(found)
  const leases = []
  for (let i = 0; i < rest.length; i += 2) leases.push({ provider: textOf(rest[i]), due: numberOf(rest[i + 1]) })
  return {
    now: numberOf(now),
    tasks: numberOf(tasks),
    settled: numberOf(settled),
    standing: standing === '' ? undefined : standingOf(standing),
    leases,
  }
}

/**
 * Who may take how much: no provider gets more over all partitions than it has room for. One without room still closes and expires, and
 * so does one that is not configured, at a `full` look. `waiting`: who has more due than it may take.
 */
function share(peeked: readonly { partition: number; due: Due; outage: Outage }[], capacity: ReadonlyMap<string, number>, full: boolean) {
  const left = new Map(capacity)
  const waiting = new Set<string>()
  const shares = peeked.flatMap(({ partition, due, outage }) => {
    const rooms = due.leases.flatMap(({ provider, due: count }) => {
      const room = left.get(provider) ?? 0
      const mine = Math.max(0, Math.min(room, count, Math.max(MOST_CLAIMS, Math.ceil((capacity.get(provider) ?? 0) / peeked.length))))
      left.set(provider, room - mine)
      if (mine < count) waiting.add(provider)
      return mine > 0 || full ? [provider, mine] : []
    })
    return rooms.length > 0 || due.tasks > 0 || due.settled > 0 ? [{ partition, outage, rooms }] : []
  })
  return { shares, waiting }
}
