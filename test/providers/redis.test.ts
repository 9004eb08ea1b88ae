import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Redis } from 'ioredis'
import type { Provider } from '../../src/providers/provider.js'
import { redis } from '../../src/providers/redis.js'
import type { Scope } from '../../src/types.js'
import { startPausingProxy } from '../support/faulty-upstream.js'
import { plan, requestOf, TIMEOUT_MS } from './harness.js'
import { type RedisUpstream, startRedisUpstream } from './redis-upstream.js'

const context = { name: 'cache', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
const params = (change: object = {}) => redis.params.parse({ keys: ['orders:*'], commands: ['+@read', '+@write'], ...change })

describe('the redis provider', () => {
  let upstream: RedisUpstream
  let provider: Provider
  const open = (url = upstream.url) => redis.open(redis.options.parse({ url }), context)
  const mint = async (given = params(), scope: Scope = {}) => {
    const request = requestOf(provider, plan({ scope }), given, TIMEOUT_MS)
    const { credential } = await provider.mint(request)
    return { credential, handle: request.handle, request, user: String(request.handle.user) }
  }
  /** What the holder of such a credential is answered. */
  const asHolder = async <T>(given: ReturnType<typeof params>, use: (holder: Redis) => Promise<T>, scope: Scope = {}): Promise<T> => {
    const { credential, handle } = await mint(given, scope)
    const holder = await upstream.connect(credential)
    try {
      return await use(holder)
    } finally {
      holder.disconnect()
      await provider.revoke(handle, TIMEOUT_MS)
    }
  }
  beforeAll(async () => {
    upstream = await startRedisUpstream()
    provider = await open()
  })
  afterAll(async () => {
    await provider.close()
    await upstream.redis.stop()
  })

  it('lets no category reach past the key patterns', async () => {
    await asHolder(params({ commands: ['+@read', '+@write', '+@keyspace', '+@pubsub', '+@scripting', '+@connection'] }), async (holder) => {
      expect(await holder.set('orders:1', 'x')).toBe('OK')
      const attempts: [string, ...string[]][] = [
        ['GET', 'other'],
        ['FLUSHALL'],
        ['FLUSHDB'],
        ['SWAPDB', '0', '1'],
        ['SCAN', '0'],
        ['RANDOMKEY'],
        ['KEYS', '*'],
        ['MIGRATE', '127.0.0.1', '1', 'orders:1', '0', '10'],
        ['ACL', 'SETUSER', 'default', 'off'],
        ['CONFIG', 'GET', '*'],
        ['CLIENT', 'KILL', 'TYPE', 'normal'],
        ['CLIENT', 'LIST'],
        ['SCRIPT', 'FLUSH'],
        ['PUBLISH', 'news', 'x'],
        ['EVAL', `return redis.call('GET', 'other')`, '0'],
        ['EVAL', `return redis.call('FLUSHALL')`, '0'],
        ['SHUTDOWN'],
        ['MONITOR'],
      ]
      for (const [command, ...args] of attempts) {
        const answer = await holder.call(command, ...args).catch((error: Error) => error.message)
        expect(`${command} ${answer}`).toMatch(/NOPERM|ACL failure|permission|can't (run this command|access at least one of the keys)/)
      }
      await holder.del('orders:1')
    })
  })

  it('allows by name what its categories do not', () =>
    asHolder(params({ commands: ['+@read', '+info', '-strlen'] }), async (holder) => {
      expect(await holder.info('server')).toContain('redis_version')
      await expect(holder.strlen('orders:1')).rejects.toThrow(/NOPERM/)
    }))

  it('gives channels only where the role names them', () =>
    asHolder(params({ channels: ['news:*'], commands: ['+@pubsub'] }), async (holder) => {
      expect(await holder.publish('news:eu', 'x')).toBe(0)
      await expect(holder.publish('other', 'x')).rejects.toThrow(/NOPERM/)
    }))

  it.each<[string, object, Scope, string[], string[]]>([
    ['a list picks patterns', { keys: ['a:*', 'b:*'] }, { keys: ['b:*'] }, ['b:1'], ['a:1']],
    ['a path is a key and what lies below it', { keys: ['orders*'] }, { keys: 'orders' }, ['orders', 'orders:1'], ['orders2', 'a']],
    [
      'a path never reaches a neighbour whose name begins alike',
      { keys: ['orders:*'] },
      { keys: 'orders/eu' },
      ['orders:eu', 'orders:eu:1'],
      ['orders:eu2', 'orders:us'],
    ],
    ['a path goes by the separator of the role', { keys: ['orders/*'], separator: '/' }, { keys: 'orders/eu/' }, ['orders/eu/1'], ['orders/us/1']],
    ['a path below a literal key is that key', { keys: ['one'] }, { keys: 'one' }, ['one'], ['one:1']],
  ])('narrows: %s', (_what, change, scope, may, mayNot) =>
    asHolder(
      params(change),
      async (holder) => {
        for (const key of may) expect(await holder.get(key)).toBeNull()
        for (const key of mayNot) await expect(holder.get(key)).rejects.toThrow(/NOPERM/)
      },
      scope,
    ),
  )

  it('cuts subscribers and blocked clients too', async () => {
    const { credential, handle } = await mint(params({ channels: ['news'], commands: ['+@read', '+@write', '+@pubsub'] }))
    const subscriber = await upstream.connect(credential)
    const blocked = await upstream.connect(credential)
    await subscriber.subscribe('news')
    const ended = Promise.all([subscriber, blocked].map((holder) => new Promise((resolve) => holder.once('end', resolve))))
    const waiting = blocked.blpop('orders:queue', 0).catch(() => 'cut')
    await provider.revoke(handle, TIMEOUT_MS)
    await ended
    expect(await waiting).toBe('cut')
  })

  it('keeps only the hash of the password at Redis', async () => {
    const { credential, user, handle } = await mint()
    const known = JSON.stringify(await upstream.redis.client.call('ACL', 'GETUSER', user))
    expect(known).not.toContain(String(credential.fields.password))
    expect(known).not.toContain('nopass')
    await provider.revoke(handle, TIMEOUT_MS)
  })

  it('leaves no guard behind, and takes none that another mint of the lease holds', async () => {
    const { handle } = await mint()
    expect(await upstream.redis.client.keys('mf-guard:*')).toEqual([])
    await provider.revoke(handle, TIMEOUT_MS)
    const request = requestOf(provider, plan(), params(), TIMEOUT_MS)
    await upstream.redis.client.set(`mf-guard:${request.handle.user}`, '1')
    await expect(provider.mint(request)).rejects.toMatchObject({ kind: 'refused' })
    expect(await upstream.users()).toEqual([])
    expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('absent')
    expect(await upstream.redis.client.keys('mf-guard:*')).toEqual([])
  })

  it('aborts a mint that is under way when its lease is revoked', async () => {
    const proxy = await startPausingProxy(upstream)
    const behind = await open(upstream.url.replace(`:${upstream.port}/`, `:${proxy.port}/`))
    try {
      const request = requestOf(behind, plan(), params(), TIMEOUT_MS)
      proxy.pauseAt('SETUSER')
      const mint = expect(behind.mint(request)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('taken back') })
      await proxy.paused()
      expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('absent')
      await proxy.resume()
      await mint
      expect(await upstream.users()).toEqual([])
    } finally {
      await behind.close()
      await proxy.close()
    }
  })

  it('is throttled by a full Redis when it mints, and revokes all the same', async () => {
    const { handle } = await mint()
    await upstream.redis.client.config('SET', 'maxmemory', '1')
    try {
      await expect(mint()).rejects.toMatchObject({ kind: 'throttled' })
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    } finally {
      await upstream.redis.client.config('SET', 'maxmemory', '0')
    }
  })

  describe('check', () => {
    it('leaves nothing, and finds what the broker may not do', async () => {
      await provider.check()
      expect(await upstream.redis.client.keys('*')).toEqual([])
      for (const missing of ['acl|setuser', 'acl|deluser', 'acl|users', 'watch', 'exec', 'set']) {
        await upstream.redis.client.call('ACL', 'SETUSER', 'mayfly', `-${missing}`)
        await expect(provider.check()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('docs/providers/redis.md') })
        await upstream.redis.client.call('ACL', 'SETUSER', 'mayfly', `+${missing}`)
      }
      await provider.check()
    })

    it('says when the login of the broker is wrong, without repeating it', async () => {
      const wrong = await open(upstream.url.replace(upstream.password, 'wrong-password'))
      const error = await wrong.check().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ kind: 'refused', message: expect.stringContaining("broker's own login") })
      await wrong.close()
    })
  })

  it('says which scopes narrow nothing', () => {
    const check = (scope: Parameters<typeof redis.checkRole>[1], given = params()) => redis.checkRole(given, scope, { url: upstream.url })
    expect(check({ keys: 'path', channels: 'set' })).toEqual([])
    expect(check({ keys: 'equal', table: 'set', channels: 'path' })).toHaveLength(3)
    expect(check({}, params({ keys: [] }))).toHaveLength(1)
  })
})
