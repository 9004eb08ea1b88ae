import { carryOn } from './emergency.js'
import type { House } from './house.js'
import { drive } from './revoke.js'

export interface Sweeper {
  /** Sweeps now rather than at the next tick. */
  hint(): void
  stop(): Promise<void>
}

const TICK_MS = 1_000

/** Claims what is due, once a second and whenever it is told that something is, and hands it to revoke; nothing else. */
export function startSweeper(house: () => House, options: { tickMs?: number } = {}): Sweeper {
  const tickMs = options.tickMs ?? TICK_MS
  let stopped = false
  let wake: () => void = () => {}
  let hinted = false
  const resuming = new Set<string>()

  const loop = async (): Promise<void> => {
    while (!stopped) {
      hinted = false
      const left = await sweep(house(), resuming).catch((error: unknown) => {
        house().metrics.sweeps.inc({ outcome: 'failed' })
        house().log.warn({ error: error instanceof Error ? error.message : 'unknown' }, 'a sweep failed; the next one follows')
        return undefined
      })
      if (hinted || stopped || left?.length === 0) continue
      // One place that comes free is enough to look again, and so is a hint or the next tick: no upstream sets the pace of the others.
      await Promise.race([pause(tickMs, (resolve) => (wake = resolve)), ...(left ?? [])])
      wake()
    }
  }
  const running = loop()
  return {
    hint: () => {
      hinted = true
      wake()
    },
    stop: async () => {
      stopped = true
      wake()
      await running
    },
  }
}

/** @returns when there is more to claim and a place for it: what is under way, of which each end frees a place */
async function sweep(house: House, resuming: Set<string>): Promise<readonly Promise<unknown>[] | undefined> {
  const capacity = new Map([...house.upstreams].map(([name, upstream]) => [name, upstream.freeRevokes()]))
  const { claims, expired, lagMs, more } = await house.ledger.claim(capacity)
  const driven = claims.map((claim) => drive(house, claim))
  for (const { provider } of expired) house.metrics.revoked.inc({ provider, outcome: 'expired', cause: 'expired' })
  house.metrics.sweeperLag.set(lagMs / 1000)
  house.metrics.sweeps.inc({ outcome: 'ok' })
  for (const id of await house.ledger.openRevocations()) resume(house, id, resuming)
  return more && (driven.length > 0 || expired.length > 0) ? driven.map((outcome) => outcome.catch(() => undefined)) : undefined
}

/** Any replica goes on with a revocation whose broker may be gone; here, one at a time each. */
function resume(house: House, id: string, resuming: Set<string>): void {
  if (resuming.has(id)) return
  resuming.add(id)
  house.background.run(
    'emergency',
    carryOn(house, id).finally(() => resuming.delete(id)),
  )
}

function pause(ms: number, onWake: (resolve: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    onWake(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
