import { mkdtemp, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type RedisProcess, startProcess } from './redis-process.js'

/** A real redis-server on a loopback port, in a folder of its own: what Sentinels and Clusters are made of. */
export interface RedisServer extends RedisProcess {
  readonly port: number
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
  const args = [file, ...(options.sentinel ? ['--sentinel'] : [])]
  return { port, ...(await startProcess(folder, args, { host: '127.0.0.1', port, password })) }
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
