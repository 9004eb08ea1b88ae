import { setTimeout as pause } from 'node:timers/promises'
import { bulkhead } from 'cockatiel'
import { apartOf, type Compared, compare } from './compare.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { type TakenBack, takeBack } from './take-back.js'
import type { Principal, RequestContext } from './types.js'
import type { Upstream } from './upstream.js'

export interface ReconcileAsk {
  /** Absent: all that are configured. */
  readonly providers?: readonly string[]
  readonly revoke: boolean
  /** What is not done by then is left for the next run; what was done is told. */
  readonly deadlineMs: number
  /** Look once more, as soon as that decides, at what the first look could not tell; otherwise the next run does. */
  readonly wait?: boolean
  /**
   * Nobody has looked at it: where one provider has more orphans than this, or more than a few and more than what is known, none is revoked. That
   * many are a ledger that has lost something, or somebody else of the same name. Absent: an operator asks.
   */
  readonly most?: number
}
export interface Reconciled {
  readonly startedAt: number
  readonly finishedAt: number
  readonly providers: readonly ReconciledProvider[]
}
export interface ReconciledProvider extends Omit<Compared, 'orphans'> {
  readonly provider: string
  /** `failed`: it could not be listed at all, or not to the end. `not-listable`: nobody can say what of it is there. */
  readonly outcome: 'done' | 'partial' | 'failed' | 'not-listable'
  readonly orphans: readonly { readonly lease: string; readonly expiresAt?: number; readonly outcome: 'found' | TakenBack }[]
  /** More were found than may be revoked without an operator. */
  readonly held?: boolean
  /** Of what cannot be listed: until when anything that it has issued so far may work. Absent: that is not known. */
  readonly usableUntil?: number
}

/** Providers that are looked at at once. */
const AT_ONCE = 4
/** What is left of the lock when the deadline has come. */
const LOCK_MARGIN_MS = 30_000
const BUSY_SECONDS = 5
/** So many are what a crash leaves, however little there is besides. */
const FEW_ORPHANS = 10

/**
 * Holds what exists upstream against the ledger: finds what this instance made and nothing tells of any more, and what should be there and is
 * not. One run at a time over all brokers. A provider that fails, or hangs, is told of, and keeps nothing from the others. What it revokes goes
 * the way of every lease, so that it is never abandoned.
 * @throws MayflyError `rate_limited` while another run is under way; `ledger_unavailable`
 */
export async function reconcile(
  house: House,
  ask: ReconcileAsk,
  by: { principal?: Principal; context?: RequestContext } = {},
  stop?: AbortSignal,
): Promise<Reconciled> {
  const { ledger } = house
  // A provider's name has no "@".
  const lock = await ledger.register('@reconcile').lock('run', ask.deadlineMs + LOCK_MARGIN_MS)
  if (!lock) throw new MayflyError('rate_limited', 'another reconciliation is under way', { retryAfterSeconds: BUSY_SECONDS })
  const late = AbortSignal.timeout(ask.deadlineMs)
  const over = stop ? AbortSignal.any([late, stop]) : late
  try {
    const startedAt = ledger.now()
    const places = bulkhead(AT_ONCE, Number.POSITIVE_INFINITY)
    const asked = [...house.upstreams.values()].filter(({ name }) => ask.providers?.includes(name) ?? true)
    const done = await Promise.allSettled(asked.map((upstream) => places.execute(() => reconcileOne(house, upstream, ask, by, over))))
    const failed = done.find((one) => one.status === 'rejected')
    // The ledger cannot be asked: nothing that was seen can be told from what lives.
    if (failed) throw failed.reason
    const providers = done.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    await tell(house, ask, by, providers)
    return { startedAt, finishedAt: ledger.now(), providers }
  } finally {
    await lock.release()
  }
}

async function reconcileOne(
  house: House,
  upstream: Upstream,
  ask: ReconcileAsk,
  by: { principal?: Principal; context?: RequestContext },
  over: AbortSignal,
): Promise<ReconciledProvider> {
  const { name: provider } = upstream
  const { metrics, log } = house
  if (!upstream.list) return notListable(house, upstream)
  let compared = await compare(house, upstream, over)
  const foundAtFirst = compared.found
  if (ask.wait && compared.seen.length > 0 && !over.aborted) {
    await pause(apartOf(upstream) + 1, undefined, { signal: over }).catch(() => undefined)
    if (!over.aborted) {
      const again = await compare(house, upstream, over)
      compared = { ...again, found: foundAtFirst + again.found }
    }
  }
  const { orphans, found, missing, error, partial } = compared
  metrics.orphans.inc({ provider, outcome: 'found' }, found)
  if (compared.error === undefined && !partial) metrics.reconciledAt.set({ provider }, Math.floor(house.ledger.now() / 1000))
  if (missing) metrics.missing.set({ provider }, missing.length)
  if (found > 0) log.warn({ provider, orphans: orphans.length, found, leases: few(orphans.map(({ lease }) => lease)) }, 'orphans were found upstream')
  if (missing && missing.length > 0) log.warn({ provider, leases: few(missing) }, 'leases are active whose credentials are no longer upstream')

  const held = ask.revoke && ask.most !== undefined && isTooMany(compared, ask.most)
  if (held) log.error({ provider, orphans: orphans.length, most: ask.most }, 'more orphans than are revoked without an operator: none was')
  const outcomes = ask.revoke && !held ? await takeBack(house, upstream, orphans, by, over) : new Map<string, TakenBack>()
  const left = orphans.filter(({ lease }) => outcomes.get(lease) !== 'revoked').length
  metrics.orphansNow.set({ provider }, left)
  return {
    ...compared,
    provider,
    outcome: error !== undefined ? 'failed' : partial ? 'partial' : 'done',
    orphans: orphans.map(({ lease, expiresAt }) => ({ lease, expiresAt, outcome: outcomes.get(lease) ?? 'found' })),
    held: held || undefined,
  }
}

function isTooMany({ orphans, known }: Pick<Compared, 'orphans' | 'known'>, most: number): boolean {
  return orphans.length > most || (orphans.length > FEW_ORPHANS && orphans.length > known)
}

/** Nobody can say what of it is there: only until when, at worst, anything may work that was issued by now. */
function notListable({ ledger, roles }: House, { name, provider }: Upstream): ReconciledProvider {
  const nothing = { listed: 0, known: 0, foreign: [], seen: [], orphans: [], found: 0, partial: false }
  const lives = [...roles.values()]
    .filter((role) => role.provider === name)
    .map((role) => (provider.renew ? role.maxLifetimeSeconds : Math.max(role.maxTtlSeconds, provider.shortestLifeSeconds ?? 0)))
  // What outlives its own expiry ends nobody knows when.
  const longest = provider.expiryEndsUse && lives.length > 0 ? Math.max(...lives) + provider.residualSeconds : undefined
  return { ...nothing, provider: name, outcome: 'not-listable', usableUntil: longest && ledger.now() + longest * 1000 }
}

async function tell(
  { ledger, log }: House,
  { revoke }: ReconcileAsk,
  { principal, context }: { principal?: Principal; context?: RequestContext },
  providers: readonly ReconciledProvider[],
): Promise<void> {
  const sums = providers
    .filter(({ outcome }) => outcome !== 'not-listable')
    .map(({ provider, outcome, listed, known, seen, orphans, missing, held }) => {
      const revoked = orphans.filter((one) => one.outcome === 'revoked').length
      return { provider, outcome, listed, known, seen: seen.length, orphans: orphans.length, revoked, missing: missing?.length, held }
    })
  const told = event('reconciliation.finished', context, principal, { detail: { revoke, providers: sums } })
  const recorded = await ledger.record(told).catch(() => undefined)
  if (!recorded?.ok) log.warn({ providers: sums }, 'a reconciliation could not be recorded')
}

const FEW = 20
function few(ids: readonly string[]): readonly string[] {
  return ids.slice(0, FEW)
}
