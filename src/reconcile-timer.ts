import { setTimeout as pause } from 'node:timers/promises'
import type { House } from './house.js'
import { reconcile } from './reconcile.js'

export interface ReconcileTimer {
  stop(): Promise<void>
}
export interface ReconcileTimerOptions {
  readonly firstMs?: number
  readonly tickMs?: number
}

/** A start has better things to do, and what it takes does not grow with what is live. */
const FIRST_MS = 60_000
const TICK_MS = 15_000
const LONGEST_MS = 600_000

/** Reconciles when the time has come, on one replica: whoever gets the lock that lasts until the next time. */
export function startReconciling(house: () => House, options: ReconcileTimerOptions = {}): ReconcileTimer {
  const stopping = new AbortController()
  const { signal } = stopping
  const wait = (ms: number) => pause(ms, undefined, { ref: false, signal }).catch(() => undefined)
  let ranAt = Number.NEGATIVE_INFINITY
  const loop = async (): Promise<void> => {
    await wait(options.firstMs ?? FIRST_MS)
    while (!signal.aborted) {
      const ran = await reconcileInTime(house(), signal).catch((error: unknown) => {
        house().log.warn({ error: error instanceof Error ? error.message : 'unknown' }, 'a reconciliation failed; the next one follows')
        return false
      })
      if (ran) ranAt = performance.now()
      else if (performance.now() - ranAt > house().reconciling.everyMs) forget(house())
      await wait(options.tickMs ?? TICK_MS)
    }
  }
  const running = loop()
  return {
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}

async function reconcileInTime(house: House, signal: AbortSignal): Promise<boolean> {
  const { everyMs, revoke, most } = house.reconciling
  if (everyMs === 0) return false
  const lock = await house.ledger.register('@reconcile').lock('timer', everyMs)
  if (!lock) return false
  try {
    // A ledger that has forgotten something knows too little to say what is nobody's.
    const mayRevoke = revoke && !house.ledger.quarantined()
    await reconcile(house, { revoke: mayRevoke, deadlineMs: Math.min(everyMs, LONGEST_MS), most }, {}, signal)
    return true
  } catch (error) {
    // Not looked at this time: whoever ticks next may try.
    await lock.release()
    throw error
  }
}

/** Another replica has looked since: what this one saw last is no news any more. */
function forget({ metrics }: House): void {
  metrics.orphansNow.reset()
  metrics.missing.reset()
}
