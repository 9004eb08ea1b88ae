import { ProviderError } from './provider.js'

/** What is left of a call's time; made once when the call begins, so that each step gets the rest and not the whole. */
export interface Deadline {
  /** Whole milliseconds left, at least 1. @throws ProviderError `timeout` when none is left */
  left(): number
}

export function deadline(ms: number): Deadline {
  const end = performance.now() + ms
  return {
    left() {
      const left = Math.ceil(end - performance.now())
      if (left < 1) throw lateError()
      return left
    },
  }
}

/**
 * The work, or a ProviderError `timeout` once the time is over. The signal aborts then; `abandon` gets the result of work that ends
 * later all the same, to give back what it holds.
 */
export async function within<T>(time: Deadline, work: (signal: AbortSignal) => Promise<T>, abandon?: (late: T) => void): Promise<T> {
  const ms = time.left()
  const controller = new AbortController()
  let over = false
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      over = true
      controller.abort()
      reject(lateError())
    }, ms)
  })
  // Async, so that work that throws before its first await cannot leave the timer, and its rejection, to nobody.
  const running = (async () => work(controller.signal))()
  running.then(
    (result) => over && abandon?.(result),
    () => undefined,
  )
  try {
    return await Promise.race([running, late])
  } finally {
    clearTimeout(timer)
  }
}

function lateError(): ProviderError {
  return new ProviderError('timeout', 'the upstream did not answer in time')
}
