import { createHmac, createPublicKey } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { MayflyError } from '../../src/errors.js'
import type { Identity } from '../../src/identity/identity.js'
import { createIdentity } from '../../src/identity/index.js'
import { bearer, goodClaims, house, ISSUER, newSigner, rawToken, type Signer, START, staticOptions } from './tokens.js'

const NOW = START / 1000
let signer: Signer
let rsa: Signer
let stranger: Signer
let identity: Identity

beforeAll(async () => {
  ;[signer, rsa, stranger] = await Promise.all([newSigner('ES256', 'k1'), newSigner('RS256', 'rsa'), newSigner('ES256', 'k2')])
  const options = staticOptions(signer, { keys: { keys: [signer.jwk, rsa.jwk] }, maxLifetimeSeconds: 3600 })
  const other = { kind: 'jwks', keys: { keys: [stranger.jwk] }, issuer: 'https://other.example', audience: 'mayfly' } as const
  identity = createIdentity({ ...options, issuers: { ...options.issuers, other } }, house())
})
afterAll(() => identity.close())

/** The error, after the rules for every refusal: nothing told but the code, and nothing of the token in the reason. */
async function refusal(authorization: string | undefined): Promise<MayflyError> {
  const error = await identity.verify(authorization).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof MayflyError)) throw new Error(`not refused: ${error}`)
  expect(error.status).toBe(401)
  expect(error.details.internal).toMatch(/^[\x20-\x7e…]{5,250}$/)
  expect(error.details.internal).not.toContain('EVIL')
  expect(error.message).toMatch(/^(A workload token is required|The token was not accepted|The token has expired)\.$/)
  return error
}

const header = (more: Record<string, unknown> = {}) => ({ alg: 'ES256', kid: 'k1', ...more })
const claims = (more: Record<string, unknown> = {}) => ({ ...goodClaims(), ...more })
const signed = (head: string | Record<string, unknown>, payload: string | Record<string, unknown>) => rawToken(head, payload, signer.privateKey)
const without = (claim: string) => Object.fromEntries(Object.entries(goodClaims()).filter(([name]) => name !== claim))

describe('the token that all the attacks are made from', () => {
  it('is accepted as it is', async () => {
    const token = signed(header(), claims())
    expect(await identity.verify(bearer(token))).toMatchObject({ kind: 'agent', id: 'agents/worker-1', issuer: 'idp', subject: 'worker-1' })
    expect(await identity.verify(`bEaReR ${token}`)).toMatchObject({ id: 'agents/worker-1' })
  })
})

describe('the Authorization header', () => {
  it.each<[string, (token: string) => string | undefined, string]>([
    ['absent', () => undefined, 'token_missing'],
    ['empty', () => '', 'token_missing'],
    ['the scheme alone', () => 'Bearer', 'token_invalid'],
    ['no token behind the scheme', () => 'Bearer ', 'token_invalid'],
    ['another scheme', () => 'Basic dXNlcjpwYXNz', 'token_invalid'],
    ['the DPoP scheme', (token) => `DPoP ${token}`, 'token_invalid'],
    ['the token alone', (token) => token, 'token_invalid'],
    ['two spaces', (token) => `Bearer  ${token}`, 'token_invalid'],
    ['a tab', (token) => `Bearer\t${token}`, 'token_invalid'],
    ['a trailing space', (token) => `Bearer ${token} `, 'token_invalid'],
    ['two headers joined into one', (token) => `Bearer ${token}, Bearer ${token}`, 'token_invalid'],
    ['a quoted token', (token) => `Bearer "${token}"`, 'token_invalid'],
  ])('%s is refused', async (_name, make, code) => {
    expect((await refusal(make(signed(header(), claims())))).code).toBe(code)
  })
})

describe('a token of the wrong form is refused before any cryptography', () => {
  it.each<[string, () => string, RegExp]>([
    ['a JWE of five parts', () => `${signed(header(), claims())}.a.b`, /three parts/],
    ['two parts', () => signed(header(), claims()).split('.').slice(0, 2).join('.'), /three parts/],
    ['an empty signature', () => `${signed(header(), claims()).split('.').slice(0, 2).join('.')}.`, /signature is not canonical/],
    ['padding', () => `${signed(header(), claims())}==`, /canonical/],
    ['the alphabet of plain base64', () => signed(header(), claims()).replace(/\.([^.]*)\./, '.$1+/.'), /canonical/],
    ['bits left over at the end of the signature', () => leftOverBits(signed(header(), claims())), /canonical/],
    ['a line break within', () => signed(header(), claims()).replace('.', '\r\n.'), /canonical/],
    ['JSON serialisation', () => JSON.stringify({ payload: 'e30', signatures: [{ protected: 'e30', signature: 'AA' }] }), /three parts/],
    ['over 8 kB', () => signed(header(), claims({ pad: 'x'.repeat(8192) })), /over 8192 bytes/],
    ['1 MB', () => 'a.'.repeat(524_288), /over 8192 bytes/],
    ['a header that is no JSON', () => signed('EVIL', claims()), /header is not JSON/],
    ['a header that is a list', () => signed('[]', claims()), /header is not a JSON object/],
    ['a payload that is null', () => signed(header(), 'null'), /payload is not a JSON object/],
    ['a byte order mark', () => signed(header(), `\ufeff${JSON.stringify(claims())}`), /payload is not JSON/],
    ['bytes that are no UTF-8', () => invalidUtf8(), /payload is not UTF-8/],
    ['"alg" twice', () => signed('{"alg":"none","kid":"k1","alg":"ES256"}', claims()), /header names a member twice/],
    ['"sub" twice', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"sub":"admin"}`), /payload names a member twice/],
    ['"sub" twice, once escaped', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"\\u0073ub":"admin"}`), /twice/],
    ['a duplicate deep inside', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"a":[{"b":{"c":1,"c":2}}]}`), /twice/],
    ['an own "__proto__"', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"__proto__":{"sub":"admin"}}`), /forbidden member/],
    ['"constructor" deep inside', () => signed(header(), claims({ a: { constructor: {} } })), /forbidden member/],
    ['"__proto__" in the header', () => signed('{"alg":"ES256","__proto__":{"kid":"k1"}}', claims()), /forbidden member/],
    ['a lone surrogate', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"a":"\\ud800"}`), /malformed Unicode/],
    ['a lone surrogate in a name', () => signed(header(), `${JSON.stringify(claims()).slice(0, -1)},"\\ud800":1}`), /malformed Unicode/],
    ['nesting', () => signed(header(), claims({ a: JSON.parse(`${'['.repeat(30)}${']'.repeat(30)}`) })), /nested too deep/],
    ['nesting by the thousand', () => signed(header(), `{"a":${'['.repeat(2500)}${']'.repeat(2500)}}`), /nested too deep/],
  ])('%s', async (_name, make, reason) => {
    const error = await refusal(bearer(make()))
    expect(error.code).toBe('token_invalid')
    expect(error.details.internal).toMatch(reason)
  })

  function leftOverBits(token: string): string {
    // 64 bytes leave 4 bits of the last character unused; the canonical spelling has them 0.
    const last = token.slice(-1)
    const next = String.fromCharCode(last.charCodeAt(0) + 1)
    expect(Buffer.from(token.slice(0, -1) + next, 'base64url')).toEqual(Buffer.from(token, 'base64url'))
    return token.slice(0, -1) + next
  }
  function invalidUtf8(): string {
    const [head, , signature] = signed(header(), claims()).split('.')
    return `${head}.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${signature}`
  }
})

describe('a header that brings its own key, algorithm or kind is refused', () => {
  it.each(['jku', 'x5u', 'jwk', 'x5c', 'crit', 'b64', 'enc', 'zip'])('%s', async (field) => {
    const error = await refusal(bearer(signed(header({ [field]: 'EVIL' }), claims())))
    expect(error.details.internal).toBe(`the header field "${field}" is not allowed`)
  })
  it.each(['none', 'None', 'NONE', 'nOnE', '', 'HS256', 'HS384', 'HS512', 'ES256K', 'es256', 'ES512', 'RS1', 'dir'])('alg %p', async (alg) => {
    const error = await refusal(bearer(signed(header({ alg }), claims())))
    expect(error.details.internal).toBe('"alg" is not on the list of issuer idp')
  })
  it('a token without a signature, however it is written', async () => {
    const [, payload] = signed(header(), claims()).split('.')
    for (const alg of ['none', 'NONE']) {
      const head = Buffer.from(JSON.stringify({ alg })).toString('base64url')
      for (const signature of ['', 'AA']) await refusal(bearer(`${head}.${payload}.${signature}`))
    }
  })
  it('an HMAC made with the public key', async () => {
    const pem = createPublicKey(rsa.privateKey).export({ type: 'spki', format: 'pem' })
    for (const alg of ['HS256', 'RS256']) {
      const [head, payload] = signed({ alg, kid: 'rsa' }, claims()).split('.')
      const mac = createHmac('sha256', pem).update(`${head}.${payload}`).digest('base64url')
      await refusal(bearer(`${head}.${payload}.${mac}`))
    }
  })
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['an RSA algorithm for an EC key', { alg: 'RS256' }, /another algorithm/],
    ['a larger curve for a smaller key', { alg: 'ES384' }, /another algorithm/],
    ['PSS for a key made for PKCS #1 v1.5', { alg: 'PS256', kid: 'rsa' }, /another algorithm/],
    ['an EC algorithm for an RSA key', { alg: 'ES256', kid: 'rsa' }, /another algorithm/],
    ['Ed25519 for an EC key', { alg: 'EdDSA' }, /another algorithm/],
    ['alg as a list', { alg: ['ES256'] }, /no "alg"/],
    ['no alg', { alg: undefined }, /no "alg"/],
  ])('%s', async (_name, fields, reason) => {
    expect((await refusal(bearer(signed(header(fields), claims())))).details.internal).toMatch(reason)
  })
  it.each(['../../etc/passwd', "k1' OR '1'='1", '"EVIL"', '__proto__', 'constructor', 'toString', 'K1', 'k1 ', ' k1', '', 'k2'])(
    'kid %p',
    async (kid) => {
      await refusal(bearer(signed(header({ kid }), claims())))
    },
  )
  it.each<[string, unknown]>([
    ['10 kB', 'EVIL'.repeat(2560)],
    ['1 kB', 'E'.repeat(1024)],
    ['a NUL', 'k1\0'],
    ['a line break', 'k1\nEVIL'],
    ['U+2028', 'k1\u2028'],
    ['a number', 1],
    ['an object', {}],
    ['null', null],
  ])('kid of %s', async (_name, kid) => {
    await refusal(bearer(signed(header({ kid }), claims())))
  })
  it.each(['dpop+jwt', 'secevent+jwt', 'at+jwt', 'application/at+jwt', 'JWS', 'JOSE', 'id_token', 'logout+jwt', 'jwt ', ''])(
    'typ %p',
    async (typ) => {
      expect((await refusal(bearer(signed(header({ typ }), claims())))).details.internal).toMatch(/"typ" is neither JWT nor on the list/)
    },
  )
  it('typ that is no string', async () => {
    await refusal(bearer(signed(header({ typ: ['JWT'] }), claims())))
  })
  it('no typ, or JWT in any case, is fine', async () => {
    for (const typ of [undefined, 'JWT', 'jwt', 'application/jwt']) {
      expect(await identity.verify(bearer(signed(header({ typ }), claims())))).toMatchObject({ id: 'agents/worker-1' })
    }
  })
})

describe('a token of another issuer is refused', () => {
  it('signed by a key of issuer A, saying that it is of B', async () => {
    const token = rawToken(header({ kid: 'k2' }), claims(), stranger.privateKey)
    expect((await refusal(bearer(token))).details.internal).toMatch(/no key of the issuer has this "kid"/)
    const sameKid = rawToken(header(), claims(), stranger.privateKey)
    expect((await refusal(bearer(sameKid))).details.internal).toMatch(/signature does not verify/)
    await refusal(bearer(signed(header(), claims({ iss: 'https://other.example' }))))
  })
  it.each([
    'https://idp.example/',
    'https://IDP.example',
    'HTTPS://idp.example',
    'https://idp.example:443',
    'https://idp.example.',
    'http://idp.example',
    'https://ıdp.example',
    'https://xn--dp-fka.example',
    'https://idp.example ',
    'https://idp.example\0',
    'https://idp%2eexample',
    '',
    '__proto__',
  ])('iss %p', async (iss) => {
    await refusal(bearer(signed(header(), claims({ iss }))))
  })
  it('iss that is no string', async () => {
    for (const iss of [[ISSUER], { [ISSUER]: 1 }, null, 1]) await refusal(bearer(signed(header(), claims({ iss }))))
  })
  it('a token that this broker signed itself', async () => {
    const error = await refusal(bearer(signed(header({ typ: 'at+jwt' }), claims({ iss: 'https://mayfly.example' }))))
    expect(error.details.internal).toMatch(/signed by this broker/)
  })
})

describe('a token whose claims do not fit is refused', () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['a nonce', { nonce: 'n' }, /ID token/],
    ['an at_hash', { at_hash: 'h' }, /ID token/],
    ['a c_hash', { c_hash: 'h' }, /ID token/],
    ['a nonce of null', { nonce: null }, /ID token/],
    ['the events of a SET', { events: {} }, /no workload token/],
    ['the method of a DPoP proof', { htm: 'POST', htu: 'https://mayfly.example' }, /no workload token/],
    ['another audience', { aud: 'EVIL' }, /not the audience/],
    ['an audience of other case', { aud: 'Mayfly' }, /not the audience/],
    ['one audience more', { aud: ['mayfly', 'EVIL'] }, /other members/],
    ['the audience twice', { aud: ['mayfly', 'mayfly'] }, /other members/],
    ['an empty audience', { aud: [] }, /not the audience/],
    ['an audience of objects', { aud: [{ mayfly: 1 }] }, /missing or no string/],
    ['an audience that is an object', { aud: { 0: 'mayfly', length: 1 } }, /missing or no string/],
    ['exp as text', { exp: String(NOW + 600) }, /"exp" is missing or no date/],
    ['exp without end', { exp: 1e308 }, /"exp" is missing or no date/],
    ['exp below zero', { exp: -1 }, /"exp" is missing or no date/],
    ['iat as text', { iat: String(NOW) }, /"iat" is missing or no date/],
    ['nbf as text', { nbf: 'now' }, /"nbf" is missing or no date/],
    ['nbf of null', { nbf: null }, /"nbf" is missing or no date/],
    ['iat beyond the skew', { iat: NOW + 31 }, /"iat" is in the future/],
    ['nbf beyond the skew', { nbf: NOW + 31 }, /"nbf" is in the future/],
    ['a life over the cap', { iat: NOW, exp: NOW + 3601 }, /longer than the cap/],
    ['a life over the cap, most of it past', { iat: NOW - 3599, exp: NOW + 2 }, /longer than the cap/],
    ['an end before its start', { iat: NOW + 20, nbf: NOW + 20, exp: NOW + 10 }, /not after/],
    ['sub as an object', { sub: { id: 'EVIL' } }, /"sub"/],
    ['sub as a list', { sub: ['EVIL'] }, /"sub"/],
    ['sub as a number', { sub: 7 }, /"sub"/],
    ['an empty sub', { sub: '' }, /"sub"/],
    ['a long sub', { sub: 'E'.repeat(1025) }, /"sub"/],
    ['a line break in sub', { sub: 'EVIL\r\nlevel=info' }, /"sub"/],
    ['an escape sequence in sub', { sub: '\u001b[2JEVIL' }, /"sub"/],
    ['U+2028 in sub', { sub: 'EVIL\u2028' }, /"sub"/],
  ])('%s', async (_name, more, reason) => {
    const error = await refusal(bearer(signed(header(), claims(more))))
    expect(error.code).toBe('token_invalid')
    expect(error.details.internal).toMatch(reason)
  })
  it.each(['iss', 'sub', 'aud', 'exp', 'iat'])('no %s', async (claim) => {
    const error = await refusal(bearer(signed(header(), without(claim))))
    expect(error.code).toBe('token_invalid')
    expect(error.details.internal).toContain(`"${claim}"`)
  })
  it('an expired one, with a code of its own once the signature has been found good', async () => {
    const expired = claims({ iat: NOW - 600, nbf: NOW - 600, exp: NOW - 30 })
    expect((await refusal(bearer(signed(header(), expired)))).code).toBe('token_expired')
    expect((await refusal(bearer(rawToken(header(), expired, stranger.privateKey)))).code).toBe('token_invalid')
  })
  it('dates within the skew are fine, and fractions of a second too', async () => {
    for (const more of [{ iat: NOW + 29, nbf: NOW + 29 }, { iat: NOW - 60, nbf: NOW - 60, exp: NOW - 29 }, { iat: NOW - 0.5 }, { nbf: undefined }]) {
      expect(await identity.verify(bearer(signed(header(), claims(more))))).toMatchObject({ id: 'agents/worker-1' })
    }
  })
})

describe('whatever is done to a valid token', () => {
  it('only the valid one is accepted', async () => {
    const valid = signed(header(), claims())
    const parts = valid.split('.')
    const position = fc.nat({ max: valid.length - 1 })
    const character = fc.constantFrom(...'ABCXYZabcxyz0189-_.=+/ \n\0%é')
    const mutation = fc.oneof(
      fc.tuple(position, character).map(([at, c]) => valid.slice(0, at) + c + valid.slice(at + 1)),
      fc.tuple(position, character).map(([at, c]) => valid.slice(0, at) + c + valid.slice(at)),
      position.map((at) => valid.slice(0, at) + valid.slice(at + 1)),
      position.map((at) => valid.slice(0, at)),
      fc.shuffledSubarray([...parts, ...parts], { minLength: 0, maxLength: 6 }).map((some) => some.join('.')),
      fc.tuple(fc.nat({ max: 2 }), fc.base64String()).map(([at, text]) => parts.map((part, index) => (index === at ? text : part)).join('.')),
      fc
        .tuple(fc.nat({ max: 1 }), fc.json())
        .map(([at, text]) => parts.map((part, i) => (i === at ? Buffer.from(text).toString('base64url') : part)).join('.')),
      fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }).map((more) => {
        const payload = Buffer.from(JSON.stringify({ ...claims(), ...more })).toString('base64url')
        return [parts[0], payload, parts[2]].join('.')
      }),
    )
    const outcome = async (token: string) =>
      identity.verify(bearer(token)).then(
        () => 'accepted',
        (error: unknown) => (error instanceof MayflyError && error.status === 401 ? 'refused' : error),
      )
    await fc.assert(
      fc.asyncProperty(mutation, async (token) => {
        expect(await outcome(token)).toBe(token === valid ? 'accepted' : 'refused')
      }),
      { numRuns: 2000 },
    )
  })
  it('a signed payload of any shape is accepted or refused, never an accident', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom('iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'x'), fc.jsonValue()), async (more) => {
        const error = await identity.verify(bearer(signed(header(), claims(more)))).catch((thrown: unknown) => thrown)
        if (error instanceof Error) expect(error).toBeInstanceOf(MayflyError)
      }),
      { numRuns: 300 },
    )
  })
})
