import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { Redis, type RedisOptions } from 'ioredis'
import { waitFor } from './wait.js'

/** A redis-server of a test's own, that can die and come back. */
export interface RedisProcess {
  /** Reconnects by itself; waits while the server is away. */
  readonly client: Redis
  readonly pid: () => number
  /** SIGKILL, and nothing else. */
  kill(): Promise<void>
  /** Another server in the same folder, at the same address: with AOF it has the same data, without it has none. */
  restart(): Promise<void>
  /** Ends the server, and removes its folder. */
  stop(): Promise<void>
}

export async function startProcess(folder: string, args: readonly string[], address: RedisOptions): Promise<RedisProcess> {
  let server: ChildProcess
  const start = () => {
    server = spawn('redis-server', args, { stdio: 'ignore' })
  }
  start()
  const client = new Redis({ ...address, protocol: 2, maxRetriesPerRequest: null, retryStrategy: () => 20 })
  client.on('error', () => undefined)
  await client.ping()
  const kill = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  return {
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
