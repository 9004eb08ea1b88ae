import type { Background, Log } from './house.js'

/** Keeps hold of work that no answer waits for, so that nothing is lost at shutdown and no rejection goes unseen. */
export function createBackground(log: Log): Background {
  const running = new Set<Promise<void>>()
  return {
    run(what, work) {
      const watched = work.then(
        () => undefined,
        (error: unknown) =>
          log.warn({ what, error: error instanceof Error ? error.message : 'unknown' }, 'background work failed; the ledger keeps it due'),
      )
      running.add(watched)
      void watched.then(() => running.delete(watched))
    },
    async drain(ms) {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, ms)
      })
      await Promise.race([late, settled(running)])
      clearTimeout(timer)
    },
  }
}

/** Work may start more work. */
async function settled(running: ReadonlySet<Promise<void>>): Promise<void> {
  while (running.size > 0) await Promise.all(running)
}
