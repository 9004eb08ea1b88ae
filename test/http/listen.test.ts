import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { Agent, request } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from '@jest/globals'
import { type Listening, type ListenOptions, listen } from '../../src/http/listen.js'
import { exchange, statuses } from '../support/raw.js'

const ECHO: RequestListener = (received, response) => {
  const chunks: Buffer[] = []
  received.on('data', (chunk) => chunks.push(chunk))
  received.on('end', () => response.end(`${received.method} ${received.url} ${Buffer.concat(chunks)}`))
}

describe('a listener', () => {
  const open: Listening[] = []
  const start = async (app: RequestListener = ECHO, options: Partial<ListenOptions> = {}): Promise<Listening> => {
    const listening = await listen(app, { host: '127.0.0.1', port: 0, ...options })
    open.push(listening)
    return listening
  }
  afterEach(() => Promise.all(open.splice(0).map((one) => one.close(0))))

  it.each([
    ['both Content-Length and Transfer-Encoding', 'Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG'],
    ['two lengths that differ', 'Content-Length: 6\r\nContent-Length: 5\r\n\r\n0\r\n\r\nG'],
    ['two lengths that agree', 'Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello'],
    ['a length with a sign', 'Content-Length: +5\r\n\r\nhello'],
    ['a list of lengths', 'Content-Length: 5, 5\r\n\r\nhello'],
    ['chunked that is not last', 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
    ['chunked in disguise', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['a space before the colon', 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
    ['a folded header', 'X-One: a\r\n b: c\r\n\r\n'],
    ['a bare line feed as line end', 'X-One: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a NUL in a header', 'X-One: a\0b\r\n\r\n'],
    ['a chunk size with junk', 'Transfer-Encoding: chunked\r\n\r\n5 ;junk\r\nhello\r\n0\r\n\r\n'],
    ['a carriage return in a header', 'X-One: a\rb\r\n\r\n'],
  ])('refuses %s, and nothing after it', async (_what, rest) => {
    const { url } = await start()
    const received = await exchange(url, `POST / HTTP/1.1\r\nHost: x\r\n${rest}ET /second HTTP/1.1\r\nHost: x\r\n\r\n`)
    expect(statuses(received).at(-1)).toBe(400)
    expect(received).not.toContain('/second')
    expect(received).toContain('"code":"malformed"')
    expect(received).toContain('Connection: close')
  })

  it.each([
    ['no Host', 'GET / HTTP/1.1\r\n\r\n'],
    ['junk for a request line', 'HELLO\r\n\r\n'],
    ['a TLS greeting', Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03])],
    ['HTTP/2 without being asked', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('refuses %s', async (_what, bytes) => {
    const { url } = await start()
    expect(statuses(await exchange(url, bytes))).toEqual([400])
  })

  it('refuses more than 16 kB of headers', async () => {
    const { url } = await start()
    expect(statuses(await exchange(url, `GET / HTTP/1.1\r\nHost: x\r\nX-Large: ${'a'.repeat(17_000)}\r\n\r\n`))).toEqual([431])
  })

  it('gives slow headers and slow bodies so long and no longer', async () => {
    const { url } = await start(ECHO, { headersTimeoutMs: 100, requestTimeoutMs: 200 })
    expect(statuses(await exchange(url, 'GET / HTTP/1.1\r\nHost: x\r\nX-Slow: '))).toEqual([408])
    expect(statuses(await exchange(url, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow'))).toEqual([408])
  })

  it('holds no more connections than it may', async () => {
    const { url } = await start(ECHO, { maxConnections: 1 })
    const { port } = new URL(url)
    const first = connect(Number(port), '127.0.0.1')
    await new Promise((resolve) => first.once('connect', resolve))
    first.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await new Promise((resolve) => first.once('data', resolve))
    expect(await exchange(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n').catch(() => '')).toBe('')
    first.destroy()
  })

  it('makes room for a caller where others hold connections and ask nothing', async () => {
    const { url } = await start(ECHO, { maxConnections: 20 })
    const port = Number(new URL(url).port)
    const silent = await Promise.all(
      Array.from({ length: 18 }, async (_, n) => {
        const socket = connect(port, '127.0.0.1').on('error', () => undefined)
        await new Promise((resolve) => socket.once('connect', resolve))
        // Slow headers are no request yet.
        if (n % 2 === 0) socket.write('GET / HTTP/1.1\r\nHost: x\r\nX-Slow:')
        return socket
      }),
    )
    for (let n = 0; n < 10; n++) {
      const kept = connect(port, '127.0.0.1')
      kept.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await new Promise((resolve) => kept.once('data', resolve))
      silent.push(kept)
    }
    expect(silent.filter(({ destroyed }) => destroyed).length).toBeGreaterThanOrEqual(8)
    for (const socket of silent) socket.destroy()
  })

  it('does not keep an answer for a reader that does not read', async () => {
    const closed = new Promise((resolve) => {
      void start(
        (_request, response) => {
          response.once('close', resolve)
          response.end(Buffer.alloc(32 * 1024 * 1024))
        },
        { unreadMs: 100 },
      ).then(({ url }) => {
        const socket = connect(Number(new URL(url).port), '127.0.0.1').pause()
        socket.on('error', () => undefined).write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      })
    })
    await closed
  })

  it('speaks TLS from 1.2 on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mayfly-tls-'))
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const ask = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=localhost']
    execFileSync('openssl', [...ask, '-keyout', key, '-out', cert], { stdio: 'ignore' })
    const tls = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
    const { url, close } = await start(ECHO, { tls })
    expect(url).toMatch(/^https:/)
    const get = (maxVersion: 'TLSv1.1' | 'TLSv1.3') =>
      new Promise<number | undefined>((resolve, reject) => {
        const agent = new Agent({ ca: tls.cert, minVersion: 'TLSv1', maxVersion, checkServerIdentity: () => undefined })
        request(url, { agent }, (answer) => resolve(answer.resume().statusCode))
          .on('error', reject)
          .end()
      })
    expect(await get('TLSv1.3')).toBe(200)
    await expect(get('TLSv1.1')).rejects.toThrow()
    expect(await exchange(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n').catch(() => '')).not.toContain('200')
    // Whoever connects and never shakes hands does not hold a drain beyond its grace.
    const mute = connect(Number(new URL(url).port), '127.0.0.1')
    await new Promise((resolve) => mute.once('connect', resolve))
    await close(50)
    mute.destroy()
    rmSync(folder, { recursive: true })
  })

  it('ends what is in flight when it closes, accepts nothing new and lets go of idle connections', async () => {
    let arrived: (release: () => void) => void
    const here = new Promise<() => void>((resolve) => (arrived = resolve))
    const { url, close } = await start((_request, response) => arrived(() => response.end('late but here')))
    const { port } = new URL(url)
    const idle = connect(Number(port), '127.0.0.1')
    await new Promise((resolve) => idle.once('connect', resolve))
    const inFlight = fetch(url).then((answer) => answer.text())
    const release = await here
    const closed = close(10_000)
    await expect(fetch(url)).rejects.toThrow()
    release()
    expect(await inFlight).toBe('late but here')
    await closed
    idle.destroy()
  })

  it('cuts what is in flight when the grace is over', async () => {
    let arrived: () => void = () => {}
    const here = new Promise<void>((resolve) => (arrived = resolve))
    const { url, close } = await start(() => arrived())
    const inFlight = expect(fetch(url)).rejects.toThrow()
    await here
    await close(50)
    await inFlight
  })
})
