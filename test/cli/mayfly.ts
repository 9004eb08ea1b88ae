import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { waitFor } from '../support/wait.js'

const MAIN = resolve(import.meta.dirname, '../../dist/main.js')
/** The machine may have more to do. */
const START_MS = 25_000

/** The built executable, as a process of its own. */
export interface Run {
  readonly child: ChildProcess
  /** What it wrote so far. */
  readonly out: () => string
  readonly err: () => string
  readonly ended: Promise<Ended>
}
export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Run {
  // Nothing of the caller's own environment decides: not its token, not its home.
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env.PATH, HOME: '/nonexistent', ...env } })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk) => (out += chunk))
  child.stderr.on('data', (chunk) => (err += chunk))
  const ended = new Promise<Ended>((done) => child.once('close', (code) => done({ code, out, err })))
  return { child, out: () => out, err: () => err, ended }
}

export function mayfly(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ended> {
  return start(args, env).ended
}

/** Waits until it has said so; fails with its own words when it ends first. */
export async function until(run: Run, said: string): Promise<void> {
  let ended: Ended | undefined
  void run.ended.then((how) => {
    ended = how
  })
  await waitFor(`"${said}"`, () => ended !== undefined || run.out().includes(said) || run.err().includes(said), START_MS)
  if (ended !== undefined) throw new Error(`it ended with ${ended.code} before it said "${said}": ${ended.err}${ended.out}`)
}

/** Stops it in order. */
export async function stop(run: Run): Promise<Ended> {
  run.child.kill('SIGTERM')
  return run.ended
}
