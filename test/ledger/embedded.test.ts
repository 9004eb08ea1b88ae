import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { startEmbeddedRedis } from '../../src/ledger/embedded.js'
import { preflight } from '../../src/ledger/index.js'
import { waitFor } from '../support/wait.js'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function dataDir(name = ''): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-embedded-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  return join(folder, name)
}

async function start(dir: string, binary?: string) {
  const embedded = await startEmbeddedRedis({ dataDir: dir, binary })
  cleanups.push(() => embedded.stop())
  return embedded
}

function client(socketPath: string): Redis {
  const redis = new Redis({ path: socketPath, protocol: 2 })
  cleanups.push(async () => redis.disconnect())
  return redis
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('the embedded Redis', () => {
  it('is all that a strict ledger needs, without a TCP port, in a folder of its own', async () => {
    const embedded = await start(await dataDir())
    const redis = client(embedded.socketPath)
    expect(await preflight(redis, { durability: 'strict' })).toEqual([])
    expect(await redis.config('GET', 'port')).toEqual(['port', '0'])
    expect((await stat(dirname(embedded.socketPath))).mode & 0o777).toBe(0o700)
  })

  it('keeps its data over a stop and a start', async () => {
    const dir = await dataDir()
    const first = await start(dir)
    const connected = client(first.socketPath)
    await connected.set('kept', 'yes')
    await connected.quit()
    await first.stop()
    await waitFor('the server to be gone', () => !isAlive(first.pid))
    const second = await start(dir)
    expect(second.started).toBe(true)
    expect(await client(second.socketPath).get('kept')).toBe('yes')
  })

  it('is found by a second broker, which does not end it while the first is connected, and whoever leaves last ends it', async () => {
    const dir = await dataDir()
    const first = await start(dir)
    const connected = client(first.socketPath)
    await connected.ping()
    const second = await start(dir)
    expect(second).toMatchObject({ started: false, pid: first.pid, socketPath: first.socketPath })
    await second.stop()
    expect(isAlive(first.pid)).toBe(true)
    await connected.quit()
    await second.stop()
    await waitFor('the server to be gone', () => !isAlive(first.pid))
  })

  it('is started once by two brokers that start at the same time', async () => {
    const dir = await dataDir()
    const both = await Promise.all([start(dir), start(dir)])
    expect(both.map(({ started }) => started).sort()).toEqual([false, true])
    expect(both[0]?.pid).toBe(both[1]?.pid)
  })

  it('starts anew with its data after it was killed', async () => {
    const dir = await dataDir()
    const first = await start(dir)
    await client(first.socketPath).set('kept', 'yes')
    process.kill(first.pid, 'SIGKILL')
    await waitFor('the server to be gone', () => !isAlive(first.pid))
    const second = await start(dir)
    expect(second.started).toBe(true)
    expect(await client(second.socketPath).get('kept')).toBe('yes')
  })

  it('takes a short socket path where the data folder is too deep for one', async () => {
    const dir = await dataDir('deep/'.repeat(30))
    await mkdir(dir, { recursive: true })
    const embedded = await start(dir)
    cleanups.push(() => rm(dirname(embedded.socketPath), { recursive: true, force: true }))
    expect(Buffer.byteLength(embedded.socketPath)).toBeLessThanOrEqual(103)
    expect((await stat(dirname(embedded.socketPath))).mode & 0o777).toBe(0o700)
    expect(await client(embedded.socketPath).ping()).toBe('PONG')
  })

  it('survives the kill -9 of the broker that started it, and is used by the next', async () => {
    const dir = await dataDir()
    const program = `
      const { startEmbeddedRedis } = await import(${JSON.stringify(new URL('../../src/ledger/embedded.ts', import.meta.url).href)})
      const { pid } = await startEmbeddedRedis({ dataDir: ${JSON.stringify(dir)} })
      process.stdout.write(String(pid))
      setInterval(() => {}, 1000)`
    const broker = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said] = (await once(broker.stdout, 'data')) as [Buffer]
    const pid = Number(said.toString())
    cleanups.push(async () => {
      if (isAlive(pid)) process.kill(pid, 'SIGKILL')
      await waitFor('the server to be gone', () => !isAlive(pid))
    })
    broker.kill('SIGKILL')
    await once(broker, 'exit')
    expect(isAlive(pid)).toBe(true)
    const next = await start(dir)
    expect(next).toMatchObject({ started: false, pid })
  })

  it('says what is missing, and does not wait, when there is no such program or it ends', async () => {
    await expect(start(await dataDir(), '/nonexistent/redis-server')).rejects.toMatchObject({ code: 'ledger_unavailable' })
    await expect(start(await dataDir(), '/bin/false')).rejects.toThrow('ended at once')
  })
})
