import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'
import { waitFor } from './wait.js'

export interface TestRedis {
  readonly socketPath: string
  /** Reconnects by itself; waits while the server is away. */
  readonly client: Redis
  readonly pid: () => number
  /** Ends the server in order, and removes its folder. */
  stop(): Promise<void>
  /** SIGKILL, and nothing else. */
  kill(): Promise<void>
  /** Another server in the same folder: with AOF it has the same data, without it has none. */
  restart(): Promise<void>
}

/** What clients send to a server from now on, a line a command; what scripts do within is not among it. */
export async function watchCommands({ socketPath, client }: TestRedis): Promise<{ seen(): Promise<readonly string[]>; stop(): void }> {
  const lines: string[] = []
  const socket = connect(socketPath)
  let marks = 0
  createInterface({ input: socket }).on('line', (line) => lines.push(line))
  socket.write('MONITOR\r\n')
  await waitFor('the monitor to begin', () => lines.length > 0)
  return {
    async seen() {
      // Everything sent before this has been seen once this is.
      const mark = `mark-${++marks}-of-the-monitor`
      await client.echo(mark)
      await waitFor('what was sent', () => lines.some((line) => line.includes(mark)))
      return lines.splice(0).filter((line) => !line.includes('-of-the-monitor') && / \[\d+ (?!lua\])/.test(line))
    },
    stop: () => socket.destroy(),
  }
}

/** A real redis-server on a Unix socket in a folder of its own. `config` are lines such as `appendonly yes`. */
export async function startRedis(config: readonly string[] = []): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-redis-'))
  const socketPath = join(folder, 'redis.sock')
  const lines = [
    'save ""',
    'port 0',
    `unixsocket ${socketPath}`,
    'hash-max-listpack-value 1024',
    'maxmemory-policy noeviction',
    `dir ${folder}`,
    ...config,
  ]
  const args = lines.flatMap((line) => {
    const [name = '', ...values] = line.split(' ')
    return [`--${name}`, ...values.map((value) => (value === '""' ? '' : value))]
  })
  let server: ChildProcess
  const start = () => {
    server = spawn('redis-server', args, { stdio: 'ignore' })
  }
  start()
  const client = new Redis({ path: socketPath, protocol: 2, maxRetriesPerRequest: null, retryStrategy: () => 20 })
  client.on('error', () => undefined)
  await client.ping()

  const kill = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  return {
    socketPath,
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
