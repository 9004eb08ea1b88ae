import { readdirSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/** By so much the event loop comes before them, about ten times as often; on a core that is idle they run as ever. */
const BEHIND = 10
const LEAST_PRIORITY = 19
/** What Node 24 calls them; before, threads had no names. The others, libuv's, write the audit log and check signatures. */
const NAME = 'V8Worker'
const THREADS = '/proc/self/task'

/**
 * V8 collects garbage and compiles on four threads of its own. On one core, at the priority of the event loop, they leave it a fifth for as long as a collection takes,
 * 70 ms and more, in which a stop waits as everybody does. Linux has a priority for each thread: setpriority(2), "C library/kernel differences". Elsewhere, and
 * where threads have no names, nothing is changed.
 * @returns how many were put behind the event loop
 */
export function putHelpersBehind(): number {
  return threads().filter((thread) => isPutBehind(thread)).length
}

function threads(): readonly number[] {
  try {
    return readdirSync(THREADS).map(Number)
  } catch {
    return []
  }
}

function isPutBehind(thread: number): boolean {
  try {
    if (readFileSync(`${THREADS}/${thread}/comm`, 'utf8').trim() !== NAME) return false
    setPriority(thread, Math.min(LEAST_PRIORITY, getPriority() + BEHIND))
    return true
  } catch {
    // A thread that is over, or a kernel that does not allow it: it is as it was.
    return false
  }
}
