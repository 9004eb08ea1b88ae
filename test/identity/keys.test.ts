import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import type { Identity } from '../../src/identity/identity.js'
import { createIdentity } from '../../src/identity/index.js'
import type { OidcIssuerOptions } from '../../src/identity/options.js'
import { startOidc } from '../support/oidc.js'
import { waitFor } from '../support/wait.js'
import { bearer, type Clock, goodClaims, house, newSigner, rawToken, type Signer, START } from './tokens.js'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function open(url: string, clock: Clock, options: Partial<OidcIssuerOptions> = {}): Identity {
  const identity = createIdentity(
    {
      issuers: { idp: { kind: 'oidc', url, audience: 'mayfly', typ: ['at+jwt'], allowHttpLoopback: true, staleLimitSeconds: 3600, ...options } },
      agents: [{ id: 'agents/{sub}', match: { issuer: 'idp', claims: {} }, owner: 'sre@example.com', autonomy: 'scripted' }],
    },
    house(clock),
  )
  closers.push(() => identity.close())
  return identity
}
const outcome = (identity: Identity, token: string): Promise<string> =>
  identity.verify(bearer(token)).then(
    () => 'accepted',
    (error) => error.details?.internal ?? String(error),
  )

/** An issuer of a few lines, whose key set a test holds in its hands. */
class KeyServer {
  keys: unknown[] | undefined
  requests = 0
  readonly #server: Server
  constructor(keys: unknown[]) {
    this.keys = keys
    this.#server = createServer((request, response) => {
      if (request.url === '/.well-known/openid-configuration') return response.end(JSON.stringify({ issuer: this.url, jwks_uri: `${this.url}/keys` }))
      this.requests++
      if (this.keys === undefined) return response.writeHead(500).end()
      return response.end(JSON.stringify({ keys: this.keys }))
    })
  }
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }
  async start(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, '127.0.0.1', listening))
    closers.push(() => this.#server.close())
    return this
  }
}
const serve = (...keys: unknown[]) => new KeyServer(keys).start()
const tokenOf = (signer: Signer, server: KeyServer, kid: string | null = signer.kid, sub = 'worker-1') =>
  rawToken(
    { alg: 'ES256', ...(kid === null ? {} : { kid }) },
    { ...goodClaims(), exp: START / 1000 + 20_000, iss: server.url, sub },
    signer.privateKey,
  )

describe('keys rotate without an outage', () => {
  it('of a real oidc-provider: the first token of the new key is accepted, and the old ones stop when their key is withdrawn', async () => {
    const clock = { at: Date.now() }
    const oidc = await startOidc({ clients: [{ id: 'worker' }] })
    closers.push(() => oidc.stop())
    const identity = open(oidc.issuer, clock)
    const first = await oidc.token('worker')
    expect(await outcome(identity, first)).toBe('accepted')
    await oidc.rotateKeys({ keepOld: true })
    const second = await oidc.token('worker')
    expect(await outcome(identity, second)).toBe('accepted')
    expect(await outcome(identity, first)).toBe('accepted')
    expect(identity.cache.hits).toBe(1)

    await oidc.rotateKeys()
    clock.at += 10_000
    expect(await outcome(identity, await oidc.token('worker'))).toBe('accepted')
    for (const token of [first, second]) expect(await outcome(identity, token)).toMatch(/no key of the issuer has this "kid"/)
  })
  it('in the background: a withdrawn key stops, cached tokens too, without any unknown kid', async () => {
    const clock = { at: START }
    const [kept, withdrawn] = [await newSigner(), await newSigner()]
    const server = await serve(kept.jwk, withdrawn.jwk)
    const identity = open(server.url, clock)
    const token = tokenOf(withdrawn, server)
    const other = tokenOf(kept, server)
    for (const good of [token, other]) expect(await outcome(identity, good)).toBe('accepted')
    server.keys = [kept.jwk]
    clock.at += 300_000
    await identity.verify(bearer(other))
    await waitFor('the refresh', () => identity.status()[0]?.keys === 1)
    expect(await outcome(identity, token)).toMatch(/no key of the issuer has this "kid"/)
    expect(await outcome(identity, other)).toBe('accepted')
    expect(identity.cache.hits).toBe(2)
  })
  it('also where the issuer gives the new key the old kid, or none', async () => {
    for (const kid of ['same', null]) {
      const clock = { at: START }
      const [old, next] = [await newSigner(), await newSigner()]
      const server = await serve({ ...old.jwk, kid: kid ?? undefined })
      const identity = open(server.url, clock)
      expect(await outcome(identity, tokenOf(old, server, kid))).toBe('accepted')
      server.keys = [{ ...next.jwk, kid: kid ?? undefined }]
      expect(await outcome(identity, tokenOf(next, server, kid))).toBe('accepted')
      expect(await outcome(identity, tokenOf(old, server, kid))).toMatch(/signature does not verify/)
    }
  })
  it('the issuer that withdraws all its keys is obeyed', async () => {
    const clock = { at: START }
    const signer = await newSigner()
    const server = await serve(signer.jwk)
    const identity = open(server.url, clock)
    const token = tokenOf(signer, server)
    expect(await outcome(identity, token)).toBe('accepted')
    server.keys = []
    clock.at += 300_000
    await identity.verify(bearer(token))
    await waitFor('the refresh', () => identity.status()[0]?.state === 'down')
    expect(await outcome(identity, token)).toMatch(/no key of the issuer/)
    expect(identity.status()[0]?.error).toMatch(/no usable key/)
  })
})

describe('an issuer that is down', () => {
  it('serves from memory up to the stale limit, is refused after it, and comes back by itself', async () => {
    const clock = { at: START }
    const signer = await newSigner()
    const server = await serve(signer.jwk)
    const identity = open(server.url, clock)
    const token = tokenOf(signer, server)
    expect(await outcome(identity, token)).toBe('accepted')
    server.keys = undefined
    clock.at += 3_600_000
    expect(await outcome(identity, token)).toBe('accepted')
    expect(await outcome(identity, tokenOf(signer, server, signer.kid, 'worker-2'))).toBe('accepted')
    await waitFor('the failed refresh', () => identity.status()[0]?.state === 'stale')
    expect(identity.status()[0]).toMatchObject({ keys: 1, fetchedAt: START, error: expect.stringMatching(/answered 500/) })

    clock.at += 1
    expect(await outcome(identity, token)).toMatch(/cannot be reached, and its keys are missing or older than the stale limit/)
    await expect(identity.verify(bearer(token))).rejects.toMatchObject({
      code: 'issuer_unavailable',
      status: 503,
      details: { retryAfterSeconds: 10 },
    })
    expect(identity.status()[0]).toMatchObject({ state: 'down' })
    server.keys = [signer.jwk]
    clock.at += 10_000
    expect(await outcome(identity, token)).toBe('accepted')
    expect(identity.status()[0]).toMatchObject({ state: 'ready', error: undefined })
  })
  it('from the start refuses, and is asked at most once per cool-down', async () => {
    const clock = { at: START }
    const signer = await newSigner()
    const server = await serve()
    server.keys = undefined
    const identity = open(server.url, clock)
    const token = tokenOf(signer, server)
    for (let round = 0; round < 20; round++) expect(await outcome(identity, token)).toMatch(/cannot be reached/)
    expect(server.requests).toBe(1)
    server.keys = [signer.jwk]
    clock.at += 10_000
    expect(await outcome(identity, token)).toBe('accepted')
  })
  it('or whose discovery document names another one by a slash, is down with the reason in the status', async () => {
    const signer = await newSigner()
    const server = await serve(signer.jwk)
    const identity = open(`${server.url}/`, { at: START })
    const reason = await waitFor('the reason', () => identity.status()[0]?.error)
    expect(reason).toMatch(/names another issuer than the configured url/)
    expect(server.requests).toBe(0)
  })
})

describe('unknown kids', () => {
  it('by the thousand, one after another and at once, cause at most one refetch per cool-down', async () => {
    const clock = { at: START }
    const signer = await newSigner()
    const server = await serve(signer.jwk)
    const identity = open(server.url, clock)
    expect(await outcome(identity, tokenOf(signer, server))).toBe('accepted')
    expect(server.requests).toBe(1)
    const flood = async (round: number) => {
      await Promise.all(Array.from({ length: 200 }, (_, index) => outcome(identity, tokenOf(signer, server, `unknown-${round}-${index}`))))
      for (let index = 0; index < 50; index++) await outcome(identity, tokenOf(signer, server, `late-${round}-${index}`))
    }
    await flood(1)
    expect(server.requests).toBe(2)
    clock.at += 9_999
    await flood(2)
    expect(server.requests).toBe(2)
    clock.at += 1
    await flood(3)
    expect(server.requests).toBe(3)
  })
  it('during a flood of them a new key is still found after the cool-down', async () => {
    const clock = { at: START }
    const [old, next] = [await newSigner(), await newSigner()]
    const server = await serve(old.jwk)
    const identity = open(server.url, clock)
    await outcome(identity, tokenOf(old, server, 'unknown'))
    server.keys = [old.jwk, next.jwk]
    expect(await outcome(identity, tokenOf(next, server))).toMatch(/no key/)
    clock.at += 10_000
    expect(await outcome(identity, tokenOf(next, server))).toBe('accepted')
  })
})

describe('a key set', () => {
  it('is used without its keys of other use, other type, or ours to refuse', async () => {
    const signer = await newSigner()
    const others = [
      { ...(await newSigner()).jwk, use: 'enc' },
      { ...(await newSigner()).jwk, key_ops: ['sign'] },
      { ...(await newSigner()).jwk, alg: 'ES256K' },
      { ...(await newSigner('RS256')).jwk, alg: 'RSA-OAEP' },
      { ...(await newSigner()).privateKey.export({ format: 'jwk' }), kid: 'private' },
      { ...(await newSigner()).jwk, x: 'AAAA' },
      { ...(await newSigner()).jwk, kid: 7 },
      { kty: 'oct', k: 'c2VjcmV0', alg: 'HS256', kid: 'mac' },
      { kty: 'OKP', crv: 'X25519', x: 'AAAA' },
      null,
      'key',
    ]
    const server = await serve(...others, signer.jwk)
    const identity = open(server.url, { at: START })
    expect(await outcome(identity, tokenOf(signer, server))).toBe('accepted')
    expect(identity.status()[0]?.keys).toBe(1)
  })
  it('with one kid for two keys of an algorithm, or no kid among several, is ambiguous', async () => {
    const [one, two] = [await newSigner(), await newSigner()]
    const server = await serve({ ...one.jwk, kid: 'k' }, { ...two.jwk, kid: 'k' })
    const identity = open(server.url, { at: START })
    expect(await outcome(identity, tokenOf(one, server, 'k'))).toMatch(/names several keys/)
    const headless = rawToken({ alg: 'ES256' }, { ...goodClaims(), iss: server.url }, one.privateKey)
    expect(await outcome(identity, headless)).toMatch(/has no "kid" and its issuer has several keys/)
  })
  it('of over a hundred keys is refused', async () => {
    const { jwk } = await newSigner()
    const server = await serve(...Array.from({ length: 101 }, (_, index) => ({ ...jwk, kid: `k${index}` })))
    const identity = open(server.url, { at: START })
    await waitFor('the reason', () => identity.status()[0]?.error)
    expect(identity.status()[0]?.error).toMatch(/over 100 keys/)
  })
})
