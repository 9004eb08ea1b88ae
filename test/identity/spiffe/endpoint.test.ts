import { afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Identity } from '../../../src/identity/identity.js'
import { createIdentity } from '../../../src/identity/index.js'
import { type Made, makeAuthority, makeCertificate, makeSvid, SERVER_AUTH } from '../../support/certificates.js'
import { BundleEndpoint, type FakeTrustDomain, newTrustDomain, x509Entry } from '../../support/trust-domain.js'
import { waitFor } from '../../support/wait.js'
import { bearer, type Clock, house } from '../tokens.js'

const PATH = '/ns/team-a/sa/triage'
const SERVER = '/spire/server'
let prod: FakeTrustDomain
let partner: FakeTrustDomain
const closers: (() => unknown)[] = []
beforeAll(async () => {
  ;[prod, partner] = await Promise.all([newTrustDomain('prod.example'), newTrustDomain('partner.example')])
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function serve(certificate: Made): Promise<BundleEndpoint> {
  const endpoint = await new BundleEndpoint(prod.bundle(), certificate).start()
  closers.push(() => endpoint.stop())
  return endpoint
}
interface Opening {
  readonly clock?: Clock
  readonly spiffeId?: string
  readonly bootstrap?: object
}
function open(
  url: string,
  { clock = { at: Date.now() }, spiffeId = `spiffe://prod.example${SERVER}`, bootstrap = prod.bundle() }: Opening = {},
): Identity {
  const bundle = { url, endpoint: { spiffeId, bootstrap } }
  const mesh = { kind: 'spiffe', trustDomain: 'prod.example', audience: 'mayfly', bundle, allowPrivateAddresses: true } as const
  const agents = [{ id: '{path_2}', match: { issuer: 'mesh', claims: { path: PATH } }, owner: 'o', autonomy: 'scripted' }] as const
  const identity = createIdentity({ issuers: { mesh }, agents }, house(clock))
  closers.push(() => identity.close())
  return identity
}
const life = { iat: Math.floor(Date.now() / 1000), exp: Math.floor(Date.now() / 1000) + 20_000 }
/** What came of asking the endpoint. */
async function outcome(identity: Identity): Promise<string> {
  await identity.verify(bearer(await prod.jwt(PATH, life))).catch(() => undefined)
  return identity.status()[0]?.error ?? 'accepted'
}

describe('a bundle endpoint that is a workload itself (https_spiffe)', () => {
  it('is known by its SVID, whatever name it is asked at', async () => {
    const { url } = await serve(prod.svid(SERVER))
    expect(await outcome(open(url))).toBe('accepted')
    expect(await outcome(open(url.replace('127.0.0.1', 'localhost')))).toBe('accepted')
  })
  it.each<[string, () => Made, RegExp]>([
    ['another workload', () => prod.svid('/ns/team-a/sa/other'), /another workload than the one configured/],
    ['one below it', () => prod.svid(`${SERVER}/x`), /another workload/],
    [
      'an SVID of its trust domain by another authority',
      () => makeSvid(`spiffe://prod.example${SERVER}`, partner.authority),
      /self-signed|verify|issuer/i,
    ],
    ['an SVID of another trust domain', () => partner.svid(SERVER), /self-signed|verify|issuer/i],
    ['the same path in another trust domain', () => makeSvid(`spiffe://partner.example${SERVER}`, prod.authority), /another workload/],
    ['two URIs', () => prod.svid(SERVER, { uris: [`spiffe://prod.example${SERVER}`, 'spiffe://prod.example/x'] }), /no X\.509-SVID: .* or several/],
    [
      'the certificate of a web server',
      () => makeCertificate({ dns: ['localhost'], extendedUsage: [SERVER_AUTH], usage: 1 }, prod.authority),
      /no X\.509-SVID/,
    ],
    ['an expired SVID', () => prod.svid(SERVER, { notAfter: Date.now() - 5_000 }), /expired/],
    ['an SVID for clients alone', () => prod.svid(SERVER, { extendedUsage: ['1.3.6.1.5.5.7.3.2'] }), /purpose/],
  ])('is not believed with %s', async (_what, certificate, why) => {
    const { url } = await serve(certificate())
    const identity = open(url)
    expect(await outcome(identity)).toMatch(why)
    expect(identity.status()[0]).toMatchObject({ state: 'down', keys: 0 })
  })
  it('is verified by the bundle that it gave last, and no longer by the first', async () => {
    const clock = { at: Date.now() }
    const next = makeAuthority('next authority')
    const endpoint = await serve(prod.svid(SERVER))
    const identity = open(endpoint.url, { clock })
    const turn = async () => {
      clock.at += 300_000
      await outcome(identity)
    }
    const held = () => identity.status()[0]
    endpoint.bundle = prod.bundle({ spiffe_sequence: 2, keys: [...prod.bundle().keys, x509Entry(next)] })
    await outcome(identity)
    await waitFor('both authorities', () => held()?.authorities === 2)
    endpoint.show(makeSvid(`spiffe://prod.example${SERVER}`, next))
    endpoint.bundle = prod.bundle({ spiffe_sequence: 3, keys: [prod.bundle().keys[0], x509Entry(next)] })
    await turn()
    await waitFor('the new authority alone', () => held()?.authorities === 1)
    endpoint.show(prod.svid(SERVER))
    await turn()
    await waitFor('the old authority to be refused', () => held()?.state === 'stale')
    endpoint.show(makeSvid(`spiffe://prod.example${SERVER}`, next))
    clock.at += 10_000
    await turn()
    await waitFor('the new authority', () => held()?.state === 'ready')
  })
  it.each<[string, string, Opening, RegExp]>([
    ['over plain HTTP', 'http://127.0.0.1:1/bundle', {}, /must be https/],
    ['by no SPIFFE ID', 'https://127.0.0.1:1', { spiffeId: 'spiffe://prod.example' }, /names a trust domain/],
    ['of another trust domain', 'https://127.0.0.1:1', { spiffeId: 'spiffe://partner.example/x' }, /of another trust domain/],
    ['with nothing to begin with', 'https://127.0.0.1:1', { bootstrap: { keys: [] } }, /no X\.509 authority/],
  ])('is an error %s', (_what, url, more, why) => {
    expect(() => open(url, more)).toThrow(/^issuers\.mesh\.bundle: /)
    expect(() => open(url, more)).toThrow(why)
  })
})
