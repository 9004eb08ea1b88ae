import { createServer } from 'node:http'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { decodeProtectedHeader } from 'jose'
import { oauth2 } from '../../src/providers/oauth2.js'
import type { Provider } from '../../src/providers/provider.js'
import { waitFor } from '../support/wait.js'
import { type MintOptions, plan, requestOf, SHORT_MS, TIMEOUT_MS } from './harness.js'
import { API, EC_KEY, type OAuthUpstream, RSA_KEY, SECRET, startOAuth } from './oauth2-upstream.js'

const METADATA = '/.well-known/openid-configuration'
const context = { name: 'oauth', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
const params = (change: object = {}) => oauth2.params.parse({ grant: 'client_credentials', scopes: ['orders.read'], resource: API.opaque, ...change })
const exchange = (change: object = {}) => params({ grant: 'token_exchange', ...change })

describe('the oauth2 provider', () => {
  let server: OAuthUpstream
  let provider: Provider
  const opened: Provider[] = []
  const raw = (change: object = {}) => ({
    issuer: server.issuer,
    client_id: 'mayfly',
    client_secret: SECRET,
    verification: 'introspection',
    allow_http_loopback: true,
    max_token_life: '5m',
    ...change,
  })
  const open = async (change: object = {}, signer: OAuthUpstream['signer'] | undefined = server.signer): Promise<Provider> => {
    const one: Provider = await oauth2.open(oauth2.options.parse(raw(change)), { ...context, signer })
    opened.push(one)
    return one
  }
  const mint = (one = provider, given: unknown = params(), { untilMs = TIMEOUT_MS, ttlMs }: MintOptions = {}, lease = plan()) =>
    one.mint(requestOf(one, lease, given, untilMs, ttlMs))
  const paths = () => ({
    issuer: server.issuer,
    token_endpoint: `${server.issuer}/token`,
    revocation_endpoint: `${server.issuer}/token/revocation`,
    introspection_endpoint: `${server.issuer}/token/introspection`,
  })
  const endpoints = () => ({ token: paths().token_endpoint, revocation: paths().revocation_endpoint })
  beforeEach(async () => {
    server = await startOAuth()
    provider = await open()
  })
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close()
    await server.stop()
  })

  it.each<[string, object]>([
    ['a secret in the body', { client_id: 'mayfly-post', client_auth: 'client_secret_post' }],
    ['an EC key', { client_id: 'mayfly-ec', client_auth: 'private_key_jwt', client_secret: undefined, private_key: EC_KEY }],
    [
      'an RSA key',
      { client_id: 'mayfly-rsa', client_auth: 'private_key_jwt', client_secret: undefined, private_key: RSA_KEY.replaceAll('\n', '\\n') },
    ],
    [
      'an RSA key and PS256',
      { client_id: 'mayfly-pss', client_auth: 'private_key_jwt', client_secret: undefined, private_key: RSA_KEY, private_key_alg: 'PS256' },
    ],
  ])('authenticates by %s', async (_what, change) => {
    const one = await open(change)
    await one.check()
    const { handle = {} } = await mint(one)
    expect(await one.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    expect(server.made()).toEqual([])
  })

  it('finds the endpoints by RFC 8414, or is told them and asks for no metadata', async () => {
    server.instead('/.well-known/oauth-authorization-server', { status: 200, body: paths() })
    await mint(await open({ discovery: 'oauth2' }))
    const before = server.routes.length
    server.instead(METADATA, { status: 500 })
    await mint(await open({ endpoints: endpoints() }))
    expect(server.routes.slice(before)).toEqual(['token'])
  })

  it('goes by what it found for a while, whatever becomes of the metadata', async () => {
    const { handle = {} } = await mint()
    server.instead(METADATA, { status: 500 })
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    await mint()
    await expect(mint(await open())).rejects.toMatchObject({ kind: 'broken' })
  })

  describe('exchanges a token that Mayfly signs', () => {
    it('in which it says who acts for whom and what for, for the server alone and for a minute', async () => {
      const lease = plan({ human: 'jane@example.com' })
      const { credential } = await mint(provider, exchange({ scopes: ['orders.read', 'carts.read'] }), {}, lease)
      const [subject] = server.subjects
      expect(subject).toMatchObject({ sub: 'jane@example.com', act: { sub: 'triage/team-a' }, client_id: 'triage/team-a', task: lease.task })
      expect(subject).toMatchObject({ jti: lease.id, role: 'a-role', aud: server.issuer, iss: server.signer.issuer, scope: 'orders.read carts.read' })
      expect(Number(subject?.exp) - Number(subject?.iat)).toBe(60)
      const told = await server.introspect(String(credential.fields.access_token))
      expect(told).toMatchObject({ on_behalf_of: 'jane@example.com', act: { sub: 'triage/team-a' }, task: lease.task })
    })

    it('in the name of the agent where there is no human', async () => {
      await mint(provider, exchange())
      expect(server.subjects[0]).toMatchObject({ sub: 'triage/team-a' })
      expect(server.subjects[0]).not.toHaveProperty('act')
    })

    it('and is of no type that an API would take', async () => {
      const told: string[] = []
      const signer = {
        ...server.signer,
        sign: async (...args: Parameters<typeof server.signer.sign>) => (told[told.length] = await server.signer.sign(...args)),
      }
      await mint(await open({}, signer), exchange())
      expect(decodeProtectedHeader(told[0] ?? '').typ).toBe('JWT')
    })

    it('only with a key of its own to sign with, and says so', async () => {
      const unsigned = await oauth2.open(oauth2.options.parse(raw()), context)
      opened.push(unsigned)
      await unsigned.check([{ name: 'a', params: params() }])
      const wanted = { kind: 'invalid', message: expect.stringContaining('"signing"') }
      await expect(unsigned.check([{ name: 'a', params: exchange() }])).rejects.toMatchObject(wanted)
      await expect(mint(unsigned, exchange())).rejects.toMatchObject(wanted)
      expect(server.made()).toEqual([])
    })

    it('for an audience that the server does not take it for: refused', () =>
      expect(mint(provider, exchange({ subject_audience: 'urn:other' }))).rejects.toMatchObject({ name: 'ProviderError' }))
  })

  it('tells when the token ends by itself, and that the lease ends no later', async () => {
    const from = Date.now()
    const { usableUntil = 0, expiresAt, credential } = await mint()
    expect(expiresAt).toBeUndefined()
    expect(usableUntil).toBeGreaterThanOrEqual(from + 120_000)
    expect(usableUntil).toBeLessThanOrEqual(Date.now() + 120_000)
    expect(credential.fields).toMatchObject({ token_type: 'Bearer', scope: 'orders.read', expires_at: new Date(usableUntil).toISOString() })
    const long = await mint(provider, params(), { ttlMs: 300_000 })
    expect(long.usableUntil).toBeUndefined()
    expect(long.expiresAt).toBeLessThanOrEqual(Date.now() + 120_000)
    server.setLife(1)
    const short = String((await mint()).credential.fields.access_token)
    await waitFor('its end', async () => (await server.introspect(short)).active === false)
  })

  it('asks for nothing when its time was over before it knew where', async () => {
    const release = server.hold('discovery')
    await expect(mint(provider, params(), { untilMs: SHORT_MS })).rejects.toMatchObject({ kind: 'timeout' })
    release()
    await mint()
    expect(server.routes.filter((route) => route === 'token')).toHaveLength(1)
  })

  it('gives back what the server makes too late', async () => {
    await provider.check()
    const release = server.hold('token')
    await expect(mint(provider, params(), { untilMs: SHORT_MS })).rejects.toMatchObject({ kind: 'timeout' })
    expect(server.made()).toHaveLength(1)
    release()
    await waitFor('its end', () => server.made().length === 0)
  })

  it.each<[string, object]>([
    ['more scopes', { scope: 'orders.read orders.write' }],
    ['no word of how long it lives', { expires_in: undefined }],
    ['a life of nothing', { expires_in: 0 }],
    ['a life that is no number', { expires_in: 'long' }],
    ['a life that is too long', { expires_in: 301 }],
    ['a refresh token', { refresh_token: 'r'.repeat(43) }],
    ['another type', { token_type: 'DPoP' }],
    ['a type that nobody knows', { token_type: 'mac' }],
    ['no type', { token_type: undefined }],
    ['an ID token that is none', { id_token: 'a.b.c' }],
  ])('hands out no token with %s, and gives it back', async (_what, change) => {
    for (const given of [params(), exchange()]) {
      server.tamper('token', (body) => ({ ...body, ...change }))
      await expect(mint(provider, given)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('given back') })
      expect(server.made()).toEqual([])
    }
    const revoked = 'refresh_token' in change ? 4 : 2
    expect(server.routes.filter((route) => route === 'revocation')).toHaveLength(revoked)
  })

  it.each([undefined, 'urn:ietf:params:oauth:token-type:refresh_token', 'urn:ietf:params:oauth:token-type:id_token'])(
    'takes no exchange for %s',
    async (issued_token_type) => {
      server.tamper('token', (body) => ({ ...body, issued_token_type }))
      await expect(mint(provider, exchange())).rejects.toMatchObject({ kind: 'refused' })
      expect(server.made()).toEqual([])
    },
  )

  it.each([' ', 'a b', 'a\r\nx: y', 'ä', '', 7, null, 'a=b'])(
    'takes %j for no token, and does not say that nothing was made',
    async (access_token) => {
      server.tamper('token', (body) => ({ ...body, access_token }))
      await expect(mint()).rejects.toMatchObject({ name: 'ProviderError', kind: 'broken' })
    },
  )

  describe('where the signature alone is checked', () => {
    const jwt = params({ resource: API.jwt })

    it('goes by what is in the token', async () => {
      const one = await open({ verification: 'signature' })
      server.setLife(3000)
      server.tamper('token', (body) => ({ ...body, expires_in: 60 }))
      await expect(mint(one, jwt)).rejects.toMatchObject({ kind: 'broken', message: expect.stringContaining('exp') })
      server.setLife(120)
      const { usableUntil, credential, handle } = await mint(one, jwt)
      expect(usableUntil).toBe(Number((await server.verify(String(credential.fields.access_token))).exp) * 1000)
      expect(Object.keys(handle ?? {})).toEqual(['fingerprint'])
      server.tamper('token', (body) => ({ ...body, scope: 'orders.write' }))
      await expect(mint(one, params({ resource: API.jwt, scopes: ['orders.write', 'carts.read'] }))).resolves.toBeDefined()
    })

    it('takes no opaque tokens', async () => {
      await expect(mint(await open({ verification: 'signature' }))).rejects.toMatchObject({
        kind: 'broken',
        message: expect.stringContaining('no JWT'),
      })
      expect(server.made()).toEqual([])
    })

    it('does without revocation and introspection', async () => {
      server.instead(METADATA, { status: 200, body: { ...paths(), revocation_endpoint: undefined, introspection_endpoint: undefined } })
      const one = await open({ verification: 'signature' })
      await one.check([{ name: 'a', params: jwt }])
      await mint(one, jwt)
      const unfit = await open()
      const before = server.made()
      for (const call of [() => unfit.check(), () => mint(unfit)])
        await expect(call()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('RFC 7009') })
      expect(server.made()).toEqual(before)
    })
  })

  describe('revokes', () => {
    it('and does not believe it of a token that is still active', async () => {
      const { handle = {} } = await mint()
      server.tamper('introspection', (body) => ({ ...body, active: true }))
      await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'broken', message: expect.stringContaining('still') })
      server.tamper('introspection', undefined)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('absent')
    })

    it('though introspection is slow, but does not say so unasked', async () => {
      const { handle = {} } = await mint()
      const release = server.hold('introspection')
      await expect(provider.revoke(handle, 900)).rejects.toMatchObject({ kind: 'timeout' })
      expect(server.made()).toEqual([])
      release()
    })

    it.each([
      { status: 500 },
      { status: 404 },
      { status: 302, headers: { location: '/elsewhere' } },
      { status: 401, body: { error: 'invalid_client' } },
    ])('no token by the answer %j', async (answer) => {
      const { handle = {} } = await mint()
      server.instead('/token/revocation', answer)
      await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ name: 'ProviderError' })
      expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('alive')
      server.instead('/token/revocation', undefined)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    })

    it('without introspection, when nobody can tell whether there was one', async () => {
      const one = await open({ endpoints: endpoints() })
      const { handle = {} } = await mint(one)
      for (const _time of [1, 2]) expect(await one.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(server.made()).toEqual([])
      await expect(one.verify?.(handle, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'refused' })
    })

    it('no JWT at a server that cannot, and says how to mend it', async () => {
      const { handle = {} } = await mint(provider, params({ resource: API.jwt }))
      const error = await provider.revoke(handle, TIMEOUT_MS).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ kind: 'refused', message: expect.stringContaining('verification: signature') })
      expect(inspect(error, { depth: null, showHidden: true })).not.toContain(String(handle.token))
    })

    it.each([{}, { token: '' }, { token: 'a\r\nb' }, { token: 7 }, { fingerprint: 'x' }])('nothing for the handle %j', async (handle) => {
      await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'invalid' })
      expect(server.routes).toEqual([])
    })
  })

  describe('asks nobody but whom it was told', () => {
    it.each(['token_endpoint', 'revocation_endpoint', 'introspection_endpoint'])('when the metadata names another origin as %s', async (name) => {
      let asked = 0
      const other = createServer((_request, response) => {
        asked++
        response.end('{}')
      })
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
      const address = other.address()
      const port = typeof address === 'object' ? address?.port : 0
      const hostile = [`http://127.0.0.1:${port}/`, 'http://169.254.169.254/latest', 'https://evil.example/', 'file:///etc/passwd', '/token']
      for (const url of [...hostile, server.issuer.replace('127.0.0.1', 'user:pass@127.0.0.1'), server.issuer.replace('127.0.0.1', 'localhost')]) {
        server.instead(METADATA, { status: 200, body: { ...paths(), [name]: url } })
        await expect(mint(await open())).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('another origin') })
      }
      expect([asked, server.made().length]).toEqual([0, 0])
      await new Promise((resolve) => other.close(resolve))
    })

    it('when the metadata are of another issuer, or elsewhere', async () => {
      server.instead(METADATA, { status: 200, body: { ...paths(), issuer: 'https://evil.example' } })
      await expect(mint(await open())).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('another issuer') })
      server.instead(METADATA, { status: 302, headers: { location: `${server.issuer}/elsewhere` } })
      await expect(mint(await open())).rejects.toMatchObject({ kind: 'broken' })
      server.instead(METADATA, undefined)
      server.instead('/token', { status: 307, headers: { location: `${server.issuer}/elsewhere` } })
      await expect(mint()).rejects.toMatchObject({ kind: 'broken' })
    })
  })

  it.each<[number, string | undefined, string]>([
    [400, 'invalid_scope', 'refused'],
    [400, 'invalid_target', 'refused'],
    [400, 'invalid_grant', 'refused'],
    [400, 'unsupported_grant_type', 'refused'],
    [401, 'invalid_client', 'refused'],
    [400, 'temporarily_unavailable', 'throttled'],
    [400, 'constructor', 'broken'],
    [429, undefined, 'throttled'],
    [503, undefined, 'unreachable'],
    [502, undefined, 'unreachable'],
    [500, undefined, 'broken'],
    [200, undefined, 'broken'],
  ])('tells what %i %s means, and repeats nothing of it', async (status, error, kind) => {
    server.instead('/token', { status, body: { error, error_description: 'leaked-words' } })
    const thrown = await mint().catch((caught: unknown) => caught)
    expect(thrown).toMatchObject({ name: 'ProviderError', kind })
    expect(inspect(thrown, { depth: null, showHidden: true })).not.toContain('leaked-words')
  })

  it('finds that the server does not take its secret, without repeating it', async () => {
    const wrong = await open({ client_secret: 'wrong-secret' })
    const error = await wrong.check().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ kind: 'refused', message: expect.stringContaining('authentication') })
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain('wrong-secret')
    await provider.check()
    expect(server.made()).toEqual([])
  })

  it('refuses options that do not fit together', () => {
    const refused = (change: object) => expect({ change, ok: oauth2.options.safeParse(raw(change)).success }).toEqual({ change, ok: false })
    for (const issuer of [
      'http://as.example',
      'https://u:p@as.example',
      'https://as.example/?a',
      'https://as.example#',
      'ftp://as.example',
      'as.example',
      '',
    ])
      refused({ issuer })
    refused({ allow_http_loopback: false })
    refused({ endpoints: { token: 'http://as.example/token', revocation: 'https://as.example/revoke' } })
    refused({ endpoints: { token: 'https://as.example/token' } })
    refused({ endpoints: {} })
    refused({ client_secret: undefined })
    refused({ private_key: EC_KEY })
    refused({ client_auth: 'private_key_jwt' })
    refused({ client_auth: 'private_key_jwt', client_secret: undefined, private_key: EC_KEY.slice(0, 60) })
    refused({ client_auth: 'private_key_jwt', client_secret: undefined, private_key: EC_KEY, private_key_alg: 'PS256' })
    refused({ client_auth: 'none', client_secret: undefined })
    refused({ key_id: 'a' })
    refused({ verification: undefined })
    for (const max_token_life of ['0s', '25h', '1', 60, '-1s']) refused({ max_token_life })
    refused({ unknown: true })
    expect(oauth2.target(oauth2.options.parse(raw()))).toBe(`${server.issuer} mayfly`)
  })

  it('says which scopes narrow nothing', () => {
    const check = (scope: Parameters<typeof oauth2.checkRole>[1]) => oauth2.checkRole(params(), scope, oauth2.options.parse(raw()))
    expect(check({ scopes: 'set' })).toEqual([])
    expect(check({ scopes: 'path', resource: 'equal' })).toHaveLength(2)
  })
})
