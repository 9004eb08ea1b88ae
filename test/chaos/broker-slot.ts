import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'

/** A place where a broker runs, and is started again whatever ended it, as an orchestrator of containers would. */
export interface BrokerSlot {
  /** Where it listens; undefined while it does not. */
  url(): string | undefined
  isPaused(): boolean
  /** Resolves once it listens. What it cannot start without may be away: then it is started again. */
  start(options?: { skewMs?: number; initLedger?: boolean }): Promise<void>
  kill(): Promise<void>
  term(): Promise<void>
  /** @returns false: there is no process to stop */
  pause(): boolean
  resume(): void
}
interface SlotOptions {
  readonly configPath: string
  readonly env: Readonly<Record<string, string>>
  readonly log: string
  /** It ended, having listened, and nobody wanted it to. */
  readonly onCrash: (why: string) => void
}

const MAIN = resolve(import.meta.dirname, '../../dist/main.js')
const SKEW = join(import.meta.dirname, 'skew.js')
const START_AGAIN_MS = 300
/** Starts are most of what a run costs, and no broker lives long enough to win back what optimizing costs. */
const QUICKLY = ['--liftoff-only', '--no-opt']

export function createBrokerSlot({ configPath, env, log, onCrash }: SlotOptions): BrokerSlot {
  const output = createWriteStream(log, { flags: 'a' })
  let child: ChildProcess | undefined
  let url: string | undefined
  let paused = false
  let wanted = false
  let skew = 0

  /** @returns whether it listens; false: it ended before it did */
  const launch = (initLedger: boolean): Promise<boolean> => {
    const skewed = skew === 0 ? [] : ['--import', SKEW]
    const asked = ['serve', '--config', configPath, ...(initLedger ? ['--init-ledger'] : [])]
    const started = spawn(process.execPath, [...QUICKLY, ...skewed, MAIN, ...asked], {
      env: { PATH: process.env.PATH, TMPDIR: process.env.TMPDIR, ...env, MAYFLY_CHAOS_SKEW_MS: String(skew) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    child = started
    output.write(`--- started as ${started.pid}${skew === 0 ? '' : `, its clock ${skew} ms off`}\n`)
    started.stderr.pipe(output, { end: false })
    return new Promise((listens) => {
      createInterface({ input: started.stdout }).on('line', (line) => {
        output.write(`${line}\n`)
        const [, found] = /"public":"([^"]+)"/.exec(line) ?? []
        if (found === undefined || child !== started) return
        url = found
        listens(true)
      })
      started.once('exit', (code, signal) => {
        output.write(`--- ${started.pid} ended with ${code ?? signal}\n`)
        listens(false)
        if (child !== started) return
        child = undefined
        const listened = url !== undefined
        url = undefined
        paused = false
        if (!wanted) return
        if (listened) onCrash(`ended by itself with ${code ?? signal}`)
        setTimeout(() => wanted && !child && void launch(initLedger), START_AGAIN_MS)
      })
    })
  }
  const end = async (signal: NodeJS.Signals) => {
    wanted = false
    const ending = child
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return
    const ended = once(ending, 'exit')
    ending.kill(signal)
    if (paused) ending.kill('SIGCONT')
    await ended
  }
  return {
    url: () => url,
    isPaused: () => paused,
    async start({ skewMs = 0, initLedger = false } = {}) {
      if (child) return
      wanted = true
      skew = skewMs
      await launch(initLedger)
    },
    kill: () => end('SIGKILL'),
    term: () => end('SIGTERM'),
    pause() {
      paused = child?.kill('SIGSTOP') ?? false
      return paused
    },
    resume() {
      child?.kill('SIGCONT')
      paused = false
    },
  }
}
