import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { agedSights, someLease } from '../support/orphans.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { mayfly } from './mayfly.js'

let redis: TestRedis
let cache: RedisUpstream
let test: TestBroker
let env: Record<string, string>
beforeAll(async () => {
  ;[redis, cache] = await Promise.all([startRedis(), startRedisUpstream()])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    providers: '  cache: {type: redis, url: env:CACHE_URL}',
    env: { CACHE_URL: cache.url },
  })
  const tokenFile = join(test.folder, 'oncall.token')
  writeFileSync(tokenFile, await test.token('oncall'))
  env = { MAYFLY_URL: test.url, MAYFLY_TOKEN_FILE: tokenFile }
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis?.stop(), cache?.redis.stop()])
})

describe('mayfly reconcile', () => {
  it('tells what nothing tells of, takes it back when it is told to, and ends well once nothing is left', async () => {
    const lease = someLease()
    await cache.redis.client.call('ACL', 'SETUSER', `mf-test-${lease}`, 'on', '>secret', '~app:*', '+get')
    const seen = await mayfly(['reconcile', '--provider', 'cache', '--no-wait', '--revoke'], env)
    expect(seen.code).toBe(1)
    expect(JSON.parse(seen.out).providers).toMatchObject([{ provider: 'cache', outcome: 'done', seen: [`lease_${lease}`], orphans: [] }])
    await agedSights(redis)
    const revoked = await mayfly(['reconcile', '--revoke', '--deadline', '30s'], env)
    expect(revoked.code).toBe(0)
    const { providers } = JSON.parse(revoked.out)
    expect(providers.map(({ provider }: { provider: string }) => provider).sort()).toEqual(['cache', 'signed', 'tokens'])
    expect(providers).toContainEqual(expect.objectContaining({ provider: 'cache', orphans: [{ lease: `lease_${lease}`, outcome: 'revoked' }] }))
    expect(await cache.users()).toEqual([])
    expect(await mayfly(['reconcile', '--provider', 'nowhere'], env)).toMatchObject({ code: 1, err: expect.stringContaining('not_found') })
    expect((await mayfly(['reconcile', '--deadline', '1h'], env)).code).toBe(1)
  }, 60_000)
})
