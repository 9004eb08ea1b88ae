import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { z } from 'zod'
import { MayflyError } from '../../src/errors.js'
import { MAX_BODY_BYTES, readBody } from '../../src/http/body.js'
import { exchange } from '../support/raw.js'

const ROUTES: Record<string, Parameters<typeof readBody>[1]> = {
  '/json': { body: z.unknown() },
  '/optional': { body: z.unknown(), bodyOptional: true },
  '/form': { body: z.unknown(), bodyType: 'form' },
  '/none': {},
}

describe('a request body', () => {
  let server: Server
  let url: string
  const seen: unknown[] = []
  beforeAll(async () => {
    server = createServer((request, response) => {
      readBody(request, ROUTES[request.url ?? ''] ?? {}).then(
        (body) => response.end(JSON.stringify({ body: body ?? 'nothing' })),
        (error: unknown) => {
          seen.push(error)
          response.setHeader('connection', 'close')
          response.statusCode = error instanceof MayflyError ? error.status : 500
          response.end(JSON.stringify({ code: error instanceof MayflyError ? error.code : String(error) }))
        },
      )
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  const send = async (path: string, type: string | undefined, body: string | Buffer, headers: Record<string, string> = {}) => {
    const bytes = Buffer.from(body)
    const answer = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { ...(type && { 'content-type': type }), ...headers },
      body: new Uint8Array(bytes),
    })
    return answer.json()
  }

  it.each(['application/json', 'application/json; charset=utf-8', 'application/json;charset=UTF-8', 'Application/JSON; charset="utf-8"'])(
    'is taken as %s',
    async (type) => {
      expect(await send('/json', type, '{"a":"é"}')).toEqual({ body: { a: 'é' } })
    },
  )

  it.each([
    'text/plain',
    'application/json; charset=latin1',
    'application/jsonp',
    'application/problem+json',
    'application/json, text/plain',
    'application/json; charset=utf-8; boundary=x',
    'multipart/form-data; boundary=application/json',
    'application/x-www-form-urlencoded',
  ])('is refused as %s', async (type) => {
    expect(await send('/json', type, '{"a":1}')).toEqual({ code: 'unsupported_media_type' })
  })

  it('is refused without a content type, and compressed', async () => {
    const bare = await exchange(url, 'POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}')
    expect(bare).toContain('unsupported_media_type')
    expect(await send('/json', 'application/json', gzipSync('{"a":1}'), { 'content-encoding': 'gzip' })).toEqual({ code: 'unsupported_media_type' })
  })

  it('may be 64 kB and not one byte more, announced or in chunks', async () => {
    const largest = JSON.stringify('x'.repeat(MAX_BODY_BYTES - 2))
    expect(await send('/json', 'application/json', largest)).toEqual({ body: 'x'.repeat(MAX_BODY_BYTES - 2) })
    const announced = `POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${MAX_BODY_BYTES + 1}\r\n\r\n`
    expect(await exchange(url, announced)).toContain('too_large')
    const chunk = 'x'.repeat(32 * 1024)
    const chunked = `POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${`8000\r\n${chunk}\r\n`.repeat(3)}`
    expect(await exchange(url, chunked)).toContain('too_large')
  })

  it.each([
    ['an overlong encoding', Buffer.from([0x22, 0xc0, 0xaf, 0x22])],
    ['half a surrogate pair', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])],
    ['UTF-16', Buffer.from('{"a":1}', 'utf16le')],
    ['a cut character', Buffer.from([0x22, 0xe2, 0x82])],
  ])('is refused with %s', async (_what, bytes) => {
    expect(await send('/json', 'application/json', bytes)).toEqual({ code: 'malformed' })
  })

  it('is refused when it ends early, without a word of what had come', async () => {
    const cut = 'POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"token":"s3cret"'
    const before = seen.length
    const arrived = new Promise((resolve) => server.once('request', resolve))
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(cut))
    await arrived
    socket.destroy()
    while (seen.length === before) await new Promise((resolve) => setImmediate(resolve))
    expect(seen.at(-1)).toMatchObject({ code: 'malformed', message: 'the body ended early' })
  })

  it('may be left out where the route says so, and is {} then', async () => {
    expect(await (await fetch(`${url}/optional`, { method: 'POST' })).json()).toEqual({ body: {} })
    expect(await send('/optional', 'application/json', '{"reason":"done"}')).toEqual({ body: { reason: 'done' } })
    expect(await (await fetch(`${url}/json`, { method: 'POST' })).json()).toEqual({ code: 'unsupported_media_type' })
  })

  it('is refused where nothing is taken', async () => {
    expect(await (await fetch(`${url}/none`)).json()).toEqual({ body: 'nothing' })
    expect(await send('/none', 'application/json', '{}')).toEqual({ code: 'malformed' })
    const chunked = 'GET /none HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
    expect(await exchange(url, chunked)).toContain('malformed')
  })

  it('of a form holds each parameter once', async () => {
    const type = 'application/x-www-form-urlencoded'
    expect(await send('/form', type, 'token=a%20b&token_type_hint=access_token&other=1')).toEqual({
      body: { token: 'a b', token_type_hint: 'access_token', other: '1' },
    })
    expect(await send('/form', type, 'token=a&token=b')).toEqual({ code: 'malformed' })
    expect(await send('/form', type, 'token=a&%74oken=a')).toEqual({ code: 'malformed' })
    expect(await send('/form', 'application/json', '{"token":"a"}')).toEqual({ code: 'unsupported_media_type' })
    expect(await send('/form', type, '__proto__=a&token=b')).toMatchObject({ body: { token: 'b' } })
  })
})
