import type { Credential } from '../../src/providers/provider.js'
import { redis } from '../../src/providers/redis.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'
import { startRedisUpstream } from './redis-upstream.js'

async function start(): Promise<Harness> {
  const upstream = await startRedisUpstream()
  const { client } = upstream.redis
  await client.mset('orders:eu:1', 'a', 'orders:us:1', 'b', 'carts:1', 'c', 'secret:1', 'd')
  const reads = async (credential: Credential, key: string): Promise<boolean> => {
    const holder = await upstream.connect(credential).catch(() => undefined)
    const value = await holder?.get(key).catch(() => null)
    holder?.disconnect()
    return typeof value === 'string'
  }
  const commands = ['+@read', '+ping']
  return {
    module: redis,
    upstream: 'real',
    options: { url: upstream.url },
    params: { keys: ['orders:*', 'carts:*'], commands },
    address: upstream,
    optionsAt: (port) => ({ url: upstream.url.replace(`:${upstream.port}/`, `:${port}/`) }),
    brokerSecret: upstream.password,
    works: (credential) => reads(credential, 'orders:eu:1'),
    async openSession(credential) {
      const holder = await upstream.connect(credential)
      return {
        usable: async () => typeof (await holder.get('orders:eu:1').catch(() => null)) === 'string',
        close: async () => holder.disconnect(),
      }
    },
    made: async () => [...(await upstream.users()), ...(await client.keys('mf-guard:*'))],
    narrowing: {
      scope: { keys: 'orders/eu' },
      allows: (credential) => reads(credential, 'orders:eu:1'),
      denies: async (credential) => !(await reads(credential, 'orders:us:1')) && !(await reads(credential, 'carts:1')),
    },
    widening: [
      { keys: 'secret' },
      { keys: 'ord' },
      { keys: '*' },
      { keys: 'orders:eu* ~*' },
      { keys: ['orders:*', '*'] },
      { keys: [] },
      { keys: '' },
      { keys: '/' },
      { channels: 'news' },
      { channels: ['*'] },
      { commands: ['+@all'] },
    ],
    hostileParams: [
      {},
      { keys: ['orders:*'] },
      { commands },
      { keys: ['~orders:*'], commands },
      { keys: ['orders:* ~*'], commands },
      { keys: ['orders:*\n'], commands },
      { keys: ['allkeys'], commands },
      { keys: ['o\0'], commands },
      { keys: ['x'.repeat(10_240)], commands },
      ...['+@all', 'allcommands', '+acl', '+acl|setuser', '+config|set', '+@admin', '+@dangerous', 'nopass', '>secret', '#abc', 'on', '~*', '&*'].map(
        (one) => ({
          keys: ['orders:*'],
          commands: [one],
        }),
      ),
      ...['+get ~*', '(+@all ~*)', 'resetkeys', '+FLUSHALL', '+flushall', '+shutdown', '+client', '+eval\n', '@read', '+'].map((one) => ({
        keys: ['orders:*'],
        commands: [one],
      })),
    ],
    refusedParams: [
      { keys: ['orders:*'], commands: ['+nosuchcommand'] },
      { keys: ['orders:*'], commands: ['+@nosuchcategory'] },
    ],
    secretsOf: ({ fields }) => [String(fields.password)],
    mintSign: 'SETUSER',
    halfAnswer: '+O',
    busyAnswer: '-ERR max number of clients reached\r\n',
    stop: () => upstream.redis.stop(),
  }
}

contract('redis', start, {
  'after its expiry it does not work': 'an ACL user has no expiry: revoke ends it, and nothing else counts as its end',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every user can be deleted',
  "the upstream's own expiry is set": 'Redis has no expiry for ACL users, and the provider says so (expiryEndsUse is false)',
  'renew extends it, and revives nothing': 'an ACL user has no expiry that could be extended',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'the name of the user is derived from the lease before the mint',
})
