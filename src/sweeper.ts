import { setTimeout as pause } from 'node:timers/promises'
import { carryOn } from './emergency.js'
import type { House } from './house.js'
import { drive } from './revoke.js'

export interface Sweeper {
  /** Sweeps now rather than at the next tick. */
  hint(): void
  stop(): Promise<void>
}

const TICK_MS = 1_000
/** Between two sweeps: each looks into all partitions, however much there is to do. */
const LEAST_MS = 20

/** Claims what is due, once a second and whenever it is told that something is, and hands it to revoke; nothing else. */
export function startSweeper(house: () => House, options: { tickMs?: number } = {}): Sweeper {
  const tickMs = options.tickMs ?? TICK_MS
  let stopped = false
  let wake: () => void = () => {}
  let hinted = false
  const resume = createResume(tickMs)
  const isFull = createNowAndThen(tickMs / 2)

  const loop = async (): Promise<void> => {
    while (!stopped) {
      hinted = false
      const next = performance.now() + LEAST_MS
      const room = await sweep(house(), resume, isFull()).catch((error: unknown) => {
        house().metrics.sweeps.inc({ outcome: 'failed' })
        house().log.warn({ error: error instanceof Error ? error.message : 'unknown' }, 'a sweep failed; the next one follows')
        return undefined
      })
      // Room at one upstream is enough to look again, and so is a hint or the next tick: no upstream sets the pace of the others.
      if (!hinted && !stopped && room?.length !== 0) await Promise.race([tick(tickMs, (resolve) => (wake = resolve)), ...(room ?? [])])
      wake()
      await pause(Math.max(0, next - performance.now()))
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

/** @returns what to wait for before there is more to do: the first of these, or nothing. Undefined: the next tick. */
async function sweep(house: House, resume: (house: House) => Promise<void>, full: boolean): Promise<readonly Promise<unknown>[] | undefined> {
  const capacity = new Map([...house.upstreams].map(([name, upstream]) => [name, upstream.freeRevokes()]))
  const { claims, expired, lagMs, more, waiting } = await house.ledger.claim(capacity, { full })
  const driven = claims.map((claim) => drive(house, claim).catch(() => undefined))
  for (const { provider } of expired) house.metrics.revoked.inc({ provider, outcome: 'expired', cause: 'expired' })
  house.metrics.sweeperLag.set(lagMs / 1000)
  house.metrics.sweeps.inc({ outcome: 'ok' })
  await resume(house)
  const room = [...waiting].map((name) => house.upstreams.get(name)?.revokeRoom())
  const busy = room.filter((one) => one !== undefined)
  // Of an upstream that was busy and is not by now, nothing tells when there is room.
  if (claims.length > 0 && (more || busy.length < room.length)) return [...driven, ...busy]
  if (more && expired.length > 0) return []
  return busy.length > 0 ? busy : undefined
}

/** Any replica goes on with a revocation whose broker may be gone; here, one at a time each, and not at each of many sweeps. */
function createResume(tickMs: number): (house: House) => Promise<void> {
  const resuming = new Set<string>()
  const isTime = createNowAndThen(tickMs / 2)
  return async (house) => {
    if (!isTime()) return
    for (const id of await house.ledger.openRevocations()) {
      if (resuming.has(id)) continue
      resuming.add(id)
      house.background.run(
        'emergency',
        carryOn(house, id).finally(() => resuming.delete(id)),
      )
    }
  }
}

/** True once in so long, the first time it is asked. */
function createNowAndThen(everyMs: number): () => boolean {
  let next = Number.NEGATIVE_INFINITY
  return () => {
    if (performance.now() < next) return false
    next = performance.now() + everyMs
    return true
  }
}

function tick(ms: number, onWake: (resolve: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    onWake(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
