import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'

const MAIN = resolve(import.meta.dirname, '../../dist/main.js')

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

/** Stops it in order. */
export async function stop(run: Run): Promise<Ended> {
  run.child.kill('SIGTERM')
  return run.ended
}
