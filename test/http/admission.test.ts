import type { RequestListener, ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type AdmissionOptions, admitting, type Limits } from '../../src/http/admission.js'
import { type Listening, listen } from '../../src/http/listen.js'
import { ROUTES } from '../../src/http/routes/index.js'
import { createShares, type Share } from '../../src/http/share.js'
import { createMetrics } from '../../src/metrics.js'
import { checkAnswer, routeOf } from '../support/answers.js'
import { exchange, statuses } from '../support/raw.js'
import { waitFor } from '../support/wait.js'

const TASK = `task_00${'a'.repeat(26)}`

describe('the share of a request', () => {
  const shareOf = createShares(ROUTES)
  it.each<[string, string, Share]>([
    ['POST', '/v1/leases', 'ask'],
    ['POST', '/v1/leases/x/renew', 'ask'],
    ['DELETE', '/v1/leases/x?wait=5', 'end'],
    ['GET', '/v1/leases', 'stop'],
    ['GET', '/v1/leases/x', 'ask'],
    ['POST', '/v1/tasks', 'ask'],
    ['POST', '/v1/tasks/x/children', 'ask'],
    ['POST', '/v1/tasks/x/complete', 'end'],
    ['POST', '/v1/tasks/x/heartbeat', 'end'],
    ['PATCH', '/v1/tasks/x/context?wait=1', 'end'],
    ['POST', '/v1/tasks/x/tool-calls', 'ask'],
    ['POST', '/oauth2/introspect', 'ask'],
    ['POST', '/v1/emergency/revoke', 'stop'],
    ['POST', '/v1/freezes', 'stop'],
    ['POST', '/v1/freezes/x/thaw', 'stop'],
    ['POST', '/v1/agents/team/a/b/suspend', 'stop'],
    ['HEAD', '/healthz', 'open'],
    ['GET', '/readyz', 'open'],
    ['GET', '/v1/providers/ca/crl', 'open'],
    ['GET', '/.well-known/openid-configuration/a/b', 'open'],
    ['PUT', '/v1/emergency/revoke', 'ask'],
    ['POST', '/v1/emergency/revoke/more', 'ask'],
    ['GET', '/nothing', 'ask'],
    ['POST', 'http://elsewhere/v1/freezes', 'ask'],
  ])('of %s %s is "%s"', (method, url, share) => {
    expect(shareOf({ method, url })).toBe(share)
  })
})

describe('more requests than may be under way', () => {
  const ONE: Limits = { starts: 100, waiting: 1, patienceMs: 60_000, inFlight: 1 }
  const FREE: Limits = { starts: 100, waiting: 1, patienceMs: 60_000 }
  const metrics = createMetrics()
  const told: object[] = []
  const log = { warn: (fields: object) => void told.push(fields) }
  let begun: { readonly url: string; readonly response: ServerResponse }[]
  let arrived: ServerResponse[]
  let listening: Listening
  const sockets: Socket[] = []
  const start = async (options: Partial<AdmissionOptions> = {}) => {
    const app = admitting((request, response) => begun.push({ url: `${request.method} ${request.url}`, response }), {
      routes: ROUTES,
      metrics,
      log,
      limits: { stop: FREE, end: FREE, open: ONE, ask: ONE },
      ...options,
    })
    const noting: RequestListener = (request, response) => {
      arrived.push(response)
      app(request, response)
    }
    listening = await listen(noting, { host: '127.0.0.1', port: 0 })
  }
  beforeEach(() => {
    begun = []
    arrived = []
  })
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy()
    await listening.close(0)
  })
  /** On a connection of its own; what came back so far is in `received`. */
  const send = async (line: string, body = '{}') => {
    const socket = connect(Number(new URL(listening.url).port), '127.0.0.1')
    sockets.push(socket)
    const one = { socket, received: '', closed: false }
    socket.on('data', (chunk) => (one.received += chunk.toString('latin1')))
    socket.on('close', () => (one.closed = true))
    socket.on('error', () => undefined)
    await new Promise((resolve) => socket.once('connect', resolve))
    socket.write(`${line} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    return one
  }
  const begins = (count: number) => waitFor(`${count} requests to begin`, () => begun.length >= count)
  const lines = () => begun.map(({ url }) => url)
  /** One under way, one waiting. */
  const crowd = async () => {
    const first = await send('POST /v1/leases')
    await begins(1)
    const second = await send('POST /v1/leases/second/renew')
    const third = await send('POST /v1/leases')
    await waitFor('the third to be refused', () => statuses(third.received)[0] === 503)
    return { first, second, third }
  }

  it('wait their turn as far as there is room, and the rest is told to come again', async () => {
    await start()
    const { second, third } = await crowd()
    const [head = '', body = ''] = third.received.split('\r\n\r\n')
    const headers = new Headers(
      head
        .split('\r\n')
        .slice(1)
        .map((line) => line.split(': ', 2) as [string, string]),
    )
    expect(headers.get('retry-after')).toBe('1')
    checkAnswer(routeOf('POST', '/v1/leases'), { status: 503, headers, body: JSON.parse(body) })
    expect(JSON.parse(body).code).toBe('overloaded')
    expect(lines()).toEqual(['POST /v1/leases'])
    begun[0]?.response.end()
    await begins(2)
    begun[1]?.response.end('at last')
    await waitFor('the second answer', () => second.received.includes('at last'))
    expect(await metrics.registry.getSingleMetricAsString('mayfly_requests_shed_total')).toMatch(/\{share="ask"\} [1-9]/)
    expect(told).toContainEqual({ share: 'ask', refused: 1 })
  })

  it('never keep the stop, the ends and the probes waiting', async () => {
    await start()
    await crowd()
    for (const line of ['POST /v1/emergency/revoke', 'POST /v1/freezes', `POST /v1/tasks/${TASK}/complete`, 'DELETE /v1/leases/x', 'GET /healthz']) {
      await send(line)
      await waitFor(`${line} to begin`, () => lines().includes(line))
    }
  })

  it('are answered as OAuth has it where OAuth is spoken', async () => {
    await start()
    await crowd()
    const { received } = await waitFor('an answer', async () => {
      const one = await send('POST /oauth2/introspect', 'token=x')
      await waitFor('the refusal', () => one.received.includes('}'))
      return one
    })
    expect(JSON.parse(received.split('\r\n\r\n')[1] ?? '')).toEqual({ error: 'temporarily_unavailable', error_description: 'Overloaded' })
  })

  it('and a refusal leaves the connection usable', async () => {
    await start()
    const { third } = await crowd()
    third.socket.write('GET /v1/freezes HTTP/1.1\r\nHost: x\r\n\r\n')
    await waitFor('the next request', () => lines().includes('GET /v1/freezes'))
  })

  it('are forgotten when their callers leave', async () => {
    await start()
    const { second } = await crowd()
    second.socket.destroy()
    await waitFor('the broker to notice', () => arrived[1]?.destroyed)
    begun[0]?.response.end()
    await send('POST /v1/leases?again')
    await begins(2)
    expect(lines()).not.toContain('POST /v1/leases/second/renew')
  })

  it('wait no longer than the first of them may', async () => {
    await start({ limits: { stop: FREE, end: FREE, open: ONE, ask: { ...ONE, waiting: 1_000, patienceMs: 0 } } })
    await send('POST /v1/leases')
    await begins(1)
    await send('POST /v1/leases?second')
    const late = await waitFor('somebody to be refused', async () => {
      const one = await send('POST /v1/leases?more')
      return waitFor('an answer', () => statuses(one.received)[0], 2_000).catch(() => undefined)
    })
    expect(late).toBe(503)
  })

  it('on one connection are served one after the other', async () => {
    await start({ limits: { stop: FREE, end: FREE, open: FREE, ask: FREE } })
    const answers = exchange(listening.url, ['a', 'b', 'c'].map((name) => `GET /${name} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''), (received) =>
      received.includes('last'),
    )
    await begins(1)
    expect(lines()).toEqual(['GET /a'])
    begun[0]?.response.end('first')
    await begins(2)
    begun[1]?.response.end('second')
    await begins(3)
    begun[2]?.response.end('last')
    expect(await answers).toMatch(/first.*second.*last/s)
  })

  it('on one connection, sent without waiting for answers, end it', async () => {
    await start()
    const flood = Array.from({ length: 1_000 }, () => 'GET /v1/freezes HTTP/1.1\r\nHost: x\r\n\r\n').join('')
    expect(await exchange(listening.url, flood).catch(() => '')).toBe('')
    expect(begun.length).toBeLessThanOrEqual(1)
  })
})
