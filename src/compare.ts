import { createBreath } from './breath.js'
import { event } from './event.js'
import type { House } from './house.js'
import { ProviderError } from './providers/provider.js'
import type { Handle } from './types.js'
import type { Upstream } from './upstream.js'

/** What one provider has upstream, held against the ledger. */
export interface Compared {
  /** Names of this instance's form that exist upstream. */
  readonly listed: number
  /** The ledger has an unsettled record of it, or settled it while it was listed. */
  readonly known: number
  /** Named as this instance names things, after an id that this ledger could not have made: for a person to look at. */
  readonly foreign: readonly string[]
  /** In the ledger nothing that lives tells of it; whether that is how it stays, a listing will tell that begins late enough. */
  readonly seen: readonly string[]
  readonly orphans: readonly Orphan[]
  /** Of those, how many were not known as such before. */
  readonly found: number
  /** The ledger has it as active, and the upstream has it no longer. Undefined where the listing did not come to its end. */
  readonly missing?: readonly string[]
  /** More than is looked at in one run, or the time was over: what is told is true, and not all. */
  readonly partial: boolean
  readonly error?: string
}
export interface Orphan {
  readonly lease: string
  readonly handle: Handle
  readonly expiresAt?: number
}

/** A step of the ledger for each partition, for so many. */
const BATCH = 1_000
/** Kept in mind of one provider. What is beyond is for the next run, when these are gone. */
const MOST_KEPT = 100_000
const MOST_FOREIGN = 100
/** How far apart the clocks of brokers, ledger and upstreams may be, and how late a listing may be told of a change. */
export const SKEW_MS = 2_000

/**
 * Nothing that lives is ever told as an orphan: its record is written before it exists, and the ledger is asked after the upstream. What has no
 * such record may have been listed on its way out, or be under way in a mint whose record was lost; so it is an orphan only where it is listed
 * once more, as long after the ledger knew nothing of it as a mint may take, and `SKEW_MS` besides.
 */
export function apartOf({ timeoutMs }: Pick<Upstream, 'timeoutMs'>): number {
  return timeoutMs + SKEW_MS
}

/** One listing. An upstream that cannot be listed to the end is told of with what it said until then. */
export async function compare({ ledger, log }: House, upstream: Upstream, over: AbortSignal): Promise<Compared> {
  const provider = upstream.name
  const listedFrom = ledger.now()
  const kept = new Map<string, Orphan>()
  const there = new Set<string>()
  const orphans: Orphan[] = []
  const seen: string[] = []
  const foreign: string[] = []
  const breathe = createBreath()
  let [listed, known, found] = [0, 0, 0]
  let partial = false
  let error: string | undefined

  const settle = async (): Promise<void> => {
    if (kept.size === 0) return
    const batch = new Map(kept)
    kept.clear()
    const whereabouts = await ledger.lookUp([...batch.keys()])
    const suspects = [...batch.keys()].filter((id) => ['unknown', 'settled'].includes(whereabouts.get(id) ?? ''))
    const told = event('orphan.found', undefined, undefined, { provider, cause: 'orphan' })
    const sights = suspects.length === 0 ? new Map() : await ledger.sight(provider, suspects, { listedFrom, apartMs: apartOf(upstream) }, told)
    for (const [id, one] of batch) {
      const sight = sights.get(id) ?? 'known'
      if (!whereabouts.has(id)) {
        if (foreign.length < MOST_FOREIGN) foreign.push(id)
      } else if (sight === 'known') known++
      else if (orphans.length + seen.length >= MOST_KEPT) partial = true
      else if (sight === 'seen') seen.push(id)
      else {
        orphans.push(one)
        if (sight === 'found') found++
      }
    }
  }

  try {
    for await (const one of upstream.list?.() ?? []) {
      listed++
      await breathe()
      kept.set(one.lease, one)
      if (there.size < MOST_KEPT) there.add(one.lease)
      if (kept.size >= BATCH) await settle()
      if (over.aborted) break
    }
    await settle()
    partial ||= over.aborted
  } catch (thrown) {
    if (!(thrown instanceof ProviderError)) throw thrown
    error = thrown.message
    await settle()
  }
  if (error !== undefined) log.warn({ provider, error }, 'what exists upstream could not be listed to the end')
  const isWhole = error === undefined && !partial && listed <= MOST_KEPT
  return {
    ...{ listed, known, foreign, seen, orphans, found, partial, error },
    missing: isWhole ? await missingOf(ledger, provider, listedFrom, there) : undefined,
  }
}

/** Active now, so that no revoke was begun, and minted before the listing began: it should have been there. */
async function missingOf({ activesOf }: House['ledger'], provider: string, listedFrom: number, there: ReadonlySet<string>): Promise<string[]> {
  const missing: string[] = []
  for await (const page of activesOf(provider, listedFrom - SKEW_MS)) missing.push(...page.filter((id) => !there.has(id)))
  return missing
}
