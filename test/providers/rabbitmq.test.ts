import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { type ChannelModel, connect as connectTo } from 'amqplib'
import { z } from 'zod'
import type { Credential, Provider } from '../../src/providers/provider.js'
import { rabbitmq } from '../../src/providers/rabbitmq.js'
import type { Scope } from '../../src/types.js'
import { startPausingProxy, startStallingServer } from '../support/faulty-upstream.js'
import { startHoldingProxy } from '../support/holding-proxy.js'
import { startRabbitmq, type TestRabbitmq } from '../support/rabbitmq.js'
import { waitFor } from '../support/wait.js'
import { plan, requestOf, TIMEOUT_MS } from './harness.js'

const context = { name: 'queues', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
const named = z.array(z.object({ name: z.string() }))
/** Long enough to reach the server on a busy machine; then the request is kept back. */
const HELD_MS = 1000

describe('the rabbitmq provider', () => {
  let server: TestRabbitmq
  let url: string
  let provider: Provider
  const closing: (() => Promise<unknown> | unknown)[] = []
  const params = (change: object = {}) => rabbitmq.params.parse({ configure: ['t.*'], write: ['t.*', 'amq.default'], read: ['t.*'], ...change })
  const open = (change: object = {}) =>
    rabbitmq.open(rabbitmq.options.parse({ url, amqp_url: `amqp://${server.host}:${server.port}`, ...change }), context)
  const mint = async (given = params(), scope: Scope = {}, by = provider) => {
    const request = requestOf(by, plan({ scope }), given, TIMEOUT_MS)
    const { credential } = await by.mint(request)
    return { credential, handle: request.handle, user: String(request.handle.user) }
  }
  const connect = async (credential: Credential, port = server.port): Promise<ChannelModel> => {
    const address = new URL(String(credential.fields.url))
    address.port = String(port)
    const connection = await connectTo(address.href)
    connection.on('error', () => undefined)
    closing.push(() => connection.close().catch(() => undefined))
    return connection
  }
  const channelOf = async (connection: ChannelModel) => {
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    return channel
  }
  /** Whether each act succeeds on a channel of its own: a refusal closes the channel. */
  const declares = async (connection: ChannelModel, queue: string) => {
    const channel = await channelOf(connection)
    return channel.assertQueue(queue).then(
      () => true,
      () => false,
    )
  }
  const users = async () => named.parse((await server.ask('GET', 'users?columns=name')).body).map(({ name }) => name)
  const connections = async (user: string) => z.array(z.unknown()).parse((await server.ask('GET', `connections/username/${user}`)).body)
  const behind = async (proxy: { port: number; close(): Promise<void> }) => {
    const opened = await open({ url: url.replace(`:${server.apiPort}`, `:${proxy.port}`) })
    closing.push(() => opened.close(), proxy.close)
    return opened
  }

  beforeAll(async () => {
    server = await startRabbitmq()
    url = await server.createBroker()
    provider = await open()
  }, 60_000)
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
    for await (const { handle } of provider.list?.() ?? []) await provider.revoke(handle, TIMEOUT_MS)
    expect((await users()).filter((user) => user.startsWith('mf-'))).toEqual([])
  })
  afterAll(async () => {
    await provider?.close()
    await server?.stop()
  })

  describe('a mint that is late', () => {
    it('with its user may leave a user that can do nothing, which list finds and revoke takes', async () => {
      const proxy = await startPausingProxy({ host: server.host, port: server.apiPort })
      const late = await behind(proxy)
      proxy.pauseAt('PUT /api/users/')
      const request = requestOf(late, plan(), params(), HELD_MS)
      const failed = expect(late.mint(request)).rejects.toMatchObject({ kind: 'timeout' })
      await proxy.paused()
      await failed
      expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('absent')
      await proxy.resume()
      const user = String(request.handle.user)
      expect(await users()).toContain(user)
      // The password went with the mint that failed. Even with one that is known:
      await server.ask('PUT', `users/${user}`, { password: 'known', tags: '' })
      await expect(connectTo(`amqp://${user}:known@${server.host}:${server.port}/%2F`)).rejects.toThrow(
        'Expected ConnectionOpenOk; got <ConnectionClose',
      )
      const api = await fetch(`http://${server.host}:${server.apiPort}/api/whoami`, {
        headers: { authorization: `Basic ${Buffer.from(`${user}:known`).toString('base64')}` },
      })
      expect(api.status).toBe(401)
      const found: unknown[] = []
      for await (const one of provider.list?.() ?? []) found.push(one)
      expect(found).toEqual([{ lease: request.lease.id, handle: request.handle }])
      expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('revoked')
    })

    it('with its permissions gives none, for the user is gone', async () => {
      const proxy = await startPausingProxy({ host: server.host, port: server.apiPort })
      const late = await behind(proxy)
      proxy.pauseAt('PUT /api/permissions/')
      const request = requestOf(late, plan(), params(), HELD_MS)
      const failed = expect(late.mint(request)).rejects.toMatchObject({ kind: 'timeout' })
      await proxy.paused()
      await failed
      expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('revoked')
      await proxy.resume()
      expect(await users()).not.toContain(request.handle.user)
      expect(JSON.stringify((await server.ask('GET', 'permissions')).body)).not.toContain(String(request.handle.user))
    })

    it('in its first answer sends no second request', async () => {
      const request = requestOf(provider, plan(), params(), TIMEOUT_MS)
      const proxy = await startHoldingProxy({ host: server.host, port: server.apiPort })
      const late = await behind(proxy)
      proxy.holdAfter('PUT /api/users/')
      const failed = expect(late.mint({ ...request, params: params(), until: Date.now() + HELD_MS, deadlineMs: HELD_MS })).rejects.toMatchObject({
        kind: 'timeout',
      })
      await proxy.held()
      await failed
      proxy.release()
      expect((await server.ask('GET', `users/${request.handle.user}/permissions`)).body).toEqual([])
      expect(await provider.revoke(request.handle, TIMEOUT_MS)).toBe('revoked')
    })
  })

  describe('a revoke', () => {
    it('ends a consumer: what is sent afterwards reaches it no more', async () => {
      await server.ask('PUT', 'queues/%2F/t.consumed', {})
      const { credential, handle } = await mint()
      const channel = await channelOf(await connect(credential))
      const seen: string[] = []
      await channel.consume('t.consumed', (message) => message !== null && seen.push(message.content.toString()), { noAck: true })
      const publish = (text: string) =>
        server.ask('POST', 'exchanges/%2F/amq.default/publish', {
          properties: {},
          routing_key: 't.consumed',
          payload: text,
          payload_encoding: 'string',
        })
      await publish('before')
      await waitFor('the message', () => seen.length === 1)
      await provider.revoke(handle, TIMEOUT_MS)
      await publish('after')
      const queue = await waitFor('the message to stay', async () => {
        const { body } = await server.ask('POST', 'queues/%2F/t.consumed/get', { count: 1, ackmode: 'ack_requeue_false', encoding: 'auto' })
        return z.array(z.object({ payload: z.string() })).parse(body)[0]
      })
      expect(queue.payload).toBe('after')
      expect(seen).toEqual(['before'])
      await server.ask('DELETE', 'queues/%2F/t.consumed')
    })

    it('waits for no client that will not hear of it', async () => {
      const proxy = await startHoldingProxy(server)
      closing.push(proxy.close)
      const { credential, handle, user } = await mint()
      const channel = await channelOf(await connect(credential, proxy.port))
      await channel.assertQueue('t.deaf')
      // From here on nothing that the server says arrives: not its request to close, which is never confirmed.
      proxy.holdAfter('t.marker')
      channel.sendToQueue('t.deaf', Buffer.from('t.marker'))
      await proxy.held()
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(await connections(user)).toEqual([])
    })

    it('is not outlived by a login that was half done', async () => {
      const proxy = await startPausingProxy(server)
      closing.push(proxy.close)
      const { credential, handle, user } = await mint()
      // The frame of connection.open: the server knows who it is, and has not been told where to.
      proxy.pauseAt('\0\n\0(')
      const opening = expect(connect(credential, proxy.port)).rejects.toThrow()
      await proxy.paused()
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await proxy.resume()
      await opening
      expect(await connections(user)).toEqual([])
    })

    it('lets no login through that races it', async () => {
      for (let round = 0; round < 5; round++) {
        const { credential, handle, user } = await mint()
        let going = true
        const made: ChannelModel[] = []
        const hammering = Array.from({ length: 4 }, async () => {
          while (going)
            await connect(credential).then(
              (one) => made.push(one),
              () => undefined,
            )
        })
        await waitFor('a connection', () => made.length > 2)
        await provider.revoke(handle, TIMEOUT_MS)
        const usable = await Promise.all(made.map((one) => declares(one, 't.raced').catch(() => false)))
        going = false
        await Promise.all(hammering)
        expect(usable).not.toContain(true)
        expect(await connections(user)).toEqual([])
      }
    })

    it('goes on where a broker died: with the user deleted and a connection left', async () => {
      const { credential, handle, user } = await mint()
      await connect(credential)
      await server.ask('DELETE', `users/${user}`)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('absent')
      expect(await connections(user)).toEqual([])
      expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('dead')
    })

    it('is not called done by a RabbitMQ that cannot tell the connections of a user', async () => {
      const older = await startStallingServer('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n')
      const opened = await behind(older)
      const { handle } = requestOf(opened, plan(), params(), TIMEOUT_MS)
      await expect(opened.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({
        kind: 'refused',
        message: expect.stringContaining('a later one is needed'),
      })
      await expect(opened.check()).rejects.toMatchObject({ kind: 'broken' })
    })
  })

  describe('a user', () => {
    it('reaches the names that are named and no other, whatever a name is made of', async () => {
      const odd = ['t.a+b', 't(1)', 't[x]', 't|secret', '^t$', 't\\d', 't{2}', 't?', '.', '$', 'tüx', '(?i)t', '\\Qt\\E', 't/ü-#']
      const { credential } = await mint(params({ configure: odd }))
      const connection = await connect(credential)
      for (const name of odd) expect({ name, declared: await declares(connection, name) }).toEqual({ name, declared: true })
      const others = ['tXa+b', 't.aab', 't.ab', 't1', 't', 'tx', 'secret', 't|', 'td', 't1', 'tt', 'T', 't2', 'xt.a+b', 't.a+bc']
      for (const name of others) expect({ name, declared: await declares(connection, name) }).toEqual({ name, declared: false })
      for (const name of odd) await server.ask('DELETE', `queues/%2F/${encodeURIComponent(name)}`)
    })

    it('reaches what a pattern covers, in the middle of a name as well', async () => {
      const { credential } = await mint(params({ configure: ['t.*.in', 'only-*'] }))
      const connection = await connect(credential)
      for (const [name, declared] of [
        ['t.eu.in', true],
        ['t..in', true],
        ['only-', true],
        ['t.in', false],
        ['t.eu.inn', false],
        ['xt.eu.in', false],
        ['only', false],
      ] as const)
        expect({ name, declared: await declares(connection, name) }).toEqual({ name, declared })
      for (const name of ['t.eu.in', 't..in', 'only-']) await server.ask('DELETE', `queues/%2F/${name}`)
    })

    it('sends through the default exchange only where it is named', async () => {
      const publish = async (write: string[]) => {
        const { credential } = await mint(params({ write }))
        const channel = await (await connect(credential)).createConfirmChannel()
        channel.on('error', () => undefined)
        return new Promise<boolean>((resolve) => {
          channel.on('close', () => resolve(false))
          channel.publish('', 't.nowhere', Buffer.from('x'), {}, (error) => resolve(error === null || error === undefined))
        })
      }
      expect(await publish(['amq.default'])).toBe(true)
      expect(await publish(['t.*'])).toBe(false)
    })

    it('opens no more connections than its role allows, and enters no other virtual host', async () => {
      await server.ask('PUT', 'vhosts/other')
      const { credential } = await mint(params({ max_connections: 1 }))
      await connect(credential)
      await expect(connect(credential)).rejects.toThrow()
      const other = { ...credential, fields: { ...credential.fields, url: String(credential.fields.url).replace('%2F', 'other') } }
      await expect(connect(other)).rejects.toThrow()
    })

    it('may enter a virtual host of any name', async () => {
      for (const vhost of ['a b', 'ü/ß', "x'; --", '%2F', '{}', 'a?b#c']) {
        await server.ask('PUT', `vhosts/${encodeURIComponent(vhost)}`)
        const { credential, handle } = await mint(params({ vhost }))
        const connection = await connect(credential)
        expect(await declares(connection, 't.in')).toBe(true)
        await provider.revoke(handle, TIMEOUT_MS)
      }
    })
  })

  describe('check', () => {
    it('says that the tag is missing, that the password is wrong, which virtual host is not there', async () => {
      const problem = async (change: object) => {
        const opened = await open(change)
        closing.push(() => opened.close())
        return opened.check([
          { name: 'good', params: params() },
          { name: 'lost', params: params({ vhost: 'nowhere' }) },
        ])
      }
      await expect(problem({ url: await server.createBroker('weak', 'monitoring') })).rejects.toThrow(
        /tag administrator.*docs\/providers\/rabbitmq\.md/,
      )
      await expect(problem({ url: url.replace(/:[0-9a-f]{32}@/, ':wrong@') })).rejects.toMatchObject({
        kind: 'refused',
        message: expect.stringContaining('login'),
      })
      await expect(problem({})).rejects.toThrow(/^role "lost": there is no virtual host "nowhere"; see/)
    })
  })
})
