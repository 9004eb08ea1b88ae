import { afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { MayflyError } from '../../../src/errors.js'
import type { PeerCertificate } from '../../../src/identity/certificate.js'
import type { Identity } from '../../../src/identity/identity.js'
import { createIdentity } from '../../../src/identity/index.js'
import type { AgentRule, SpiffeIssuerOptions } from '../../../src/identity/options.js'
import {
  type CertificateShape,
  cRLSign,
  digitalSignature,
  keyCertSign,
  keyEncipherment,
  type Made,
  makeAuthority,
  makeSvid,
  nonRepudiation,
} from '../../support/certificates.js'
import { type FakeTrustDomain, newTrustDomain } from '../../support/trust-domain.js'
import { bearer, type Clock, house, newSigner } from '../tokens.js'

const PATH = '/ns/team-a/sa/triage'
const ID = `spiffe://prod.example${PATH}`
const HOUR_MS = 3_600_000
const RULE: AgentRule = { id: '{path_2}', match: { issuer: 'mesh', claims: { path: '/ns/*/sa/triage' } }, owner: 'o', autonomy: 'scripted' }
let prod: FakeTrustDomain
let partner: FakeTrustDomain
const opened: Identity[] = []

beforeAll(async () => {
  ;[prod, partner] = await Promise.all([newTrustDomain('prod.example'), newTrustDomain('partner.example')])
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((identity) => identity.close()))
})

function open(more: Partial<SpiffeIssuerOptions> = {}, clock: Clock = { at: Date.now() }, agents: AgentRule[] = [RULE]): Identity {
  const mesh = { kind: 'spiffe', trustDomain: 'prod.example', bundle: { jwks: prod.bundle() }, ...more } as const
  const other = { kind: 'spiffe', trustDomain: 'partner.example', audience: 'mayfly', bundle: { jwks: partner.bundle() } } as const
  const sso = { kind: 'jwks', keys: { keys: [prod.signer.jwk] }, issuer: 'https://sso.example', audience: 'mayfly' } as const
  const identity = createIdentity({ issuers: { mesh, partner: other, sso }, agents }, house(clock))
  opened.push(identity)
  return identity
}
const shown = (chain: readonly Pick<Made, 'der'>[], issuer = 'mesh'): PeerCertificate => ({ issuer, chain: chain.map(({ der }) => der) })
const who = (identity: Identity, peer: PeerCertificate, authorization?: string): Promise<string> =>
  identity.verify(authorization, peer).then(
    ({ id }) => id,
    (error) => {
      if (!(error instanceof MayflyError) || error.status !== 401) throw error
      return error.details.internal ?? error.code
    },
  )

describe('an X.509-SVID', () => {
  it('has the life of its certificate, and a fingerprint of its own', async () => {
    const at = Math.floor(Date.now() / 1000) * 1000
    const svid = prod.svid(PATH, { notBefore: at - 10_000, notAfter: at + HOUR_MS / 2 })
    const principal = await open().verify(undefined, shown([svid]))
    expect(principal).toMatchObject({
      kind: 'agent',
      id: 'team-a',
      issuer: 'mesh',
      subject: ID,
      owner: 'o',
      autonomy: 'scripted',
      labels: [],
      tokenFingerprint: expect.stringMatching(/^[\w-]{16}$/),
      tokenIssuedAt: at - 10_000,
      tokenExpiresAt: at + HOUR_MS / 2,
    })
    const other = await open().verify(undefined, shown([prod.svid(PATH)]))
    expect(other.tokenFingerprint).not.toBe(principal.tokenFingerprint)
    expect(Object.isFrozen(principal)).toBe(true)
  })
  it.each<[string, CertificateShape]>([
    ['a DNS name beside its URI', { dns: ['triage.team-a.svc'] }],
    ['more uses of its key', { usage: digitalSignature | keyEncipherment | nonRepudiation }],
    ['no basic constraints', { ca: undefined }],
    ['no extended usage', { extendedUsage: undefined }],
    ['a subject', { commonName: 'triage' }],
  ])('may have %s', async (_what, shape) => {
    expect(await who(open(), shown([prod.svid(PATH, shape)]))).toBe('team-a')
  })
  it.each<[string, CertificateShape, RegExp]>([
    ['two URIs', { uris: [ID, 'spiffe://prod.example/other'] }, /no URI .*, or several/],
    ['its URI twice', { uris: [ID, ID] }, /no URI .*, or several/],
    ['a URI of another kind beside it', { uris: [ID, 'https://prod.example'] }, /no URI .*, or several/],
    ['no names', { uris: [] }, /no URI .*, or several/],
    ['a DNS name alone', { uris: [], dns: ['triage'] }, /no URI .*, or several/],
    ['its names in two extensions', { twice: true }, /an extension .* is repeated/],
    ['an upper-case trust domain', { uris: [`spiffe://PROD.example${PATH}`] }, /no SPIFFE ID/],
    ['an upper-case scheme', { uris: [`SPIFFE://prod.example${PATH}`] }, /no SPIFFE ID/],
    ['a trust domain without path', { uris: ['spiffe://prod.example'] }, /names a trust domain, and no workload/],
    ['a slash for a path', { uris: ['spiffe://prod.example/'] }, /empty segment/],
    ['a slash at its end', { uris: [`${ID}/`] }, /empty segment/],
    ['percent-encoding', { uris: ['spiffe://prod.example/ns/team-a/sa/%74riage'] }, /no SPIFFE ID/],
    ['dots', { uris: ['spiffe://prod.example/ns/x/../team-a/sa/triage'] }, /no SPIFFE ID/],
    ['a port', { uris: [`spiffe://prod.example:443${PATH}`] }, /no SPIFFE ID/],
    ['a user', { uris: [`spiffe://me@prod.example${PATH}`] }, /no SPIFFE ID/],
    ['a query', { uris: [`${ID}?x`] }, /no SPIFFE ID/],
    ['2049 bytes', { uris: [`spiffe://prod.example/${'a'.repeat(2048 - 21)}`] }, /over 2048 bytes/],
    ['another trust domain', { uris: [`spiffe://partner.example${PATH}`] }, /not of trust domain prod.example/],
    ['a URL', { uris: ['https://prod.example/ns/team-a/sa/triage'] }, /no SPIFFE ID/],
    ['the flag of an authority', { ca: true }, /of an authority/],
    ['keyCertSign', { usage: digitalSignature | keyCertSign }, /key usage is that of an authority/],
    ['cRLSign', { usage: digitalSignature | cRLSign }, /key usage is that of an authority/],
    ['no key usage', { usage: undefined }, /does not include digitalSignature/],
    ['a key that signs nothing', { usage: keyEncipherment }, /does not include digitalSignature/],
    ['a life over the cap', { notAfter: Date.now() + 25 * HOUR_MS }, /longer than the cap/],
  ])('is refused with %s', async (_what, shape, why) => {
    expect(await who(open(), shown([prod.svid(PATH, shape)]))).toMatch(why)
  })
  it.each<[string, () => readonly Pick<Made, 'der'>[], RegExp]>([
    ['by the authority of another trust domain', () => [makeSvid(ID, partner.authority), partner.authority], /does not lead to/],
    ['by an authority of the same name', () => [makeSvid(ID, namesake()), namesake()], /does not lead to/],
    ['by a leaf', () => byLeaf(), /does not lead to/],
    ['through an authority that the chain lacks', () => [makeSvid(ID, makeAuthority('between', {}, prod.authority))], /does not lead to/],
    ['through what is no authority and says nothing of its use', () => through({ ca: false, usage: undefined }), /does not lead to/],
    ['through an expired authority', () => through({ notAfter: Date.now() - 1_000 }), /has expired/],
    ['through an authority of tomorrow', () => through({ notBefore: Date.now() + HOUR_MS }), /not valid yet/],
    ['through too many', () => tall(10), /does not lead to/],
    ['with junk', () => [{ der: Buffer.from('junk') }], /cannot be read/],
    ['with an empty chain', () => [], /no certificate/],
    ['with junk above it', () => [prod.svid(PATH), { der: Buffer.from('junk') }], /cannot be read/],
  ])('is refused: signed %s', async (_what, chain, why) => {
    expect(await who(open(), shown(chain()))).toMatch(why)
  })
  it('may be signed through others, in whatever order they came', async () => {
    const chain = tall(3)
    expect(await who(open(), shown(chain))).toBe('team-a')
    expect(await who(open(), shown([...chain.slice(0, 1), ...chain.slice(1).toReversed(), partner.authority]))).toBe('team-a')
  })
  it('is taken until it ends, and no later, whatever was found before', async () => {
    const clock = { at: Date.now() }
    const identity = open({}, clock)
    const end = Math.floor(clock.at / 1000) * 1000 + 60_000
    const peer = shown([prod.svid(PATH, { notAfter: end })])
    for (const [at, what] of [
      [clock.at, 'team-a'],
      [end - 1, 'team-a'],
      [end, 'the certificate, or one above it, has expired'],
    ] as const) {
      clock.at = at
      expect(await who(identity, peer)).toBe(what)
    }
    // Where one above it ends earlier, that is its end.
    const above = makeAuthority('between', { notAfter: end + 60_000 }, prod.authority)
    expect(await identity.verify(undefined, shown([makeSvid(ID, above), above]))).toMatchObject({ tokenExpiresAt: end + 60_000 })
  })
  it('of a key of the bundle that is for JWT-SVIDs is none', async () => {
    const { privateKey } = prod.signer
    const disguised = { ...prod.authority, privateKey }
    expect(await who(open(), shown([makeSvid(ID, disguised)]))).toMatch(/does not lead to/)
    const withChain = { ...(prod.bundle().keys[0] as object), x5c: [partner.authority.der.toString('base64')] }
    expect(await who(open({ bundle: { jwks: { keys: [withChain] } } }), shown([makeSvid(ID, partner.authority)]))).toMatch(/no X.509 authorities/)
  })
  it('is of the trust domain that its listener asks for, which is there and is one', async () => {
    const identity = open()
    expect(await who(identity, shown([partner.svid(PATH)], 'partner'))).toMatch(/^no agent/)
    expect(await who(identity, shown([prod.svid(PATH)], 'partner'))).toMatch(/not of trust domain partner.example/)
    for (const name of ['sso', 'gone', '__proto__']) expect(await who(identity, shown([prod.svid(PATH)], name))).toMatch(/there is no trust domain/)
  })
  it('was verified by the handshake, or is none', async () => {
    const peer = { ...shown([prod.svid(PATH)]), refused: 'CERT_REVOKED' }
    expect(await who(open(), peer)).toBe('the certificate was not verified: CERT_REVOKED')
  })
  it('may be told from a token by rules', async () => {
    const rule = (svid: string): AgentRule => ({ ...RULE, id: `by-${svid}`, match: { issuer: 'mesh', claims: { path: PATH, svid } } })
    const identity = open({ audience: 'mayfly' }, undefined, [rule('x509'), rule('jwt')])
    expect(await who(identity, shown([prod.svid(PATH)]))).toBe('by-x509')
    expect((await identity.verify(bearer(await prod.jwt(PATH)))).id).toBe('by-jwt')
    // One workload, and yet two agents by these rules: not both at once.
    expect(await who(identity, shown([prod.svid(PATH)]), bearer(await prod.jwt(PATH)))).toMatch(/somebody else than the token/)
  })
  it('beside a token must be the same copy of the same agent', async () => {
    const pods: AgentRule = { ...RULE, id: 'triage', match: { issuer: 'mesh', claims: { path: `${PATH}/pod/*` } }, instance: 'path_6' }
    const identity = open({ audience: 'mayfly' }, undefined, [pods])
    const token = bearer(await prod.jwt(`${PATH}/pod/a`))
    expect(await who(identity, shown([prod.svid(`${PATH}/pod/a`)]), token)).toBe('triage')
    expect(await who(identity, shown([prod.svid(`${PATH}/pod/b`)]), token)).toMatch(/somebody else than the token/)
    expect(await who(identity, shown([prod.svid('/gateway')]), token)).toBe('triage')
  })
})

it('no certificate is taken beyond the end of the authority of the bundle', async () => {
  const clock = { at: Date.now() }
  const end = Math.floor(clock.at / 1000) * 1000 + 60_000
  const authority = makeAuthority('ends soon', { notAfter: end })
  const identity = open({ bundle: { pem: authority.pem } }, clock)
  const peer = shown([makeSvid(ID, authority)])
  expect(await identity.verify(undefined, peer)).toMatchObject({ tokenExpiresAt: end })
  clock.at = end
  expect(await who(identity, peer)).toMatch(/has expired/)
})

it('an authority that was renewed with its key signs what both its certificates vouch for, until the last of them ends', async () => {
  const clock = { at: Date.now() }
  const end = Math.floor(clock.at / 1000) * 1000 + 60_000
  const old = makeAuthority('renewed', { notAfter: end })
  const renewed = makeAuthority('renewed', { notAfter: end + HOUR_MS, renews: old })
  const peer = shown([makeSvid(ID, old, { notAfter: end + 60_000 })])
  for (const pem of [old.pem + renewed.pem, renewed.pem + old.pem]) {
    clock.at = end - 1
    const identity = open({ bundle: { pem } }, clock)
    expect(await who(identity, peer)).toBe('team-a')
    clock.at = end
    expect(await who(identity, peer)).toBe('team-a')
    clock.at = end + 60_000
    expect(await who(identity, peer)).toMatch(/has expired/)
  }
})

it('authorities are told as PEM, and after each change of them', async () => {
  const identity = open()
  expect(identity.authorities('mesh')).toEqual([prod.authority.pem])
  expect(identity.authorities('sso')).toEqual([])
  expect(identity.authorities('gone')).toEqual([])
})

describe('explain', () => {
  it('tells each check of a certificate, and who it is', async () => {
    const above = makeAuthority('between', {}, prod.authority)
    const identity = open()
    const good = await identity.explain([makeSvid(ID, above), above].map(({ pem }) => pem).join(''))
    expect(good).toMatchObject({ ok: true, principal: { id: 'team-a' } })
    expect(good.steps.map(({ check }) => check)).toEqual(['PEM', 'trust domain', 'form', 'issuer', 'chain', 'life', 'principal'])
  })
  it.each<[string, () => string, string, RegExp]>([
    ['a chain that leads nowhere', () => makeSvid(ID, partner.authority).pem, 'chain', /does not lead to/],
    ['another trust domain', () => makeSvid('spiffe://other.example/a', prod.authority).pem, 'trust domain', /has its trust domain/],
    ['an authority', () => prod.authority.pem, 'trust domain', /of an authority/],
    ['no rule', () => prod.svid('/x').pem, 'principal', /^no agent/],
    ['junk', () => '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'PEM', /cannot be read/],
  ])('stops at the check that fails: %s', async (_what, pem, check, detail) => {
    const { ok, steps } = await open().explain(pem())
    expect(ok).toBe(false)
    expect(steps.at(-1)).toEqual({ check, ok: false, detail: expect.stringMatching(detail) })
  })
})

it('a key of another issuer makes no certificate of this one', async () => {
  const signer = await newSigner()
  const forged = { ...prod.authority, privateKey: signer.privateKey }
  expect(await who(open(), shown([makeSvid(ID, forged)]))).toMatch(/does not lead to/)
})

function namesake(): Made {
  return makeAuthority('prod.example authority')
}
function byLeaf(): readonly Made[] {
  const leaf = prod.svid('/ns/team-b/sa/triage', { commonName: 'leaf' })
  return [makeSvid(ID, leaf), leaf]
}
function through(shape: CertificateShape): readonly Made[] {
  const above = makeAuthority('between', shape, prod.authority)
  return [makeSvid(ID, above), above]
}
/** A leaf below so many authorities. */
function tall(count: number): readonly Made[] {
  const chain: Made[] = []
  let issuer = prod.authority
  for (let index = 0; index < count; index++) {
    issuer = makeAuthority(`level ${index}`, {}, issuer)
    chain.unshift(issuer)
  }
  return [makeSvid(ID, issuer), ...chain]
}
