import { setTimeout as pause } from 'node:timers/promises'
import { type Deadline, within } from './deadline.js'

/**
 * For upstreams whose answer is the only copy of what takes a credential back: a mint that is over its time is left running for a while, and
 * what it makes after all is given back, several times where that fails. What is lost all the same is the provider's blind window.
 */
export interface GiveBack<T> {
  /** As `within`, but the signal aborts only some time after the deadline. */
  mint(time: Deadline, work: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Gives it back. Whether the first attempt did; the others go on by themselves. */
  now(made: T): Promise<boolean>
  /** Waits for what is being given back; what has not been answered yet is left to the upstream. */
  close(): Promise<void>
}

/** Past the longest that upstreams let a request run; GitHub ends one after 10 s. */
export const LATE_MS = 30_000
const PAUSES_MS = [250, 1000, 5000]

export function openGiveBack<T>(undo: (made: T) => Promise<unknown>): GiveBack<T> {
  const closing = new AbortController()
  const unanswered = new Set<AbortController>()
  const running = new Set<Promise<void>>()

  const attempt = (made: T): Promise<boolean> =>
    undo(made).then(
      () => true,
      () => false,
    )
  const goOn = async (made: T, first: Promise<boolean>): Promise<void> => {
    if (await first) return
    for (const ms of PAUSES_MS) {
      await pause(ms, undefined, { ref: false, signal: closing.signal }).catch(() => undefined)
      if (closing.signal.aborted || (await attempt(made))) return
    }
  }
  const now = (made: T): Promise<boolean> => {
    const first = attempt(made)
    const all = goOn(made, first).finally(() => running.delete(all))
    running.add(all)
    return first
  }
  return {
    mint(time, work) {
      const answered = async (): Promise<T> => {
        const late = new AbortController()
        const timer = setTimeout(() => late.abort(), time.left() + LATE_MS).unref()
        unanswered.add(late)
        try {
          return await work(late.signal)
        } finally {
          clearTimeout(timer)
          unanswered.delete(late)
        }
      }
      return within(time, answered, (made) => void now(made))
    },
    now,
    async close() {
      closing.abort()
      for (const late of unanswered) late.abort()
      await Promise.all(running)
    },
  }
}
