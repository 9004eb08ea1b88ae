import { mkdtemp } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type RedisProcess, startProcess } from './redis-process.js'
import { waitFor } from './wait.js'

export interface TestRedis extends RedisProcess {
  readonly socketPath: string
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
  return { socketPath, ...(await startProcess(folder, args, { path: socketPath })) }
}
