import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { waitFor } from './wait.js'

const ROOT = join(import.meta.dirname, '../..')
/** The Rego that is shipped. */
export const REGO = join(ROOT, 'config/policies/rego')

/** A real OPA, where there is one: `scripts/opa.sh` builds it. Undefined: what needs it is skipped, and CI fails for that. */
export const opaBinary: string | undefined = execFileSync(join(ROOT, 'scripts/opa.sh'), ['find'], { encoding: 'utf8' }).trim() || undefined

export interface TestOpa {
  readonly url: string
  /** Puts a policy beside the others, or in the place of the one with this id. */
  put(id: string, rego: string): Promise<void>
  stop(): Promise<void>
}

/** An OPA of its own process on loopback, with these files and folders, and more arguments. */
export async function startOpa(paths: readonly string[], more: readonly string[] = []): Promise<TestOpa> {
  if (opaBinary === undefined) throw new Error('there is no OPA: scripts/opa.sh builds it')
  const port = await freePort()
  const args = ['run', '--server', '--addr', `127.0.0.1:${port}`, '--log-level', 'error', '--disable-telemetry', ...more, ...paths]
  const child = spawn(opaBinary, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const said: string[] = []
  child.stderr.on('data', (data) => said.push(String(data)))
  const url = `http://127.0.0.1:${port}`
  const isUp = async () => (await fetch(`${url}/health`).catch(() => undefined))?.ok === true
  await waitFor('OPA', async () => {
    if (child.exitCode !== null) throw new Error(`OPA ended with ${child.exitCode}: ${said.join('')}`)
    return isUp()
  })
  return {
    url,
    async put(id, rego) {
      const { ok, status } = await fetch(`${url}/v1/policies/${id}`, { method: 'PUT', body: rego, headers: { 'content-type': 'text/plain' } })
      if (!ok) throw new Error(`OPA did not take the policy: ${status}`)
    },
    stop: () => ended(child),
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
