import { setTimeout as pause } from 'node:timers/promises'
import { type Deadline, within } from './deadline.js'

/**
 * For upstreams whose answer is the only copy of what takes a credential back: a mint that is over its time is left running for a while, and
 * what it makes after all is given back, several times where that fails. What is lost all the same is the provider's blind window.
 */
export interface GiveBack<T> {
  /** As `within`, but the signal aborts only some time after the deadline. */
  mint(time: Deadline, work: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Gives it back; resolves when that was done or given up. */
  now(made: T): Promise<void>
  /** Waits for what is being given back; what has not been answered yet is left to the upstream. */
  close(): Promise<void>
}

/** Past the longest that upstreams let a request run; GitHub ends one after 10 s. */
export const LATE_MS = 30_000
const PAUSES_MS = [250, 1000, 5000]

export function openGiveBack<T>(undo: (made: T) => Promise<unknown>): GiveBack<T> {
  const closing = new AbortController()
  const running = new Set<Promise<void>>()

  const attempts = async (made: T): Promise<void> => {
    for (const ms of [...PAUSES_MS, undefined]) {
      const done = await undo(made).then(
        () => true,
        () => false,
      )
      if (done || ms === undefined || closing.signal.aborted) return
      await pause(ms, undefined, { ref: false, signal: closing.signal }).catch(() => undefined)
    }
  }
  const now = (made: T): Promise<void> => {
    const giving = attempts(made).finally(() => running.delete(giving))
    running.add(giving)
    return giving
  }
  return {
    mint(time, work) {
      const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(time.left() + LATE_MS)])
      return within(
        time,
        () => work(signal),
        (late) => void now(late),
      )
    },
    now,
    async close() {
      closing.abort()
      await Promise.all(running)
    },
  }
}
