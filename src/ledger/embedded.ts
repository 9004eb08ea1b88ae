import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, lstat, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { MayflyError } from '../errors.js'

export interface EmbeddedRedis {
  readonly socketPath: string
  readonly pid: number
  /** False: a server of this data folder was running still, and is used. */
  readonly started: boolean
  /** Ends the server, unless another broker of this data folder is connected to it; whoever leaves last ends it. Its data stays. */
  stop(): Promise<void>
}

/** `sun_path` has 108 bytes on Linux, 104 on macOS, with the NUL at its end. */
const LONGEST_SOCKET_PATH = 103
const START_MS = 30_000
const STOP_MS = 10_000
const LEAVING_MS = 300
const POLL_MS = 25
const BINARIES = ['redis-server', 'valkey-server']

/**
 * A Redis (or Valkey) of this data folder alone, as a child: on a Unix socket in a folder that only this user can enter, without a TCP
 * port, every write on disk before it is acknowledged. It outlives a killed broker; the next one finds it by its pid file and socket.
 * Throws `MayflyError('ledger_unavailable')` when there is no server program or it does not start.
 */
export async function startEmbeddedRedis(options: { dataDir: string; binary?: string }): Promise<EmbeddedRedis> {
  const folder = join(resolve(options.dataDir), 'redis')
  await privateFolder(folder)
  const pidFile = join(folder, 'redis.pid')
  const socketPath = await socketIn(folder)

  // Two brokers of one data folder may start at once: one of them starts the server, the other finds it.
  const unlock = await lock(join(folder, 'starting.pid'))
  try {
    const running = await existing(socketPath, folder, pidFile)
    if (running !== undefined) return { socketPath, pid: running, started: false, stop: () => stopUnused(socketPath, running) }
    await rm(socketPath, { force: true })
    const config = join(folder, 'redis.conf')
    await writeFile(config, configOf({ folder, socketPath, pidFile }), { mode: 0o600 })
    const pid = await start(options.binary === undefined ? BINARIES : [options.binary], config, socketPath, folder)
    return { socketPath, pid, started: true, stop: () => stopUnused(socketPath, pid) }
  } finally {
    await unlock()
  }
}

/** The first of these programs that there is, once it answers. */
async function start(binaries: readonly string[], config: string, socketPath: string, folder: string): Promise<number> {
  const [binary, ...others] = binaries
  if (binary === undefined)
    throw unavailable('there is no redis-server and no valkey-server', 'install one of them, or give the ledger the URL of a Redis')
  // A session of its own: what a terminal sends to the broker's group must not end the ledger before the broker.
  const child = spawn(binary, [config], { stdio: ['ignore', 'ignore', 'pipe'], detached: true, cwd: folder })
  const said: Buffer[] = []
  child.stderr?.on('data', (chunk: Buffer) => said.push(chunk))
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => {
      const words = Buffer.concat(said).toString().slice(0, 300).trim()
      reject(unavailable('the embedded Redis ended at once', `see redis.log in ${folder}`, `exit ${code}: ${words}`))
    })
  })
  const given = new AbortController()
  try {
    const pid = await Promise.race([untilAnswering(socketPath, folder, given.signal), failed])
    // It is not this process's to wait for: a broker may end, or be killed, before it.
    child.unref()
    child.stderr?.destroy()
    return pid
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return start(others, config, socketPath, folder)
    child.kill('SIGKILL')
    throw error
  } finally {
    given.abort()
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
}

/** Answers how to give it back. A lock whose holder is gone is taken over. */
async function lock(path: string): Promise<() => Promise<void>> {
  const end = performance.now() + START_MS
  for (;;) {
    try {
      await writeFile(path, String(process.pid), { flag: 'wx', mode: 0o600 })
      return () => rm(path, { force: true })
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error
    }
    const holder = Number(await readFile(path, 'utf8').catch(() => ''))
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true })
    if (performance.now() > end) throw unavailable('another broker is starting on this data folder', `if there is none, remove ${path}`)
    await pause(POLL_MS)
  }
}

/**
 * Pid of the server of this folder that runs already. One that does not answer yet is loading its data, or hangs: a second one on the
 * same files would ruin them, so this waits, and then refuses.
 */
async function existing(socketPath: string, folder: string, pidFile: string): Promise<number | undefined> {
  const end = performance.now() + START_MS
  for (;;) {
    const pid = await answering(socketPath, folder)
    if (pid !== undefined) return pid
    const written = Number(await readFile(pidFile, 'utf8').catch(() => ''))
    if (!(written > 0) || !(await isServer(written))) return undefined
    if (performance.now() > end) throw unavailable('a Redis of this data folder runs and does not answer', `see to process ${written}`)
    await pause(POLL_MS)
  }
}

/** SIGTERM makes the server flush its append-only file. One that cannot be connected to serves nobody else either. */
async function stopUnused(socketPath: string, pid: number): Promise<void> {
  if (!(await isServer(pid)) || (await isShared(socketPath))) return
  process.kill(pid, 'SIGTERM')
  const end = performance.now() + STOP_MS
  while (await isServer(pid)) {
    if (performance.now() > end) process.kill(pid, 'SIGKILL')
    await pause(POLL_MS)
  }
}

/** Whether anybody else is connected; whoever has just left is given the moment that the server takes to notice. */
async function isShared(socketPath: string): Promise<boolean> {
  const redis = connectionTo(socketPath)
  const end = performance.now() + LEAVING_MS
  try {
    await redis.connect()
    for (;;) {
      const clients = String(await redis.client('LIST'))
        .trim()
        .split('\n')
      if (clients.length === 1) return false
      if (performance.now() > end) return true
      await pause(POLL_MS)
    }
  } catch {
    return false
  } finally {
    if (redis.status !== 'end') redis.disconnect()
  }
}

function configOf({ folder, socketPath, pidFile }: { folder: string; socketPath: string; pidFile: string }): string {
  const lines = [
    ['port', '0'],
    ['unixsocket', socketPath],
    ['unixsocketperm', '700'],
    ['dir', folder],
    ['pidfile', pidFile],
    ['logfile', join(folder, 'redis.log')],
    ['daemonize', 'no'],
    ['appendonly', 'yes'],
    ['appendfsync', 'always'],
    ['save', ''],
    ['maxmemory-policy', 'noeviction'],
    ['hash-max-listpack-value', '1024'],
  ]
  // Redis reads a quoted argument as a C-like string.
  return lines.map(([name, value = '']) => `${name} ${JSON.stringify(value)}\n`).join('')
}

/** Where the path would be too long for a socket, a short private folder whose name is derived from the data folder's. */
async function socketIn(folder: string): Promise<string> {
  const near = join(folder, 'redis.sock')
  if (Buffer.byteLength(near) <= LONGEST_SOCKET_PATH) return near
  const name = createHash('sha256').update(folder).digest('hex').slice(0, 16)
  const short = join(tmpdir(), `mayfly-${process.getuid?.() ?? 0}-${name}`)
  await privateFolder(short)
  return join(short, 'redis.sock')
}

/** Made for this user alone, or refused: somebody else may have made it first in a folder that all may write to. */
async function privateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const found = await lstat(folder)
  const uid = process.getuid?.()
  if (!found.isDirectory() || (uid !== undefined && found.uid !== uid))
    throw unavailable(`${folder} is not a folder of this user`, 'remove it, or choose another data folder')
  await chmod(folder, 0o700)
}

/** Pid of the server at this socket, if it is the one of this folder. */
async function answering(socketPath: string, folder: string): Promise<number | undefined> {
  const redis = connectionTo(socketPath)
  try {
    await redis.connect()
    await redis.ping()
    const [, dir] = (await redis.config('GET', 'dir')) as string[]
    const pid = Number(/^process_id:(\d+)/m.exec(await redis.info('server'))?.[1])
    return dir === folder && pid > 0 ? pid : undefined
  } catch {
    return undefined
  } finally {
    // To disconnect what never connected would wait two seconds for its socket to close.
    if (redis.status !== 'end') redis.disconnect()
  }
}

function connectionTo(socketPath: string): Redis {
  const redis = new Redis({
    path: socketPath,
    protocol: 2,
    lazyConnect: true,
    retryStrategy: () => null,
    socketTimeout: 2_000,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false,
    disableClientInfo: true,
  })
  redis.on('error', () => undefined)
  return redis
}

async function untilAnswering(socketPath: string, folder: string, given: AbortSignal): Promise<number> {
  const end = performance.now() + START_MS
  while (performance.now() < end && !given.aborted) {
    const pid = await answering(socketPath, folder)
    if (pid !== undefined) return pid
    await pause(POLL_MS)
  }
  throw unavailable('the embedded Redis did not answer in time', `see redis.log in ${folder}`)
}

/** A pid may have been given to another program since. */
async function isServer(pid: number): Promise<boolean> {
  if (!isAlive(pid)) return false
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined)
  return command === undefined || /redis|valkey/.test(command)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}

function unavailable(message: string, next: string, internal?: string): MayflyError {
  return new MayflyError('ledger_unavailable', message, { next, internal })
}
