import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { waitFor } from '../support/wait.js'
import { type LinkProxy, startProxy } from './proxy.js'

let server: Server
let proxy: LinkProxy
let caller: Socket
let seen: string
let closed: string | undefined

/** An echo: what arrives comes back. */
beforeEach(async () => {
  server = createServer((socket) => socket.on('error', () => undefined).pipe(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  proxy = await startProxy({ host: '127.0.0.1', port: typeof address === 'object' && address !== null ? address.port : 0 })
  dial()
})
afterEach(async () => {
  caller.destroy()
  await proxy.close()
  await new Promise((resolve) => server.close(resolve))
})
/** What was seen of a connection before is none of the next one's. */
function dial(): void {
  const socket = createConnection({ host: '127.0.0.1', port: proxy.port })
  caller = socket
  seen = ''
  closed = undefined
  socket.on('data', (chunk) => {
    if (caller === socket) seen += chunk.toString()
  })
  socket.on('error', (error) => {
    if (caller === socket) closed = 'code' in error ? String(error.code) : error.message
  })
  socket.on('close', () => {
    if (caller === socket) closed ??= 'in order'
  })
}
const echoed = (text: string) => waitFor(`${text} to come back`, () => seen === text)

describe('a proxy', () => {
  it('passes everything on while nothing is wrong', async () => {
    const much = 'x'.repeat(1_000_000)
    caller.write(much)
    await echoed(much)
  })

  it.each(['latency', 'trickle'] as const)('passes everything on in order under %s', async (kind) => {
    proxy.trouble(kind, 3)
    for (const letter of 'abcdefgh') caller.write(letter)
    await echoed('abcdefgh')
    proxy.heal()
    caller.write('i')
    await echoed('abcdefghi')
  })

  it.each([
    ['reset', 'ECONNRESET'],
    ['fin', 'in order'],
  ] as const)('ends what is open, and whatever comes after it, by %s', async (kind, how) => {
    caller.write('a')
    await echoed('a')
    proxy.trouble(kind)
    expect(await waitFor('the connection to end', () => closed)).toBe(how)
    dial()
    expect(await waitFor('the next one to end', () => closed)).toBe(how)
    proxy.heal()
    dial()
    caller.write('b')
    await echoed('b')
  })

  it.each(['blackhole', 'oneway'] as const)('takes connections and answers nothing in a %s, and breaks them when that is over', async (kind) => {
    proxy.trouble(kind)
    dial()
    await new Promise((resolve) => caller.once('connect', resolve))
    caller.write('a')
    // Something else has been through meanwhile, there and back.
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect({ seen, closed }).toEqual({ seen: '', closed: undefined })
    proxy.heal()
    expect(await waitFor('the connection to be broken', () => closed)).toBe('ECONNRESET')
  })
})
