import { setTimeout as pause } from 'node:timers/promises'
import type { Orphan } from './compare.js'
import { event } from './event.js'
import type { House } from './house.js'
import { drive } from './revoke.js'
import type { Principal, RequestContext } from './types.js'
import type { Upstream } from './upstream.js'

/** Revokes that one run keeps waiting in this broker; what is beyond is due at once for whoever sweeps. */
const MOST_UNDER_WAY = 256
const AT_ONCE = 100
const LOOK_EVERY_MS = 100
/** Longer than that without one more that is gone: the upstream does not do it now, and nobody is kept waiting for it. */
const STALLED_MS = 10_000

/** `closing`: the ledger has it, and it is taken back however often that fails. */
export type TakenBack = 'closing' | 'revoked'

/**
 * Makes orphans the ledger's: each is written as a lease that is closing, with what revokes it, and from then on goes the way of all leases,
 * whatever becomes of this broker. Answers once all are settled, nothing moves any more, or the time is over; what it does not name is not the
 * ledger's yet.
 */
export async function takeBack(
  house: House,
  upstream: Upstream,
  orphans: readonly Orphan[],
  by: { principal?: Principal; context?: RequestContext },
  over: AbortSignal,
): Promise<Map<string, TakenBack>> {
  const { ledger, metrics } = house
  const { name: provider } = upstream
  const { revocation, residualSeconds } = upstream.provider
  let underWay = 0
  const ended = () => {
    underWay--
  }
  const adopted: string[] = []
  const adopt = async ({ lease, handle, expiresAt }: Orphan): Promise<void> => {
    const left = underWay >= MOST_UNDER_WAY
    if (!left) underWay++
    const told = event('lease.closing', by.context, by.principal, { lease, provider, cause: 'orphan' })
    const kept = await upstream.keep({ id: lease, handle })
    const { adopted: isNew, claim } = await ledger.adopt({ lease, provider, ...kept, revocation, residualSeconds, expiresAt }, told, { left })
    adopted.push(lease)
    if (isNew) metrics.orphans.inc({ provider, outcome: 'adopted' })
    if (claim) void drive(house, claim).then(ended, ended)
    else if (!left) ended()
  }
  for (let from = 0; from < orphans.length && !over.aborted; from += AT_ONCE) await Promise.all(orphans.slice(from, from + AT_ONCE).map(adopt))
  return settled(ledger, adopted, over)
}

async function settled({ lookUp }: House['ledger'], ids: readonly string[], over: AbortSignal): Promise<Map<string, TakenBack>> {
  const outcomes = new Map<string, TakenBack>()
  let left = ids
  let movedAt = performance.now()
  for (;;) {
    const whereabouts = await lookUp(left)
    for (const id of left) outcomes.set(id, ['settled', 'unknown'].includes(whereabouts.get(id) ?? '') ? 'revoked' : 'closing')
    const closing = left.filter((id) => outcomes.get(id) === 'closing')
    if (closing.length < left.length) movedAt = performance.now()
    left = closing
    if (left.length === 0 || over.aborted || performance.now() - movedAt > STALLED_MS) return outcomes
    // Looking costs too: the more there is to look at, the less often.
    await pause(LOOK_EVERY_MS + left.length / 50, undefined, { signal: over }).catch(() => undefined)
  }
}
