import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** Core of what is measured, and core of everything that measures it. */
export const MEASURED = 0
export const MEASURING = 1

const TICKS_PER_SECOND = 100

/** Starts a process on one core; `ready` picks what it says once it can be used. */
export async function startPinned<T>(
  core: number,
  command: readonly string[],
  options: { env?: Record<string, string>; ready: (line: string) => T | undefined },
): Promise<{ process: ChildProcess; pid: number; answer: T; stop: () => Promise<void> }> {
  const child = spawn('taskset', ['-c', String(core), ...command], { env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const said: string[] = []
  const lines = createInterface({ input: child.stdout })
  createInterface({ input: child.stderr }).on('line', (line) => said.push(line))
  const answer = await new Promise<T>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`${command.join(' ')} ended with ${code}:\n${said.slice(-20).join('\n')}`)))
    lines.on('line', (line) => {
      said.push(line)
      if (said.length > 200) said.shift()
      const found = options.ready(line)
      if (found !== undefined) resolve(found)
    })
  })
  const { pid } = child
  if (pid === undefined) throw new Error('no pid')
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
    await ended
    clearTimeout(timer)
  }
  return { process: child, pid, answer, stop }
}

/** Pins this process (the load generator), and what it starts from here on, to one core. */
export function pinSelf(core: number): void {
  execFileSync('taskset', ['-a', '-cp', String(core), String(process.pid)], { stdio: 'ignore' })
}

const AUTOGROUP = '/proc/self/autogroup'

/**
 * Meanwhile this process and what it starts come before the sessions of PostgreSQL. Where the kernel groups processes by session, priorities hold only
 * within a group (sched(7), "The autogroup feature"), and each backend is a group of its own: eight busy ones would leave a ninth of a core to all of ours.
 */
export async function beforeOtherSessions<T>(work: () => Promise<T>): Promise<T> {
  if (!existsSync(AUTOGROUP)) return work()
  const [, before = '0'] = /nice (-?\d+)/.exec(readFileSync(AUTOGROUP, 'utf8')) ?? []
  writeFileSync(AUTOGROUP, '-20')
  try {
    return await work()
  } finally {
    writeFileSync(AUTOGROUP, before)
  }
}

/** CPU time of a process, all threads, in microseconds; `/proc/<pid>/stat` fields 14 and 15. */
export function cpuMicroseconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((p / 100) * sorted.length) - 1)] ?? 0
}

export function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits))
}
