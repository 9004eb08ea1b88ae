import { createHmac, createPublicKey } from 'node:crypto'
import { afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { MayflyError } from '../../../src/errors.js'
import type { Identity } from '../../../src/identity/identity.js'
import { createIdentity } from '../../../src/identity/index.js'
import type { AgentRule, IdentityOptions, IssuerOptions, SpiffeIssuerOptions } from '../../../src/identity/options.js'
import { type FakeTrustDomain, jwtEntry, newTrustDomain, x509Entry } from '../../support/trust-domain.js'
import { bearer, house, newSigner, rawToken, type Signer } from '../tokens.js'

const NOW = Date.now()
const now = () => NOW
const SECONDS = Math.floor(NOW / 1000)
const PATH = '/ns/team-a/sa/triage'
const TRIAGE: AgentRule = {
  id: 'mesh/{path_2}',
  match: { issuer: 'mesh', claims: { path: '/ns/team-*/sa/triage' } },
  owner: 'sre@example.com',
  autonomy: 'scripted',
}
let prod: FakeTrustDomain
let partner: FakeTrustDomain
let sso: Signer

beforeAll(async () => {
  ;[prod, partner, sso] = await Promise.all([
    newTrustDomain('prod.example', { now }),
    newTrustDomain('partner.example', { now }),
    newSigner('ES256', 'sso'),
  ])
})
const opened: Identity[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((identity) => identity.close()))
})

const domainOf = (domain: FakeTrustDomain, more: Partial<SpiffeIssuerOptions> = {}): SpiffeIssuerOptions => ({
  kind: 'spiffe',
  trustDomain: domain.name,
  audience: 'mayfly',
  bundle: { jwks: domain.bundle() },
  ...more,
})
function open(more: { mesh?: Partial<SpiffeIssuerOptions>; issuers?: Record<string, IssuerOptions>; agents?: AgentRule[] } = {}): Identity {
  const options: IdentityOptions = {
    issuers: {
      mesh: domainOf(prod, more.mesh),
      partner: domainOf(partner),
      sso: { kind: 'jwks', keys: { keys: [sso.jwk] }, issuer: 'https://sso.example', audience: 'mayfly' },
      ...more.issuers,
    },
    agents: more.agents ?? [
      TRIAGE,
      { ...TRIAGE, id: 'partner/{path_2}', match: { issuer: 'partner', claims: { path: '/ns/*/sa/triage' } } },
      { ...TRIAGE, id: 'sso/{sub}', match: { issuer: 'sso', claims: { sub: '*' } } },
      { ...TRIAGE, id: 'sso-in-disguise', match: { issuer: 'sso', claims: { sub: `spiffe://prod.example${PATH}` } } },
    ],
    ownIssuers: ['https://mayfly.example'],
  }
  const identity = createIdentity(options, house({ at: NOW }))
  opened.push(identity)
  return identity
}
const who = (identity: Identity, token: string): Promise<string> =>
  identity.verify(bearer(token)).then(
    ({ issuer, id }) => `${issuer}: ${id}`,
    (error) => {
      if (!(error instanceof MayflyError) || error.status !== 401) throw error
      return error.details.internal ?? error.code
    },
  )

describe('a JWT-SVID made by node-jose', () => {
  it('is of the trust domain of its subject, whether it names an issuer, a type and a key or not', async () => {
    const identity = open()
    expect(await identity.verify(bearer(await prod.jwt(PATH)))).toMatchObject({
      kind: 'agent',
      id: 'mesh/team-a',
      issuer: 'mesh',
      subject: `spiffe://prod.example${PATH}`,
      tokenIssuedAt: SECONDS * 1000,
      tokenExpiresAt: (SECONDS + 300) * 1000,
    })
    for (const [claims, header] of [
      [{ iss: 'https://oidc-discovery.prod.example' }, {}],
      [{ iss: 'spiffe://prod.example' }, {}],
      [{ iss: 'spiffe://partner.example' }, {}],
      [{ iss: '' }, {}],
      [{ aud: ['mayfly'] }, {}],
      [{}, { typ: 'JOSE' }],
      [{}, { typ: undefined }],
      [{}, { kid: undefined }],
    ])
      expect(await who(identity, await prod.jwt(PATH, claims, header))).toBe('mesh: mesh/team-a')
    expect(await who(identity, await partner.jwt(PATH))).toBe('partner: partner/team-a')
  })
  it.each(['ES384', 'RS256', 'PS256'] as const)('%s', async (alg) => {
    const domain = await newTrustDomain('prod.example', { alg, now })
    const isPss = alg === 'PS256'
    // An RSA key of a bundle doesn't say which of six algorithms it is for: RS256, unless the configuration says otherwise.
    const identity = open({ mesh: { bundle: { jwks: domain.bundle() }, ...(isPss && { algorithms: ['PS256'] }) } })
    expect(await who(identity, await domain.jwt(PATH))).toBe('mesh: mesh/team-a')
    if (isPss) expect(await who(open({ mesh: { bundle: { jwks: domain.bundle() } } }), await domain.jwt(PATH))).toMatch(/another algorithm/)
  })
  it('offers its path in parts, and nothing that the token says under the same names', async () => {
    const match = { issuer: 'mesh', claims: { trust_domain: 'prod.example', spiffe_id: 'spiffe://prod.example/ns/*/sa/*/pod/*', svid: 'jwt' } }
    const identity = open({ agents: [{ ...TRIAGE, id: '{path_4}/{path_2}', instance: 'path_6', match }] })
    const lies = { path: '/admin', path_2: 'admin', path_6: 'other', path_7: 'more', trust_domain: 'x', spiffe_id: 'y', svid: 'x509' }
    const principal = await identity.verify(bearer(await prod.jwt('/ns/team-a/sa/triage/pod/f00d', lies)))
    expect(principal).toMatchObject({ id: 'triage/team-a', instance: 'f00d' })
    const other = await identity.verify(bearer(await prod.jwt('/ns/team-a/sa/triage/pod/beef')))
    expect(other).toMatchObject({ id: 'triage/team-a', instance: 'beef' })
    expect(await who(open({ agents: [{ ...TRIAGE, match, instance: 'path_7' }] }), await prod.jwt('/ns/a/sa/b/pod/c', lies))).toMatch(
      /no single "path_7"/,
    )
  })
  it('is exactly one agent: its path crosses no "/", and two rules that match are none', async () => {
    const identity = open()
    for (const path of ['/ns/team-a/x/sa/triage', '/ns/team-/sa/triage', '/ns/team-a/sa/triage/x', '/x/ns/team-a/sa/triage', '/ns/other/sa/triage'])
      expect(await who(identity, await prod.jwt(path))).toMatch(/^no agent.* matches/)
    const twice = open({ agents: [TRIAGE, { ...TRIAGE, id: 'second', match: { issuer: 'mesh', claims: { path: PATH } } }] })
    expect(await who(twice, await prod.jwt(PATH))).toBe('ambiguous: agents[0] and agents[1] both match its claims')
    expect(await who(twice, await prod.jwt('/ns/team-b/sa/triage'))).toBe('mesh: mesh/team-b')
  })
  it('without "iat" is taken, and counts as issued as long ago as it can be, so that it renews nothing', async () => {
    const identity = open({ mesh: { maxLifetimeSeconds: 600 } })
    expect(await identity.verify(bearer(await prod.jwt(PATH, { iat: undefined, exp: SECONDS + 300 })))).toMatchObject({
      tokenIssuedAt: (SECONDS - 300) * 1000,
    })
    expect(await who(identity, await prod.jwt(PATH, { iat: undefined, exp: SECONDS + 631 }))).toMatch(/longer than the cap/)
    expect(await who(identity, await prod.jwt(PATH, { iat: undefined, nbf: SECONDS + 60 }))).toMatch(/"nbf" is in the future/)
    expect(await who(identity, await prod.jwt(PATH, { iat: null }))).toMatch(/"iat" is missing or no date/)
  })
  it('serves one request where its trust domain says so', async () => {
    const identity = open({ mesh: { singleUse: true } })
    const token = await prod.jwt(PATH)
    expect([await who(identity, token), await who(identity, token)]).toEqual(['mesh: mesh/team-a', 'a token of issuer mesh was used before'])
  })
  it('is refused where only certificates are taken', async () => {
    expect(await who(open({ mesh: { audience: undefined } }), await prod.jwt(PATH))).toMatch(/takes no tokens, only certificates/)
  })
})

describe('a token is taken for one issuer alone', () => {
  const subject = `spiffe://prod.example${PATH}`
  it('a trust domain that signs the "iss" of another issuer', async () => {
    const identity = open()
    for (const claims of [{ iss: 'https://sso.example' }, { iss: 'https://sso.example', sub: 'worker-1' }])
      expect(await who(identity, await prod.jwt(PATH, claims))).toMatch(/no key of the issuer has this "kid"/)
    // With the other's kid, too, and without any.
    for (const kid of ['sso', undefined])
      expect(await who(identity, await prod.jwt(PATH, { iss: 'https://sso.example' }, { kid }))).toMatch(/signature does not verify/)
    expect(await who(identity, await prod.jwt(PATH, { iss: 'https://mayfly.example' }))).toMatch(/signed by this broker/)
  })
  it('a trust domain that signs a subject which is none of its own', async () => {
    const identity = open()
    expect(await who(identity, await partner.jwt(PATH, { sub: subject }))).toMatch(/no key of the issuer has this "kid"/)
    expect(await who(identity, await partner.jwt(PATH, { sub: subject }, { kid: prod.signer.kid }))).toMatch(/signature does not verify/)
    expect(await who(identity, await partner.jwt(PATH, { sub: subject }, { kid: undefined }))).toMatch(/signature does not verify/)
    expect(await who(identity, await prod.jwt(PATH, { sub: 'worker-1' }))).toMatch(/no "iss", and only a JWT-SVID may lack it/)
    // Its own URI as "iss" makes no OIDC issuer of a trust domain.
    expect(await who(identity, await prod.jwt(PATH, { sub: 'worker-1', iss: 'spiffe://prod.example' }))).toMatch(/no issuer .* has its "iss"/)
  })
  it('an OIDC issuer that signs a SPIFFE ID speaks for its own subjects', async () => {
    const identity = open()
    const claims = { iss: 'https://sso.example', sub: subject, iat: SECONDS, nbf: SECONDS, exp: SECONDS + 60 }
    expect(await who(identity, await sso.token(claims))).toBe('sso: sso-in-disguise')
    for (const iss of [undefined, 'https://other.example', 'spiffe://prod.example'])
      expect(await who(identity, await sso.token({ ...claims, iss }))).toMatch(/no key of the issuer has this "kid"/)
  })
  it('a key set of the configuration whose "iss" is a SPIFFE URI is found by no subject', async () => {
    const odd = { kind: 'jwks', keys: { keys: [sso.jwk] }, issuer: 'spiffe://odd.example', audience: 'mayfly' } as const
    const identity = open({ issuers: { odd } })
    const claims = { sub: `spiffe://odd.example${PATH}`, iat: SECONDS, nbf: SECONDS, exp: SECONDS + 60 }
    expect(await who(identity, await sso.token({ ...claims, iss: undefined }))).toMatch(/no issuer .* trust domain of its "sub"/)
    expect(() => open({ issuers: { odd: { ...odd, issuer: 'spiffe://prod.example' } } })).toThrow(/has the same "iss" as issuers\.mesh/)
  })
  it('the OIDC discovery provider of a trust domain goes on as plain OIDC beside it', async () => {
    const oidc = { kind: 'jwks', keys: { keys: [prod.signer.jwk] }, issuer: 'https://oidc.prod.example', audience: 'mayfly' } as const
    const agents = [TRIAGE, { ...TRIAGE, id: 'by-oidc', match: { issuer: 'oidc', claims: { sub: `spiffe://prod.example${PATH}` } } }]
    const identity = open({ issuers: { oidc }, agents })
    expect(await who(identity, await prod.jwt(PATH, { iss: 'https://oidc.prod.example' }))).toBe('oidc: by-oidc')
    expect(await who(identity, await prod.jwt(PATH))).toBe('mesh: mesh/team-a')
  })
})

describe('a JWT-SVID is refused', () => {
  it.each([
    'spiffe://Prod.example/ns/team-a/sa/triage',
    'SPIFFE://prod.example/ns/team-a/sa/triage',
    'spiffe://prod.example',
    'spiffe://prod.example/',
    'spiffe://prod.example/ns/team-a/sa/triage/',
    'spiffe://prod.example//ns/team-a/sa/triage',
    'spiffe://prod.example/ns/team-a/sa/%74riage',
    'spiffe://prod.example/ns/x/../team-a/sa/triage',
    'spiffe://prod.example:443/ns/team-a/sa/triage',
    'spiffe://me@prod.example/ns/team-a/sa/triage',
    'spiffe://prod.example/ns/team-a/sa/triage?x',
    'spiffe:prod.example/ns/team-a/sa/triage',
  ])('for the subject %s', async (sub) => {
    expect(await who(open(), await prod.jwt(PATH, { sub }))).toMatch(/^"sub" is no SPIFFE ID of a workload: it /)
  })
  it('of a trust domain that is not configured, or with a subject over 2048 bytes', async () => {
    const identity = open()
    for (const domain of ['other.example', 'prod.example.evil', 'xprod.example', 'prod'])
      expect(await who(identity, await prod.jwt(PATH, { sub: `spiffe://${domain}${PATH}` }))).toMatch(/no issuer .* trust domain of its "sub"/)
    expect(await who(identity, await prod.jwt(PATH, { sub: `spiffe://prod.example/${'a'.repeat(2048)}` }))).toMatch(/2048 characters/)
    expect(await who(identity, await prod.jwt(`/${'a'.repeat(2000)}`))).toMatch(/^no agent/)
    expect(await who(identity, await prod.jwt(PATH, { fill: 'a'.repeat(8192) }))).toMatch(/over 8192 bytes/)
  })
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['no audience', { aud: undefined }, /"aud" is missing/],
    ['another audience', { aud: 'reports' }, /not the audience/],
    ['one audience more', { aud: ['mayfly', 'reports'] }, /other members/],
    ['no end', { exp: undefined }, /"exp" is missing/],
    ['its end behind it', { iat: SECONDS - 600, exp: SECONDS - 60 }, /"exp" has passed/],
    ['what a login has', { nonce: 'n' }, /ID token/],
  ])('with %s', async (_what, claims, reason) => {
    expect(await who(open(), await prod.jwt(PATH, claims))).toMatch(reason)
  })
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['a "typ" of another kind', { typ: 'at+jwt' }, /"typ" is neither/],
    ['a header field that JWT-SVIDs have not', { ver: 1 }, /"alg", "kid" and "typ" alone/],
    ['a key of its own', { jwk: {} }, /"jwk" is not allowed/],
  ])('with %s', async (_what, header, reason) => {
    expect(await who(open(), await prod.jwt(PATH, {}, header))).toMatch(reason)
  })
  it('by algorithm: none, one with a shared secret, EdDSA', async () => {
    const identity = open()
    const [, payload] = (await prod.jwt(PATH)).split('.')
    const head = (alg: string) => Buffer.from(JSON.stringify({ alg, kid: prod.signer.kid })).toString('base64url')
    const pem = createPublicKey(prod.signer.privateKey).export({ type: 'spki', format: 'pem' })
    for (const alg of ['none', 'None', 'HS256', 'HS512', 'EdDSA', 'Ed25519', 'ES256K']) {
      const mac = createHmac('sha256', pem)
        .update(`${head(alg)}.${payload}`)
        .digest('base64url')
      expect(await who(identity, `${head(alg)}.${payload}.${mac}`)).toMatch(/"alg" is not on the list of issuer mesh/)
    }
    for (const algorithms of [['EdDSA'], ['HS256'], []])
      expect(() => open({ mesh: { algorithms: algorithms as never } })).toThrow(/^issuers\.mesh\.algorithms: /)
  })
  it('signed by an X.509 authority of the bundle, with its "kid" or without', async () => {
    const identity = open()
    const claims = { sub: `spiffe://prod.example${PATH}`, aud: 'mayfly', iat: SECONDS, exp: SECONDS + 60 }
    for (const kid of [undefined, prod.signer.kid])
      expect(await who(identity, rawToken({ alg: 'ES256', kid }, claims, prod.authority.privateKey))).toMatch(/signature does not verify/)
  })
  it('without "kid" where several keys could have signed it', async () => {
    const second = await newSigner()
    const rsa = await newSigner('RS256')
    const jwks = prod.bundle({ keys: [jwtEntry(prod.signer), jwtEntry(second), jwtEntry(rsa)] })
    const identity = open({ mesh: { bundle: { jwks } } })
    expect(await who(identity, await prod.jwt(PATH, {}, { kid: undefined }))).toMatch(/no "kid" and its issuer has several keys/)
    expect(await who(identity, await prod.jwt(PATH))).toBe('mesh: mesh/team-a')
    // One RSA key: no other could fit.
    const claims = { iss: undefined, sub: `spiffe://prod.example${PATH}`, iat: SECONDS, nbf: SECONDS, exp: SECONDS + 60 }
    expect(await who(identity, await rsa.token(claims, { kid: undefined }))).toBe('mesh: mesh/team-a')
  })
})

describe('a bundle of the configuration', () => {
  it.each<[string, () => object, RegExp]>([
    ['no keys', () => ({ keys: [] }), /neither a key for JWT-SVIDs nor an authority/],
    ['keys of another use alone', () => ({ keys: [prod.signer.jwk, { ...jwtEntry(prod.signer), use: 'JWT-SVID' }] }), /neither a key/],
    ['a JWT key without "kid"', () => ({ keys: [{ ...jwtEntry(prod.signer), kid: undefined }] }), /neither a key/],
    ['a private key', () => ({ keys: [{ ...prod.signer.privateKey.export({ format: 'jwk' }), kid: 'a', use: 'jwt-svid' }] }), /neither a key/],
    ['an authority without its certificate', () => ({ keys: [{ ...x509Entry(prod.authority), x5c: [] }] }), /neither a key/],
    ['a leaf as authority', () => ({ keys: [x509Entry(prod.svid(PATH))] }), /neither a key/],
    ['no list', () => ({}), /is not a SPIFFE bundle/],
    ['a sequence that is none', () => prod.bundle({ spiffe_sequence: '1' }), /"spiffe_sequence" that is no whole number/],
    ['a hint below zero', () => prod.bundle({ spiffe_refresh_hint: -1 }), /"spiffe_refresh_hint" that is no whole number/],
    ['hundreds of keys', () => prod.bundle({ keys: Array.from({ length: 201 }, () => jwtEntry(prod.signer)) }), /over 200 keys/],
  ])('with %s is an error that names its path', (_what, jwks, reason) => {
    const opening = () => open({ mesh: { bundle: { jwks: jwks() } } })
    expect(opening).toThrow(/^issuers\.mesh\.bundle: /)
    expect(opening).toThrow(reason)
  })
  it('of X.509 alone takes no token', async () => {
    const identity = open({ mesh: { bundle: { pem: prod.authority.pem } } })
    expect(await who(identity, await prod.jwt(PATH))).toMatch(/no key of the issuer/)
    expect(identity.status()[0]).toMatchObject({ name: 'mesh', state: 'ready', keys: 0, authorities: 1 })
    for (const pem of ['-----BEGIN', prod.svid(PATH).pem, `${prod.authority.pem}${prod.svid(PATH).pem}`])
      expect(() => open({ mesh: { bundle: { pem } } })).toThrow(/^issuers\.mesh\.bundle: must hold certificates of authorities/)
  })
  it.each(['Prod.example', 'spiffe://prod.example', 'prod.example/', 'a:b', '', 'é'])('trust domain %p is an error', (trustDomain) => {
    expect(() => open({ mesh: { trustDomain } })).toThrow(/^issuers\.mesh\.trustDomain: /)
  })
})

it('explains a JWT-SVID check by check', async () => {
  const identity = open()
  const good = await identity.explain(await prod.jwt(PATH))
  expect(good).toMatchObject({ ok: true, principal: { id: 'mesh/team-a' } })
  expect(good.steps.map(({ detail }) => detail)).toEqual(expect.arrayContaining(['it is of issuer mesh', 'it is agent mesh/team-a']))
  const bad = await identity.explain(await prod.jwt(PATH, { sub: 'spiffe://prod.example' }))
  expect(bad.steps.at(-1)).toEqual({ check: 'issuer', ok: false, detail: expect.stringContaining('names a trust domain, and no workload of it') })
})
