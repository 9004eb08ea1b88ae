import { type ChannelModel, connect as connectTo } from 'amqplib'
import { z } from 'zod'
import type { Credential } from '../../src/providers/provider.js'
import { rabbitmq } from '../../src/providers/rabbitmq.js'
import { startRabbitmq } from '../support/rabbitmq.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'

const permitted = z.array(z.object({ user: z.string() }))

/** What its holder may do, tried on a connection of its own. */
async function may(credential: Credential, act: (connection: ChannelModel) => Promise<unknown>): Promise<boolean> {
  const connection = await connectTo(String(credential.fields.url)).catch(() => undefined)
  if (connection === undefined) return false
  connection.on('error', () => undefined)
  try {
    await act(connection)
    return true
  } catch {
    return false
  } finally {
    await connection.close().catch(() => undefined)
  }
}

const reads = (queue: string) => async (connection: ChannelModel) => {
  const channel = await connection.createChannel()
  channel.on('error', () => undefined)
  await channel.get(queue, { noAck: true })
}
const writes = (queue: string) => async (connection: ChannelModel) => {
  const channel = await connection.createChannel()
  channel.on('error', () => undefined)
  // Purging is reading, binding a queue is writing to it.
  await channel.bindQueue(queue, 'amq.direct', 'key')
}

async function start(): Promise<Harness> {
  const server = await startRabbitmq()
  for (const queue of ['orders', 'orders.eu', 'orders.eu.1', 'orders.us', 'ordersXeu', 'carts', 'secret'])
    await server.ask('PUT', `queues/%2F/${queue}`, {})
  const url = await server.createBroker()
  const options = { url, amqp_url: `amqp://${server.host}:${server.port}` }
  const params = { read: ['orders.*', 'orders', 'carts', 'amq.direct'], write: ['orders.*'] }
  return {
    module: rabbitmq,
    upstream: 'real',
    options,
    params,
    address: { host: server.host, port: server.apiPort },
    optionsAt: (port) => ({ ...options, url: url.replace(`:${server.apiPort}`, `:${port}`) }),
    brokerSecret: new URL(url).password,
    works: (credential) => may(credential, reads('orders.eu')),
    async openSession(credential) {
      const connection = await connectTo(String(credential.fields.url))
      connection.on('error', () => undefined)
      const channel = await connection.createChannel()
      channel.on('error', () => undefined)
      const usable = () =>
        channel.get('orders.eu', { noAck: true }).then(
          () => true,
          () => false,
        )
      return { usable, close: () => connection.close().catch(() => undefined) }
    },
    // What can be used: a user without permissions can do nothing, and `rabbitmq.test.ts` shows that, and when one may be left.
    made: async () => [
      ...new Set(
        permitted
          .parse((await server.ask('GET', 'permissions')).body)
          .map(({ user }) => user)
          .filter((user) => user.startsWith('mf-')),
      ),
    ],
    narrowing: {
      scope: { names: 'orders/eu', permissions: ['read'] },
      allows: async (credential) => (await may(credential, reads('orders.eu'))) && (await may(credential, reads('orders.eu.1'))),
      denies: async (credential) => {
        const reached = await Promise.all(['orders', 'orders.us', 'ordersXeu', 'carts', 'secret'].map((queue) => may(credential, reads(queue))))
        return !reached.includes(true) && !(await may(credential, writes('orders.eu')))
      },
    },
    widening: [
      ...['secret', 'ord', '*', 'orders*', '', '/', '.', '.*', 'orders|secret', '(?:)', '\\Qsecret\\E', 'orders.eu\n', 'secret '].map((names) => ({
        names,
      })),
      ...[[], ['secret'], ['orders.*', '*'], ['ord*'], ['orders.*', ''], ['.*'], ['orders.eu\n'], ['orders*']].map((names) => ({ names })),
      ...[[], ['configure'], ['read', 'configure'], ['administrator'], ['READ']].map((permissions) => ({ permissions })),
      { permissions: 'read' },
      { names: 'carts', permissions: ['write'] },
      { vhost: 'other' },
      { tags: ['administrator'] },
    ],
    hostileParams: [
      {},
      { read: [] },
      { ...params, tags: 'administrator' },
      { ...params, vhost: '' },
      { ...params, vhost: '..' },
      { ...params, vhost: '.' },
      { ...params, vhost: 'a\nb' },
      { ...params, vhost: 'a\0' },
      { ...params, vhost: '\ud800' },
      { ...params, vhost: 'v'.repeat(256) },
      { ...params, separator: '' },
      { ...params, separator: '*' },
      { ...params, separator: '..' },
      { ...params, max_connections: 0 },
      { ...params, max_connections: -1 },
      { ...params, max_connections: '10' },
      ...['', 'a b', 'a\nb', 'a\0', '\ud800', 'q'.repeat(256), 'ü'.repeat(200), 'x'.repeat(10_240), 1, null].map((name) => ({ read: [name] })),
      { read: 'orders' },
      { read: Array.from({ length: 65 }, () => 'q') },
    ],
    refusedParams: [
      { ...params, vhost: 'no-such-vhost' },
      { ...params, vhost: '../users' },
      { ...params, vhost: '%2F' },
      { ...params, vhost: '/?columns=name#' },
    ],
    secretsOf: ({ fields }) => [String(fields.password)],
    mintSign: 'PUT /api/users/',
    halfAnswer: 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n[{"na',
    busyAnswer: 'HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n',
    log: () => server.log(),
    stop: () => server.stop(),
  }
}

contract('rabbitmq', start, {
  'after its expiry it does not work': 'a user of RabbitMQ has no expiry: revoke ends it, and nothing else counts as its end',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every user can be deleted',
  "the upstream's own expiry is set": 'RabbitMQ has no expiry for users, and the provider says so (expiryEndsUse is false)',
  'renew extends it, and revives nothing': 'a user of RabbitMQ has no expiry that could be extended',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'the name of the user is derived from the lease before the mint',
})
