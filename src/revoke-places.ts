import { bulkhead } from 'cockatiel'

/** Revokes of one upstream: so many at once, in the order in which they came. */
export interface RevokePlaces {
  run<T>(revoke: () => Promise<T> | T): Promise<T>
  /** Claims that are worth having now. */
  free(): number
  /** When one of those under way has ended and there is room again; undefined while none is. */
  room(): Promise<void> | undefined
}

/** What an upstream does within this long may wait in line here, so that it is never idle while the next are claimed. */
const WINDOW_MS = 500
/** And no more than this: other brokers could not have it, and if this one dies it comes due late. */
const MOST_WAITING = 256

/** An upstream that ends none has none waiting: what it does not do stays with whoever can. */
export function createRevokePlaces(atOnce: number): RevokePlaces {
  const places = bulkhead(atOnce, Number.POSITIVE_INFINITY)
  /** State: under way or in line; how many ended in this window and in the one before; who waits for room. */
  let held = 0
  let window = { began: performance.now(), ended: 0, before: 0 }
  let waiting: { readonly told: Promise<void>; readonly tell: () => void } | undefined

  const ended = (): number => {
    const now = performance.now()
    const passed = now - window.began
    if (passed >= WINDOW_MS) window = { began: now, ended: 0, before: passed < 2 * WINDOW_MS ? window.ended : 0 }
    return Math.max(window.ended, window.before)
  }
  const line = () => Math.min(MOST_WAITING, ended())
  const end = (): void => {
    ended()
    window.ended++
    held--
    // Not before the line is half as long: a look at what is due costs the same, however little it finds.
    if (held >= atOnce + line() / 2) return
    waiting?.tell()
    waiting = undefined
  }
  return {
    run(revoke) {
      held++
      return places.execute(revoke).finally(end)
    },
    free: () => Math.max(0, atOnce + line() - held),
    room() {
      if (held === 0) return undefined
      if (!waiting) {
        let tell = (): void => {}
        const told = new Promise<void>((resolve) => {
          tell = resolve
        })
        waiting = { told, tell }
      }
      return waiting.told
    },
  }
}
