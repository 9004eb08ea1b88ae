import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { waitFor } from './wait.js'

/** A real redis-server on a loopback port, in a folder of its own: what Sentinels and Clusters are made of. */
export interface RedisServer {
  readonly port: number
  readonly client: Redis
  readonly pid: () => number
  /** SIGKILL, and nothing else. */
  kill(): Promise<void>
  /** Another server in the same folder, at the same port. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export async function startServer(config: readonly string[], options: { sentinel?: boolean; password?: string } = {}): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-redis-'))
  const port = await freePort()
  const { password } = options
  const file = join(folder, 'redis.conf')
  const data = ['save ""', 'appendonly yes', 'hash-max-listpack-value 1024', 'maxmemory-policy noeviction', 'repl-diskless-sync-delay 0']
  const secret = password === undefined ? [] : [`requirepass ${password}`, ...(options.sentinel ? [] : [`masterauth ${password}`])]
  const lines = [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, ...secret, ...(options.sentinel ? [] : data), ...config]
  await writeFile(file, `${lines.join('\n')}\n`)
  let server: ChildProcess
  const start = () => {
    server = spawn('redis-server', [file, ...(options.sentinel ? ['--sentinel'] : [])], { stdio: 'ignore' })
  }
  start()
  const client = new Redis({ host: '127.0.0.1', port, password, protocol: 2, maxRetriesPerRequest: null, retryStrategy: () => 20 })
  client.on('error', () => undefined)
  await client.ping()
  const kill = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  return {
    port,
    client,
    pid: () => server.pid ?? 0,
    kill,
    restart: async () => {
      await kill()
      start()
      await waitFor('redis to answer again', async () => (await client.ping().catch(() => '')) === 'PONG')
    },
    stop: async () => {
      client.disconnect()
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** `name:value` of a section of INFO. */
export async function infoOf({ client }: RedisServer, section: string, name: string): Promise<string | undefined> {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(await client.info(section))?.[1]
}
