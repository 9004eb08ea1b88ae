import { afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Identity } from '../../../src/identity/identity.js'
import { createIdentity } from '../../../src/identity/index.js'
import type { SpiffeIssuerOptions } from '../../../src/identity/options.js'
import { makeAuthority } from '../../support/certificates.js'
import { BundleEndpoint, type FakeTrustDomain, jwtEntry, newTrustDomain, x509Entry } from '../../support/trust-domain.js'
import { waitFor } from '../../support/wait.js'
import { bearer, type Clock, house, newSigner } from '../tokens.js'

const PATH = '/ns/team-a/sa/triage'
let prod: FakeTrustDomain
const closers: (() => unknown)[] = []

beforeAll(async () => {
  prod = await newTrustDomain('prod.example')
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function serve(bundle: unknown): Promise<BundleEndpoint> {
  const endpoint = await new BundleEndpoint(bundle).start()
  closers.push(() => endpoint.stop())
  return endpoint
}
function open(url: string, clock: Clock, more: Partial<SpiffeIssuerOptions> = {}): Identity {
  const mesh = { kind: 'spiffe', trustDomain: 'prod.example', audience: 'mayfly', bundle: { url }, allowHttpLoopback: true, ...more } as const
  const agents = [{ id: '{path_2}', match: { issuer: 'mesh', claims: { path: PATH } }, owner: 'o', autonomy: 'scripted' }] as const
  const identity = createIdentity({ issuers: { mesh }, agents }, house(clock))
  closers.push(() => identity.close())
  return identity
}
const outcome = (identity: Identity, token: string): Promise<string> =>
  identity.verify(bearer(token)).then(
    () => 'accepted',
    (error) => error.details?.internal ?? String(error),
  )
const life = { iat: Math.floor(Date.now() / 1000), exp: Math.floor(Date.now() / 1000) + 20_000 }

describe('a bundle endpoint', () => {
  it('is asked as often as its bundle says, within bounds', async () => {
    for (const [hint, seconds] of [
      [60, 60],
      [0, 30],
      [1_000_000, 1800],
      [undefined, 300],
    ] as const) {
      const clock = { at: Date.now() }
      const endpoint = await serve(prod.bundle({ spiffe_refresh_hint: hint }))
      const identity = open(endpoint.url, clock)
      const token = await prod.jwt(PATH, life)
      expect(await outcome(identity, token)).toBe('accepted')
      clock.at += 1000 * seconds - 1
      expect(await outcome(identity, token)).toBe('accepted')
      // Ours comes after one that the broker made.
      await fetch(endpoint.url)
      expect(endpoint.requests).toBe(2)
      clock.at += 1
      expect(await outcome(identity, token)).toBe('accepted')
      await waitFor('the refresh', () => endpoint.requests === 3)
    }
  })
  it('rotates its keys without an outage, also ahead of the next refresh', async () => {
    const clock = { at: Date.now() }
    const endpoint = await serve(prod.bundle())
    const identity = open(endpoint.url, clock)
    const old = await prod.jwt(PATH, life)
    expect(await outcome(identity, old)).toBe('accepted')
    const next = await newSigner()
    const renewed = { sub: `spiffe://prod.example${PATH}`, iss: undefined, nbf: undefined, ...life }
    endpoint.bundle = prod.bundle({ spiffe_sequence: 2, keys: [jwtEntry(prod.signer), jwtEntry(next), x509Entry(prod.authority)] })
    expect(await outcome(identity, await next.token(renewed))).toBe('accepted')
    expect(await outcome(identity, old)).toBe('accepted')
    endpoint.bundle = prod.bundle({ spiffe_sequence: 3, keys: [jwtEntry(next)] })
    clock.at += 300_000
    await outcome(identity, old)
    await waitFor('the withdrawal', () => identity.status()[0]?.keys === 1)
    expect(await outcome(identity, old)).toMatch(/no key of the issuer/)
    expect(await outcome(identity, await next.token(renewed))).toBe('accepted')
  })
  it('that gives out an older bundle is not believed: neither a withdrawn key comes back, nor does what is held grow stale unnoticed', async () => {
    const clock = { at: Date.now() }
    const [first, second] = [await newSigner(), await newSigner()]
    const bundleOf = (sequence: number | undefined, signer: typeof first) => ({ keys: [jwtEntry(signer)], spiffe_sequence: sequence })
    const endpoint = await serve(bundleOf(8, second))
    const identity = open(endpoint.url, clock)
    const claims = { sub: `spiffe://prod.example${PATH}`, iss: undefined, nbf: undefined, ...life }
    const [withdrawn, good] = [await first.token(claims), await second.token(claims)]
    expect(await outcome(identity, good)).toBe('accepted')
    endpoint.bundle = bundleOf(7, first)
    expect(await outcome(identity, withdrawn)).toMatch(/no key that is known of the issuer/)
    expect(identity.status()[0]).toMatchObject({ state: 'stale', error: expect.stringMatching(/sequence 7, and 8 was seen before/) })
    expect(await outcome(identity, good)).toBe('accepted')
    clock.at += 3_600_001
    expect(await outcome(identity, good)).toMatch(/older than the stale limit/)
    endpoint.bundle = bundleOf(9, second)
    clock.at += 10_000
    expect(await outcome(identity, good)).toBe('accepted')
    // The same number again, or none, is the publisher's word.
    endpoint.bundle = bundleOf(undefined, first)
    clock.at += 300_000
    await outcome(identity, good)
    await waitFor('the new bundle', () => outcome(identity, withdrawn).then((what) => what === 'accepted'))
  })
  it('without keys, or with none of a use that is known, has withdrawn its trust domain', async () => {
    for (const keys of [[], [prod.signer.jwk, { kty: 'OKP', use: 'wit-svid' }, null, 'x']]) {
      const clock = { at: Date.now() }
      const endpoint = await serve(prod.bundle())
      const identity = open(endpoint.url, clock)
      const token = await prod.jwt(PATH, life)
      expect(await outcome(identity, token)).toBe('accepted')
      endpoint.bundle = { keys }
      clock.at += 300_000
      await outcome(identity, token)
      await waitFor('the withdrawal', () => identity.status()[0]?.state === 'down')
      expect(await outcome(identity, token)).toMatch(/no key of the issuer/)
      expect(identity.status()[0]).toMatchObject({ keys: 0, authorities: 0, error: expect.stringContaining(`(${keys.length} ignored)`) })
    }
  })
  it('that is down serves from memory up to the stale limit', async () => {
    const clock = { at: Date.now() }
    const endpoint = await serve(prod.bundle())
    const identity = open(endpoint.url, clock)
    const token = await prod.jwt(PATH, life)
    expect(await outcome(identity, token)).toBe('accepted')
    endpoint.bundle = undefined
    clock.at += 3_600_000
    expect(await outcome(identity, token)).toBe('accepted')
    clock.at += 1
    expect(await outcome(identity, token)).toMatch(/older than the stale limit/)
  })
  it.each<[string, unknown]>([
    ['a list', []],
    ['no bundle', { keys: 'x' }],
    ['a sequence that is no number', { keys: [], spiffe_sequence: 'x' }],
  ])('that answers with %s is in error, and named in it', async (_what, bundle) => {
    const endpoint = await serve(bundle)
    const identity = open(endpoint.url, { at: Date.now() })
    expect(await outcome(identity, await prod.jwt(PATH))).toMatch(/cannot be reached/)
    expect(identity.status()[0]).toMatchObject({ state: 'down', error: expect.stringContaining(endpoint.url) })
  })
  it('is taken over by the configuration after this one, if that says the same of it: also while it is down, and with the number that it had', async () => {
    const clock = { at: Date.now() }
    const endpoint = await serve(prod.bundle({ spiffe_sequence: 8 }))
    const mesh = { kind: 'spiffe', trustDomain: 'prod.example', audience: 'mayfly', bundle: { url: endpoint.url }, allowHttpLoopback: true } as const
    const agents = [{ id: '{path_2}', match: { issuer: 'mesh', claims: { path: PATH } }, owner: 'o', autonomy: 'scripted' }] as const
    const before = createIdentity({ issuers: { mesh }, agents }, house(clock))
    const token = await prod.jwt(PATH, life)
    expect(await outcome(before, token)).toBe('accepted')
    let heard = ''
    before.onAuthorities(() => {
      heard += 'before '
    })
    endpoint.bundle = undefined

    const wrong = [{ ...agents[0], match: { issuer: 'gone', claims: {} } }]
    expect(() => createIdentity({ issuers: { mesh }, agents: wrong }, house(clock), before)).toThrow(/no such issuer/)
    const failed = createIdentity({ issuers: { mesh }, agents }, house(clock), before)
    await failed.close()
    await failed.close()
    const after = createIdentity({ issuers: { mesh: { ...mesh } }, agents }, house(clock), before)
    closers.push(() => after.close())
    after.onAuthorities(() => {
      heard += 'after '
    })
    await before.close()
    expect(await outcome(after, token)).toBe('accepted')
    expect([endpoint.requests, after.authorities('mesh')]).toEqual([1, [prod.authority.pem]])
    // It is asked again by the one that took it over, and the older bundle is still known for what it is.
    endpoint.bundle = prod.bundle({ spiffe_sequence: 7 })
    clock.at += 300_000
    await outcome(after, token)
    await waitFor('the refusal', () => after.status()[0]?.error?.includes('8 was seen before'))
    endpoint.bundle = { keys: [jwtEntry(prod.signer)], spiffe_sequence: 9 }
    clock.at += 300_000
    await outcome(after, token)
    await waitFor('the new bundle', () => after.status()[0]?.authorities === 0)
    expect(heard).toBe('after ')

    const changed = createIdentity({ issuers: { mesh: { ...mesh, staleLimitSeconds: 60 } }, agents }, house(clock), after)
    closers.push(() => changed.close())
    expect(changed.status()[0]).toMatchObject({ state: 'down', keys: 0 })
  })
  it('counts keys and authorities apart', async () => {
    const second = makeAuthority('second')
    const keys = [jwtEntry(prod.signer), x509Entry(prod.authority), x509Entry(second), x509Entry(second)]
    const endpoint = await serve(prod.bundle({ keys }))
    const identity = open(endpoint.url, { at: Date.now() })
    expect(await outcome(identity, await prod.jwt(PATH))).toBe('accepted')
    expect(identity.status()).toEqual([{ name: 'mesh', state: 'ready', keys: 1, authorities: 2, fetchedAt: expect.any(Number), error: undefined }])
  })
  it.each(['http://prod.example/bundle', 'https://u:p@prod.example/bundle', 'bundle.json', 'https://prod.example/#x'])('is not at %s', (url) => {
    expect(() => open(url, { at: Date.now() }, { allowHttpLoopback: false })).toThrow(/^issuers\.mesh\.bundle: /)
  })
})
