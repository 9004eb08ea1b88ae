import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import { getJson } from '../../src/identity/outbound.js'

const loopback = { allowHttpLoopback: true }
const closers: (() => unknown)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

async function listen(handle: RequestListener): Promise<{ url: string; port: number; requests: string[] }> {
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.host}`)
    handle(request, response)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  closers.push(
    () => server.closeAllConnections(),
    () => server.close(),
  )
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, port, requests }
}

describe('an issuer is asked', () => {
  it('over http on loopback where that is allowed, by address or by name', async () => {
    const { url, port, requests } = await listen((_request, response) => response.end('{"keys":[]}'))
    expect(await getJson(`${url}/jwks?a=1`, loopback)).toEqual({ keys: [] })
    expect(await getJson(`http://localhost:${port}/jwks`, loopback)).toEqual({ keys: [] })
    expect(requests).toEqual([`GET /jwks?a=1 127.0.0.1:${port}`, `GET /jwks localhost:${port}`])
  })
  it('and not at all over http where it is not allowed', async () => {
    const { url, requests } = await listen((_request, response) => response.end('{}'))
    for (const rules of [{}, { allowPrivateAddresses: true }]) await expect(getJson(url, rules)).rejects.toThrow(/must be https/)
    await expect(getJson(url.replace('http:', 'https:'), {})).rejects.toThrow(/loopback address, which is not asked; allow private addresses/)
    expect(requests).toEqual([])
  })
  it.each([
    'ftp://idp.example',
    'file:///etc/passwd',
    'data:application/json,{}',
    'nonsense',
    'https://user:secret@idp.example',
    'https://idp.example/#x',
  ])('never at %s', async (url) => {
    await expect(getJson(url, { ...loopback, allowPrivateAddresses: true })).rejects.toThrow(/^(must|is not a URL)/)
  })
  it.each([
    'http://169.254.169.254/latest/meta-data',
    'http://[fd00:ec2::254]/latest',
    'http://10.0.0.1',
    'http://0.0.0.0',
    'http://[::]',
    'http://8.8.8.8',
    'http://[::ffff:10.0.0.1]',
  ])('never over http at %s, which is not loopback', async (url) => {
    await expect(getJson(url, { ...loopback, allowPrivateAddresses: true, timeoutMs: 1000 })).rejects.toThrow(/only loopback may be asked over http/)
  })
  it.each<[string, RegExp]>([
    ['https://169.254.169.254', /linkLocal/],
    ['https://0xa9fea9fe', /linkLocal/],
    ['https://2852039166', /linkLocal/],
    ['https://[::ffff:169.254.169.254]', /linkLocal/],
    ['https://[64:ff9b::a9fe:a9fe]', /linkLocal/],
    ['https://[fe80::1]', /linkLocal/],
    ['https://[fd00:ec2::254]', /metadata/],
    ['https://100.100.100.200', /metadata/],
    ['https://192.0.0.192', /metadata/],
    ['https://0.0.0.0', /unspecified/],
    ['https://[::]', /unspecified/],
    ['https://224.0.0.1', /multicast/],
    ['https://255.255.255.255', /broadcast/],
    ['https://[2002:a9fe:a9fe::]', /6to4/],
  ])('never at %s, whatever is allowed', async (url, reason) => {
    for (const rules of [{}, { ...loopback, allowPrivateAddresses: true }]) {
      await expect(getJson(url, { ...rules, timeoutMs: 1000 })).rejects.toThrow(reason)
    }
  })
  it.each([
    'https://127.0.0.1',
    'https://127.1',
    'https://[::1]',
    'https://localhost',
    'https://10.1.2.3',
    'https://172.16.0.1',
    'https://192.168.1.1',
    'https://100.64.0.1',
    'https://[fc00::1]',
    'https://[::ffff:127.0.0.1]',
    'https://[64:ff9b::a00:1]',
  ])('at %s only where private addresses are allowed', async (url) => {
    await expect(getJson(url, { timeoutMs: 1000 })).rejects.toThrow(/which is not asked; allow private addresses for this issuer if that is meant/)
  })
})

describe('an answer is refused', () => {
  it.each([301, 302, 303, 307, 308])('that redirects with %p, and the other place is not asked', async (status) => {
    const inside = await listen((_request, response) => response.end('{"keys":[]}'))
    const { url } = await listen((_request, response) => response.writeHead(status, { location: `${inside.url}/secret` }).end())
    await expect(getJson(url, loopback)).rejects.toThrow(/redirect, which is not followed/)
    expect(inside.requests).toEqual([])
  })
  it.each([204, 400, 401, 404, 500, 503])('of status %p', async (status) => {
    const { url } = await listen((_request, response) => response.writeHead(status).end(status === 204 ? undefined : '{"keys":[]}'))
    await expect(getJson(url, loopback)).rejects.toThrow(`answered ${status}`)
  })
  it('that is no JSON', async () => {
    const { url } = await listen((_request, response) => response.end('<html>'))
    await expect(getJson(url, loopback)).rejects.toThrow(/did not answer with JSON/)
  })
  it('over 1 MB, whether its length is told or not; up to that it is read', async () => {
    const big = JSON.stringify('x'.repeat(1024 * 1024))
    const told = await listen((_request, response) => response.writeHead(200, { 'content-length': big.length }).end(big))
    const untold = await listen((_request, response) => {
      response.write(big.slice(0, 1000))
      response.end(big.slice(1000))
    })
    for (const { url } of [told, untold]) await expect(getJson(url, loopback)).rejects.toThrow(/exceeded/)
    const fits = await listen((_request, response) => response.end(JSON.stringify('x'.repeat(1024 * 1024 - 2))))
    expect(await getJson(fits.url, loopback)).toHaveLength(1024 * 1024 - 2)
  })
  it('that never begins, never ends, or drips', async () => {
    const silent = await listen(() => undefined)
    const endless = await listen((_request, response) => response.write('{'))
    const dripping = await listen((_request, response) => {
      const drip = setInterval(() => response.write(' '), 20)
      response.on('close', () => clearInterval(drip))
    })
    for (const { url } of [silent, endless, dripping]) {
      await expect(getJson(url, { ...loopback, timeoutMs: 200 })).rejects.toThrow(/did not answer in time/)
    }
  })
  it('when whoever asked has gone', async () => {
    const { url } = await listen(() => undefined)
    const gone = new AbortController()
    const asked = getJson(url, { ...loopback, signal: gone.signal })
    gone.abort()
    await expect(asked).rejects.toThrow(/abort/i)
    await expect(getJson(url, { ...loopback, signal: gone.signal })).rejects.toThrow(/abort/i)
  })
})
