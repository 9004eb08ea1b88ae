import type { House } from '../house.js'
import type { Lease, LeaseState } from '../types.js'
import type { Call } from './route.js'

const LOOK_EVERY_MS = 100

export interface Patience {
  readonly seconds: number
  /** Ends the wait before its time: the caller is gone, or the broker drains. */
  readonly isOver: () => boolean
}

/** For as long as the caller asked and is there, and the broker stays. */
export function patienceOf(seconds: number, { callerGone, around }: Pick<Call<unknown, unknown, unknown>, 'callerGone' | 'around'>): Patience {
  return { seconds, isOver: () => callerGone() || around.isDraining() }
}

/**
 * Waits until every one of these leases is settled, at most so long, and answers them as they are then. What this broker drives it hears
 * of at once; what another one does, or what needs another attempt, it looks for.
 */
export async function untilSettled(
  house: House,
  closing: readonly { readonly lease: string; readonly state: Promise<LeaseState> }[],
  patience: Patience,
): Promise<Lease[]> {
  const until = performance.now() + patience.seconds * 1000
  const isOver = () => performance.now() >= until || patience.isOver()
  let heard = false
  const all = Promise.allSettled(closing.map(({ state }) => state)).then(() => {
    heard = true
  })
  while (!heard && !isOver()) await Promise.race([all, pause(Math.min(LOOK_EVERY_MS, until - performance.now()))])
  for (;;) {
    const leases = await Promise.all(closing.map(({ lease }) => house.ledger.lease(lease)))
    const found = leases.filter((lease) => lease !== undefined)
    if (isOver() || found.every(({ state }) => state === 'revoked' || state === 'expired')) return found
    await pause(Math.min(LOOK_EVERY_MS, until - performance.now()))
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(1, ms)))
}
