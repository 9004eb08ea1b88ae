import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { HTTP_SCHEMAS, httpSchemas } from '../../scripts/http-schemas.js'
import { http } from '../../src/providers/http.js'
import { type Provider, ProviderError } from '../../src/providers/provider.js'
import { generateSigningKeys, openSigner, type TokenSigner } from '../../src/signer.js'
import { newLeaseId, plan, requestOf } from './harness.js'
import { type Answering, type StandIn, startStandIn } from './http-stand-in.js'

const SECRET = 'the-upstream-secret-1234567890'
const PROBLEM = 'application/problem+json'
const promised = {
  credential_type: 'thing',
  revocation: 'immediate',
  residual_seconds: 5,
  expiry_ends_use: true,
  scope_keys: ['area'],
  env: ['THING'],
}
const described = {
  version: 1,
  type: 'thing',
  revocation: 'immediate',
  residual_seconds: 5,
  shortest_life_seconds: 0,
  renewable: false,
  verifiable: false,
  cuts_sessions: false,
  expiry_ends_use: true,
  scope_keys: ['area'],
  env: ['THING'],
}
const minted = { credential: { fields: { token: SECRET }, env: { THING: SECRET } } }

let signer: TokenSigner
let service: StandIn
const opened: Provider[] = []
beforeAll(async () => {
  signer = await openSigner({ issuer: 'https://mayfly.example', keys: await generateSigningKeys() })
})
beforeEach(async () => {
  service = await startStandIn()
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((provider) => provider.close()))
  await service.stop()
})

async function open(options: Record<string, unknown> = {}): Promise<Provider> {
  const all = http.options.parse({ url: `http://127.0.0.1:${service.port}/base`, ...promised, ...options })
  const provider = await http.open(all, { name: 'mine', instance: 'unit', timeoutMs: 2000, concurrency: 2, signer })
  opened.push(provider)
  return provider
}
async function mint(options: Record<string, unknown> = {}, change: Parameters<typeof plan>[0] = {}, params: Record<string, unknown> = {}) {
  const provider = await open(options)
  const request = requestOf(provider, plan(change), params, 2000)
  return { request, minted: await provider.mint(request) }
}

describe('a request', () => {
  it('carries a token for it alone, and nothing that was not meant to be sent', async () => {
    service.answer = { body: minted }
    const before = Math.floor(Date.now() / 1000)
    const { request } = await mint({ audience: 'https://service.example/v1' }, { human: 'ann@example.com' }, { size: 3 })
    const [asked] = service.asked
    const headers = asked?.headers ?? []
    const names = headers.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase())
    expect(names.sort()).toEqual(['accept', 'accept-encoding', 'authorization', 'connection', 'content-length', 'content-type', 'host'])
    const token = String(headers[headers.indexOf('authorization') + 1]).replace('Bearer ', '')
    const claims = decodeJwt(token)
    const { createHash } = await import('node:crypto')
    expect(decodeProtectedHeader(token)).toMatchObject({ typ: 'mayfly-provider+jwt', alg: 'ES256' })
    expect(claims).toEqual({
      iss: 'https://mayfly.example',
      aud: 'https://service.example/v1',
      iat: expect.any(Number),
      exp: Number(claims.iat) + 30,
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
      htm: 'POST',
      htu: 'https://service.example/v1/mint',
      content_digest: `sha-256=:${createHash('sha256')
        .update(asked?.body ?? '')
        .digest('base64')}:`,
    })
    expect(claims.iat).toBeGreaterThanOrEqual(before)
    expect(asked?.path).toBe('/base/mint')
    expect(JSON.parse(asked?.body ?? '')).toEqual({
      lease: {
        id: request.lease.id,
        task: request.lease.task,
        agent: 'triage/team-a',
        owner: 'sre@example.com',
        human: 'ann@example.com',
        role: 'a-role',
      },
      name: request.lease.id.replace('lease_', 'mf-unit-'),
      params: { size: 3 },
      scope: {},
      issued_at: new Date(request.issuedAt).toISOString(),
      expires_at: new Date(request.expiresAt).toISOString(),
      until: new Date(request.until).toISOString(),
      idempotency: request.lease.id,
    })
  })

  it('is never signed twice alike', async () => {
    service.answer = { body: { outcome: 'absent' } }
    const provider = await open()
    const handle = provider.plan(plan(), {})
    await Promise.all([1, 2, 3].map(() => provider.revoke(handle, 2000)))
    const tokens = service.asked.map(({ headers }) => decodeJwt(String(headers[headers.indexOf('authorization') + 1]).replace('Bearer ', '')).jti)
    expect(new Set(tokens).size).toBe(3)
  })

  it('goes to the service and no proxy of the environment', async () => {
    const variables = ['http_proxy', 'HTTP_PROXY', 'NODE_USE_ENV_PROXY'] as const
    const before = variables.map((name) => process.env[name])
    for (const name of variables) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : 'http://127.0.0.1:9'
    try {
      service.answer = { body: minted }
      expect((await mint()).minted.credential.fields).toEqual({ token: SECRET })
    } finally {
      for (const [index, name] of variables.entries())
        if (before[index] === undefined) delete process.env[name]
        else process.env[name] = before[index]
    }
  })

  it('mends half a character in a name, and refuses it in a scope', async () => {
    service.answer = { body: minted }
    await mint({}, { agent: 'a\ud800b' })
    expect(JSON.parse(service.asked[0]?.body ?? '').lease.agent).toBe('a\ufffdb')
    await expect(mint({}, { scope: { area: 'a\ud800' } })).rejects.toMatchObject({ kind: 'invalid' })
    expect(service.asked).toHaveLength(1)
  })

  it('tells a revoke to be remembered for longer than any mint may take', async () => {
    service.answer = { body: { outcome: 'revoked' } }
    const provider = await open()
    expect(await provider.revoke(provider.plan(plan(), {}), 2000)).toBe('revoked')
    expect(Date.parse(JSON.parse(service.asked[0]?.body ?? '').until)).toBeGreaterThan(Date.now() + 20_000)
  })
})

describe('an answer is an error when it', () => {
  const json = { 'content-type': 'application/json' }
  const refused: [string, Answering, ProviderError['kind'], RegExp][] = [
    ['is a redirect', { status: 307, headers: { location: 'http://127.0.0.1:9/' }, body: minted }, 'broken', /redirect, which is not followed/],
    ['is another success', { status: 201, body: minted }, 'broken', /answered 201/],
    ['is of another type', { headers: { 'content-type': 'text/html' }, body: minted }, 'broken', /content type/],
    ['is compressed', { headers: { 'content-encoding': 'gzip' }, body: minted }, 'broken', /compressed/],
    ['is larger than 1 MB', { body: { ...minted, more: 'x'.repeat(1_100_000) } }, 'broken', /more than 1048576 bytes/],
    ['is not JSON', { headers: json, body: `{"credential": "${SECRET}` }, 'broken', /not JSON/],
    ['has a field too many', { body: { ...minted, [SECRET]: 1 } }, 'broken', /a field too many/],
    ['has a field too few', { body: {} }, 'broken', /credential/],
    ['names a field as only Mayfly may', { body: { credential: { fields: { expires_at: SECRET }, env: {} } } }, 'broken', /credential\.fields/],
    ['hides a field in a name', { body: { credential: { fields: { [`${SECRET} x`]: 1 }, env: {} } } }, 'broken', /credential\.fields$/],
    [
      'is nested too deep',
      { body: `{"credential":{"fields":{"a":${'['.repeat(5000)}${']'.repeat(5000)}},"env":{}}}` },
      'broken',
      /credential\.fields/,
    ],
    ['sets a variable that the operator did not name', { body: { credential: { fields: {}, env: { LD_PRELOAD: SECRET } } } }, 'broken', /"env"/],
    ['ends later than asked for', { body: { ...minted, expires_at: '2999-01-01T00:00:00Z' } }, 'broken', /expires_at/],
    ['ended before it began', { body: { ...minted, expires_at: '1999-01-01T00:00:00Z' } }, 'broken', /expires_at/],
    [
      'is usable for longer than the service says it makes',
      { body: { ...minted, usable_until: '2999-01-01T00:00:00Z' } },
      'broken',
      /shortest_life_seconds excuses/,
    ],
    ['is usable for less than asked for', { body: { ...minted, usable_until: new Date().toISOString() } }, 'broken', /before what was asked for/],
    ['has a time that is none', { body: { ...minted, expires_at: 'soon' } }, 'broken', /expires_at/],
    ['says throttled', { status: 400, headers: { 'content-type': PROBLEM }, body: { kind: 'throttled', detail: SECRET } }, 'throttled', /too much/],
    ['says refused', { status: 409, headers: { 'content-type': PROBLEM }, body: { kind: 'refused', detail: SECRET } }, 'refused', /log says why/],
    [
      'says invalid',
      { status: 422, headers: { 'content-type': PROBLEM }, body: { kind: 'invalid', title: SECRET } },
      'invalid',
      /parameters or this scope/,
    ],
    ['says late', { status: 409, headers: { 'content-type': PROBLEM }, body: { kind: 'late' } }, 'timeout', /after its end/],
    ['says a kind of its own', { status: 409, headers: { 'content-type': PROBLEM }, body: { kind: SECRET } }, 'broken', /without a problem document/],
    ['accepts no signature', { status: 401, body: { detail: SECRET } }, 'refused', /issuer, its key set, its audience .*\/base\) and its clock/],
    ["is a gateway's 429", { status: 429, headers: { 'content-type': 'text/html' }, body: SECRET }, 'throttled', /too much/],
    ["is a gateway's 503", { status: 503, headers: { 'content-type': 'text/html' }, body: SECRET }, 'unreachable', /503/],
    ['knows no such path', { status: 404, headers: { 'content-type': 'text/html' }, body: SECRET }, 'refused', /path of url/],
    ['is an accident', { status: 500, headers: { 'content-type': 'text/plain' }, body: SECRET }, 'broken', /500/],
  ]
  it.each(refused)('%s', async (_what, answer, kind, message) => {
    service.answer = answer
    const error = await mint().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(ProviderError)
    expect(error).toMatchObject({ kind, message: expect.stringMatching(message) })
    expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(SECRET)
    // Told once, and not tried again.
    expect(service.asked).toHaveLength(1)
  })

  it('says that it lives as long as the service said it would at least', async () => {
    const until = new Date(Date.now() + 80_000).toISOString()
    service.answer = { body: { ...minted, usable_until: until } }
    expect((await mint({ shortest_life_seconds: 90 })).minted.usableUntil).toBe(Date.parse(until))
    await expect(mint({ shortest_life_seconds: 70 })).rejects.toMatchObject({ kind: 'broken' })
  })
})

describe('the check', () => {
  const answering = (unsigned: number, headers: Record<string, string> = {}) => {
    service.answer = { body: described, headers }
    service.unsigned = { status: unsigned, body: described, headers }
  }
  it('finds nothing wrong with a service that is as promised', async () => {
    answering(401)
    await expect((await open()).check()).resolves.toBeUndefined()
  })
  it('finds a service that answers anybody', async () => {
    answering(200)
    await expect((await open()).check()).rejects.toThrow(/answered 200 to a request without a signature/)
  })
  it('finds a clock that is off', async () => {
    answering(401, { date: new Date(Date.now() - 60_000).toUTCString() })
    await expect((await open()).check()).rejects.toThrow(/clock is (59|6\d) s off/)
  })
  it.each<[string, unknown, string]>([
    ['credential_type', 'thong', 'credential_type is thong in the configuration and thing at the service'],
    ['revocation', 'deny-policy', 'revocation is deny-policy in the configuration and immediate at the service'],
    ['residual_seconds', 4, 'residual_seconds is 4'],
    ['shortest_life_seconds', 60, 'shortest_life_seconds is 60'],
    ['renewable', true, 'renewable is true'],
    ['verifiable', true, 'verifiable is true'],
    ['cuts_sessions', true, 'cuts_sessions is true'],
    ['expiry_ends_use', false, 'expiry_ends_use is false'],
    ['scope_keys', ['area', 'time'], 'scope_keys is [area, time] in the configuration and [area] at the service'],
    ['env', [], 'env is []'],
  ])('finds a service that says another %s than the configuration', async (option, value, message) => {
    answering(401)
    await expect((await open({ [option]: value })).check()).rejects.toThrow(message)
  })
})

describe('what cannot be taken back', () => {
  it('is not called revoked, and nobody is asked', async () => {
    const provider = await open({ revocation: 'at-expiry' })
    await expect(provider.revoke({ name: 'mf-unit-x' }, 2000)).rejects.toMatchObject({ name: 'ProviderError', kind: 'refused' })
    expect(service.asked).toEqual([])
  })
})

describe('a renewal', () => {
  it('to another time than asked for is an error', async () => {
    const provider = await open({ renewable: true })
    const expiresAt = Date.now() + 60_000
    service.answer = { body: { expires_at: new Date(expiresAt + 1000).toISOString() } }
    await expect(provider.renew?.({ name: `mf-unit-${newLeaseId()}` }, expiresAt, 2000)).rejects.toMatchObject({ kind: 'broken' })
    service.answer = { body: { expires_at: new Date(expiresAt).toISOString().replace('Z', '+00:00') } }
    await expect(provider.renew?.({ name: `mf-unit-${newLeaseId()}` }, expiresAt, 2000)).resolves.toBeUndefined()
  })
  it('is offered only where the operator was told of it', async () => {
    const provider = await open()
    expect(provider).not.toHaveProperty('renew')
    expect(provider).not.toHaveProperty('verify')
  })
})

describe('TLS', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mayfly-http-tls-'))
    const ask = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=provider']
    const out = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]
    execFileSync('openssl', [...ask, ...out], { stdio: 'ignore' })
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const pem = (name: string) => readFileSync(join(folder, `${name}.pem`), 'utf8')

  it('is trusted by its own authorities, and by no others', async () => {
    const secure = await startStandIn({ key: pem('key'), cert: pem('cert') })
    secure.answer = { body: minted }
    const insist = process.env.NODE_TLS_REJECT_UNAUTHORIZED
    try {
      const url = `https://127.0.0.1:${secure.port}`
      expect((await mint({ url, ca: pem('cert') })).minted.credential.type).toBe('thing')
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
      await expect(mint({ url })).rejects.toMatchObject({ kind: 'unreachable', message: expect.stringMatching(/certificate .*, and ca$/) })
      await expect(mint({ url: `https://localhost:${secure.port}`, ca: pem('cert') })).rejects.toThrow(/ERR_TLS_CERT_ALTNAME_INVALID/)
      expect(secure.asked).toHaveLength(1)
    } finally {
      if (insist === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = insist
      await secure.stop()
    }
  })
})

describe('options', () => {
  const problems = (change: Record<string, unknown>) =>
    http.options.safeParse({ url: 'https://a.example', ...promised, ...change }).error?.issues.map(({ path }) => path.join('.')) ?? []

  it.each<[string, Record<string, unknown>]>([
    ['plain http to another machine', { url: 'http://a.example' }],
    ['plain http to what only looks like loopback', { url: 'http://127.0.0.1.example' }],
    ['a slash at the end', { url: 'https://a.example/' }],
    ['credentials', { url: 'https://u:p@a.example' }],
    ['a query', { url: 'https://a.example?x' }],
    ['a fragment', { url: 'https://a.example#x' }],
    ['another protocol', { url: 'file:///etc/passwd' }],
    ['another spelling of the same', { url: 'https://A.example:443/a/../b' }],
  ])('take no url with %s', (_what, change) => {
    expect(problems(change)).toEqual(['url'])
  })
  it.each<[string, Record<string, unknown>, string[]]>([
    ['plain http when it is said so', { url: 'http://a.example', allow_plaintext: true }, []],
    ['plain http to loopback', { url: 'http://[::1]:8080/x' }, []],
    ['at-expiry only where the expiry ends use', { revocation: 'at-expiry', expiry_ends_use: false }, ['expiry_ends_use']],
    ['at-expiry only where nothing is cut', { revocation: 'at-expiry', cuts_sessions: true }, ['cuts_sessions']],
    ['names of variables alone', { env: ['A B'] }, ['env.0']],
    ['nothing that is unknown', { retries: 3 }, ['']],
  ])('take %s', (_what, change, wrong) => {
    expect(problems(change)).toEqual(wrong)
  })
  it('let a role have the scope keys of the service', () => {
    const options = http.options.parse({ url: 'https://a.example', ...promised })
    expect(http.checkRole({}, { area: 'path' }, options)).toEqual([])
    expect(http.checkRole({}, { tenant: 'equal' }, options)).toEqual([expect.stringContaining('scope.tenant')])
  })
  it('need what signs', async () => {
    expect(http.needs).toEqual(['signing'])
    const context = { name: 'mine', instance: 'unit', timeoutMs: 2000, concurrency: 2 }
    await expect(http.open(http.options.parse({ url: 'https://a.example', ...promised }), context)).rejects.toThrow(/needs "signing"/)
  })
})

describe('the published schemas', () => {
  it('are what docs/providers/http holds; `npx tsx scripts/http-schemas.ts` writes them', () => {
    const files = readdirSync(HTTP_SCHEMAS).filter((name) => name.endsWith('.schema.json'))
    const found = Object.fromEntries(files.map((name) => [name, JSON.parse(readFileSync(join(HTTP_SCHEMAS, name), 'utf8'))]))
    expect(found).toEqual(JSON.parse(JSON.stringify(httpSchemas())))
  })
  it('take what is sent, and what is answered', async () => {
    service.answer = { body: minted }
    await mint({}, { human: 'ann@example.com', scope: { area: ['a', 'b'] } }, { size: 3 })
    const ajv = new Ajv2020({ strict: true, allErrors: true })
    addFormats.default(ajv)
    const schemas = httpSchemas()
    const valid = (name: string, value: unknown) => ajv.validate(schemas[`${name}.schema.json`] ?? false, value)
    const [asked] = service.asked
    const { headers = [], body = '{}' } = asked ?? {}
    expect(valid('mint.request', JSON.parse(body))).toBe(true)
    expect(valid('mint.request', { ...JSON.parse(body), more: 1 })).toBe(false)
    expect(valid('mint.answer', minted)).toBe(true)
    expect(valid('describe.answer', described)).toBe(true)
    expect(valid('describe.answer', { ...described, version: 2 })).toBe(false)
    expect(valid('request-token', decodeJwt(String(headers[headers.indexOf('authorization') + 1]).slice(7)))).toBe(true)
  })
})
