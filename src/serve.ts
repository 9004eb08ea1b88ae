import { watch } from 'chokidar'
import { pino } from 'pino'
import { createBroker, type Overrides } from './broker.js'
import { loadConfig } from './config.js'
import { containDrivers } from './contain.js'
import { putHelpersBehind } from './thread-priority.js'

export interface ServeOptions {
  readonly config: string
  /** Takes an empty Redis for a first start, and not for one that has lost its data. */
  readonly initLedger: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  /** SIGTERM or SIGINT came. */
  readonly stop: AbortSignal
  /** SIGHUP: the configuration is to be read again. */
  onHangup(listener: () => void): void
  readonly overrides?: Overrides
}

/** By looking at the files and not by notification: a mounted ConfigMap changes by a symbolic link above it, unnoticed by inotify. */
const LOOK_EVERY_MS = 2_000

/** Clients that use a connection again within this time are told that it is over, rather than finding it so. */
const LINGER_MS = 1_000
const LOG_BUFFER_BYTES = 15_000
const LOG_FLUSH_MS = 250

/** `mayfly serve`: the broker until it is told to stop. */
export async function serve({ config: path, initLedger, env, stop, onHangup, overrides }: ServeOptions): Promise<void> {
  // From the first moment on: a hangup that nobody listens to ends the process.
  let reload = () => {}
  onHangup(() => reload())
  putHelpersBehind()
  const config = await loadConfig(path, env)
  // One write for many lines: at thousands of requests a second the system calls cost more than the lines. What must not be lost with a
  // killed process is in the events, never in the log.
  const output = pino.destination({ dest: 1, sync: false, minLength: LOG_BUFFER_BYTES, periodicFlush: LOG_FLUSH_MS })
  const log = pino({ level: config.logLevel, base: { instance: config.instance } }, output)
  const letGo = containDrivers(log)
  const broker = await createBroker(config, { log, initLedger, ...overrides })
  const watcher = watch([...config.files], { usePolling: true, interval: LOOK_EVERY_MS, ignoreInitial: true })
  try {
    const urls = await broker.start()
    reload = oneAtATime(async () => {
      if (stop.aborted) return
      try {
        const next = await loadConfig(path, env)
        await broker.reload(next)
        log.level = next.logLevel
        watcher.add([...next.files])
      } catch (error) {
        log.error({ error: error instanceof Error ? error.message : 'unknown' }, 'the new configuration is not used; the old one stays')
      }
    })
    watcher.on('all', reload)
    log.info(urls, 'listening')
    output.flush()
    await aborted(stop)
    log.info({}, 'stopping')
    output.flush()
  } finally {
    await watcher.close()
    await broker.stop(LINGER_MS)
    letGo()
    output.flushSync()
  }
}

/** Runs `work` now, or once more after the run that is under way: what changed meanwhile is seen by the next. */
function oneAtATime(work: () => Promise<void>): () => void {
  let running = false
  let again = false
  const run = async () => {
    running = true
    do {
      again = false
      await work()
    } while (again)
    running = false
  }
  return () => {
    again = true
    if (!running) void run()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
