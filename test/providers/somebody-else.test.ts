import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import { mysql } from '../../src/providers/mysql.js'
import { openbao } from '../../src/providers/openbao.js'
import type { Provider, ProviderModule } from '../../src/providers/provider.js'
import { rabbitmq } from '../../src/providers/rabbitmq.js'
import { redis } from '../../src/providers/redis.js'

/** What is at the address says yes to everything, and is not the upstream: a captive portal, a health check's port, a proxy's own page. */
describe('a yes of somebody else', () => {
  const ends: (() => unknown)[] = []
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end()
  })
  const listen = async (server: Server): Promise<number> => {
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    ends.push(() => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(resolve))
    })
    return (server.address() as AddressInfo).port
  }
  const speaking = (first: Buffer | undefined, answer: (count: number) => Buffer | string) =>
    listen(
      createServer((socket) => {
        let count = 0
        if (first) socket.write(first)
        socket.on('data', () => socket.write(answer(count++)))
      }),
    )
  const serving = (answer: (request: IncomingMessage) => readonly [number, string]) =>
    listen(
      createHttpServer((request, response: ServerResponse) => {
        const [status, body] = answer(request)
        response.writeHead(status, { 'content-type': 'application/json' }).end(status === 204 ? undefined : body)
      }),
    )
  const opened = async <O, P>(module: ProviderModule<O, P>, options: unknown): Promise<Provider<P>> => {
    const provider = await module.open(module.options.parse(options), { name: 'it', instance: 'test', timeoutMs: 2000, concurrency: 2 })
    ends.push(() => provider.close())
    return provider
  }

  it('is no revoke at redis', async () => {
    const port = await speaking(undefined, () => '+OK\r\n'.repeat(2))
    const provider = await opened(redis, { url: `redis://u:p@127.0.0.1:${port}/0` })
    await expect(provider.revoke({ user: 'mf-test-x' }, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
    const users = provider.list?.()[Symbol.asyncIterator]()
    await expect(users?.next()).rejects.toMatchObject({ name: 'ProviderError' })
  })

  it('is no revoke, and no proof of one, at mysql', async () => {
    const port = await speaking(GREETING, (count) => OK(count === 0 ? 2 : 1))
    const provider = await opened(mysql, { server: 'mariadb', tls: 'off', url: `mysql://u:p@127.0.0.1:${port}` })
    const handle = { user: 'mf-test-x', host: '%' }
    await expect(provider.revoke(handle, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
    await expect(provider.verify?.(handle, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
  })

  it.each([
    ['200 and an object', 200, '{}'],
    ['204', 204, ''],
  ])('is no revoke at openbao: %s', async (_, status, body) => {
    const token = JSON.stringify({ data: { policies: ['mayfly'], ttl: 86_400, renewable: false, type: 'service' } })
    const port = await serving(({ url = '' }) => (url.endsWith('/lookup-self') ? [200, token] : [status, body]))
    const provider = await opened(openbao, { url: `http://127.0.0.1:${port}`, auth: { method: 'token' }, token: 'x', lease_ttl: '1h' })
    const handle = { lease_id: 'database/creds/orders/x' }
    await expect(provider.revoke(handle, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
    await expect(provider.verify?.(handle, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
  })

  it('is no revoke at openbao: a right answer to the question before it', async () => {
    const token = JSON.stringify({ data: { policies: ['mayfly'], ttl: 86_400, renewable: false, type: 'service' } })
    const found = JSON.stringify({ data: { id: 'database/creds/orders/x' } })
    const port = await serving(({ url = '' }) => [200, url.endsWith('/lookup-self') ? token : url.endsWith('/lookup') ? found : '{}'])
    const provider = await opened(openbao, { url: `http://127.0.0.1:${port}`, auth: { method: 'token' }, token: 'x', lease_ttl: '1h' })
    const revoked = provider.revoke({ lease_id: 'database/creds/orders/x' }, 2000)
    await expect(revoked).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
  })

  it('is no revoke at rabbitmq', async () => {
    const port = await serving(() => [200, '[]'])
    const provider = await opened(rabbitmq, { url: `http://u:p@127.0.0.1:${port}`, amqp_url: 'amqp://127.0.0.1:5672' })
    await expect(provider.revoke({ user: 'mf-test-x' }, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
  })
})

/** https://mariadb.com/kb/en/connection/: a packet is its length, its number and its body. */
function packet(number: number, body: Buffer): Buffer {
  const head = Buffer.alloc(4)
  head.writeUIntLE(body.length, 0, 3)
  head[3] = number
  return Buffer.concat([head, body])
}
const GREETING = packet(
  0,
  Buffer.concat([
    Buffer.from('\x0a11.0.0-MariaDB\0\x01\0\0\0abcdefgh\0', 'latin1'),
    Buffer.from([0xff, 0xf7, 45, 2, 0, 0xff, 0x81, 21]),
    Buffer.alloc(10),
    Buffer.from('ijklmnopqrst\0mysql_native_password\0'),
  ]),
)
/** https://mariadb.com/kb/en/ok_packet/ */
const OK = (number: number): Buffer => packet(number, Buffer.from([0, 0, 0, 2, 0, 0, 0]))
