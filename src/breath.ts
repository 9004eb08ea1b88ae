import { setImmediate } from 'node:timers/promises'

/** For how long one piece of work keeps the event loop, and with it every request, a stop too. */
const MOST_MS = 4

/** For work that may be long without ever waiting: called between its steps, it lets everybody else have their turn once in so many milliseconds. */
export function createBreath(mostMs = MOST_MS): () => Promise<void> | undefined {
  let since = performance.now()
  return () => {
    if (performance.now() - since < mostMs) return undefined
    return setImmediate().then(() => {
      since = performance.now()
    })
  }
}
