import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { MayflyError } from '../../src/errors.js'
import { problemOf } from '../../src/http/problem.js'
import type { Identity } from '../../src/identity/identity.js'
import { createIdentity } from '../../src/identity/index.js'
import type { Agent } from '../../src/types.js'
import { newTrustDomain } from '../support/trust-domain.js'
import * as mutate from './mutants.js'
import { encoded, type Good, type Mutant, membersOf, partsOf, signedBy, twinOf } from './mutants.js'
import { bearer, goodClaims, house, ISSUER, newSigner, type Signer, START } from './tokens.js'

const NOW = START / 1000
const SEED = 5
/** Of the processor, for any one token: thousands of times what a good one takes. */
const MOST_MICROSECONDS = 1_000_000
const OTHER = 'https://other.example'
const CLUSTER = 'https://cluster.example'
const ONCE = 'https://once.example'
const PEOPLE = 'https://people.example'
/** Of an issuer whose tokens are good for one request each. */
const SINGLE_USE = 'single use'
/** Who lets an agent act; all the others are callers themselves. */
const PERSON = 'a person'
const NAMES = ['ES256', 'RS256', 'EdDSA', 'another issuer', 'JWT-SVID', 'Kubernetes', SINGLE_USE, PERSON] as const
type Name = (typeof NAMES)[number]

const spent = new Set<string>()
let goods: Record<Name, Good>
let identity: Identity
let agent: Agent

beforeAll(async () => {
  const [es, rs, other, cluster, once, people, domain] = await Promise.all([
    newSigner('ES256', 'k1'),
    newSigner('RS256', 'k2'),
    // The same key id: only the issuer tells the two apart.
    newSigner('ES256', 'k1'),
    newSigner('RS256', 'k1'),
    newSigner('ES256', 'k1'),
    newSigner('ES256', 'k1'),
    newTrustDomain('prod.example', { now: () => START }),
  ])
  const ed = generateKeyPairSync('ed25519')
  const edJwk = { ...ed.publicKey.export({ format: 'jwk' }), kid: 'k3', alg: 'EdDSA' }
  const jwks = (issuer: string, ...keys: object[]) => ({ kind: 'jwks', keys: { keys }, issuer, audience: 'mayfly' }) as const
  const rule = { owner: 'sre@example.com', autonomy: 'supervised' } as const
  identity = createIdentity(
    {
      issuers: {
        idp: jwks(ISSUER, es.jwk, rs.jwk, edJwk),
        other: jwks(OTHER, other.jwk),
        cluster: { ...jwks(CLUSTER, cluster.jwk), preset: 'kubernetes' },
        once: { ...jwks(ONCE, once.jwk), singleUse: true },
        people: jwks(PEOPLE, people.jwk),
        mesh: { kind: 'spiffe', trustDomain: domain.name, audience: 'mayfly', bundle: { jwks: domain.bundle() } },
      },
      agents: [
        { ...rule, id: 'agents/{sub}', match: { issuer: 'idp', claims: {} }, onBehalfOf: { audience: 'https://agents.example/{sub}' } },
        { ...rule, id: 'others/{sub}', match: { issuer: 'other', claims: {} } },
        { ...rule, id: 'cluster/{service_account}', match: { issuer: 'cluster', claims: { namespace: 'team-a' } } },
        { ...rule, id: 'once/{sub}', match: { issuer: 'once', claims: {} } },
        { ...rule, id: 'mesh/{path_2}', match: { issuer: 'mesh', claims: {} } },
      ],
      humans: [{ id: 'people/{sub}', match: { issuer: 'people', claims: {} } }],
      ownIssuers: ['https://mayfly.example'],
    },
    house({ at: START }, spent),
  )
  const made = async (name: string, { token, alg, privateKey }: Signer, iss = ISSUER, claims = {}, header = {}): Promise<Good> => ({
    name,
    alg,
    privateKey,
    token: await token({ iss, ...claims }, header),
  })
  const pod = { namespace: 'team-a', pod: { name: 'a-0', uid: 'p' }, serviceaccount: { name: 'triage', uid: 'u' } }
  const svid = { name: 'JWT-SVID', alg: 'ES256', privateKey: domain.signer.privateKey, token: await domain.jwt('/ns/team-a/sa/triage') }
  const edwards = { name: 'EdDSA', alg: 'EdDSA', privateKey: ed.privateKey, token: '' }
  goods = {
    ES256: await made('ES256', es),
    RS256: await made('RS256', rs),
    EdDSA: { ...edwards, token: signedBy(edwards, { alg: 'EdDSA', kid: 'k3', typ: 'JWT' }, goodClaims()) },
    'another issuer': await made('another issuer', other, OTHER),
    'JWT-SVID': svid,
    Kubernetes: await made(
      'Kubernetes',
      cluster,
      CLUSTER,
      { aud: ['mayfly'], sub: 'system:serviceaccount:team-a:triage', 'kubernetes.io': pod },
      { typ: undefined },
    ),
    [SINGLE_USE]: await made(SINGLE_USE, once, ONCE),
    [PERSON]: await made(PERSON, people, PEOPLE, { aud: 'https://agents.example/worker-1', sub: 'ann' }),
  }
  const caller = await identity.verify(bearer(goods.ES256.token))
  if (caller.kind !== 'agent') throw new Error('no agent')
  agent = caller
})
afterAll(() => identity.close())

type Outcome = { readonly accepted: Record<string, unknown> } | { readonly refused: string; readonly told: string }

/** What came of a token. Anything but a principal or a refusal of the token is an accident, and so is one that keeps the processor. */
async function outcomeOf(name: string, token: string): Promise<Outcome> {
  const before = process.cpuUsage()
  const shown = name === PERSON ? identity.verifyHuman(token, agent) : identity.verify(bearer(token))
  const outcome = await shown.then(
    (accepted): Outcome => ({ accepted: { ...accepted } }),
    (error: unknown): Outcome => {
      const codes = name === PERSON ? /^on_behalf_of_(invalid|expired)$/ : /^token_(invalid|expired|replayed)$/
      if (!(error instanceof MayflyError && codes.test(error.code))) throw error
      return { refused: error.code, told: JSON.stringify(problemOf(error)) }
    },
  )
  const { user, system } = process.cpuUsage(before)
  if (user + system > MOST_MICROSECONDS) throw new Error(`it took ${user + system} µs`)
  return outcome
}

/** All the texts that are the same token. */
const acceptable = (good: Good) => (good.alg === 'ES256' ? [good.token, twinOf(good.token)] : [good.token])
/** Those that came to anything but the one public answer, though they are neither the token nor its twin. */
async function accidents(good: Good, mutants: readonly Mutant[]): Promise<string[]> {
  const same = acceptable(good)
  const refused = await outcomeOf(good.name, 'x')
  const found: string[] = []
  for (const [what, token] of mutants) {
    if (same.includes(token)) continue
    const outcome = await outcomeOf(good.name, token).catch((error: unknown) => ({ accident: String(error) }))
    if (JSON.stringify(outcome) !== JSON.stringify(refused)) found.push(`${what}: ${JSON.stringify(outcome)}`)
  }
  return found
}
const othersOf = (name: Name): Good[] => NAMES.filter((one) => one !== name).map((one) => goods[one])

describe.each(NAMES)('a token of %s that somebody without its key has changed is refused, and always with the same words', (name) => {
  it('cut off anywhere', async () => {
    expect(await accidents(goods[name], mutate.cut(goods[name]))).toEqual([])
  })
  it('spelled in another way, or with parts missing, empty or double', async () => {
    expect(await accidents(goods[name], mutate.respelled(goods[name]))).toEqual([])
  })
  it('in another serialisation, or of any size', async () => {
    expect(await accidents(goods[name], mutate.reserialised(goods[name]))).toEqual([])
  })
  it('with another signature', async () => {
    expect(await accidents(goods[name], mutate.resigned(goods[name], othersOf(name)))).toEqual([])
  })
  it('with another algorithm, or a key that it brings', async () => {
    expect(await accidents(goods[name], mutate.unkeyed(goods[name]))).toEqual([])
  })
})

describe('whatever is put together from good tokens', () => {
  it('is none, where the parts are of two', async () => {
    const mutants = mutate.crossed(Object.values(goods)).filter(([, token]) => !Object.values(goods).some((good) => good.token === token))
    for (const name of ['ES256', PERSON] as const) expect(await accidents(goods[name], mutants)).toEqual([])
  })

  it('and changed several times over, is one of them or its twin, or is refused', async () => {
    const all = Object.values(goods)
    const accepted = new Set(all.flatMap(acceptable))
    const at = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })
    const step = fc.oneof<fc.Arbitrary<(token: string) => string>[]>(
      fc.tuple(at, at).map(
        ([from, to]) =>
          (token) =>
            token.slice(0, from * token.length) + token.slice(to * token.length),
      ),
      fc.tuple(at, fc.constantFrom(...'AQgw_-.=+/ \n\0é')).map(([where, letter]) => (token) => {
        const index = Math.floor(where * token.length)
        return token.slice(0, index) + letter + token.slice(index + 1)
      }),
      fc.tuple(fc.constantFrom(...all), fc.nat({ max: 2 }), fc.nat({ max: 2 })).map(([other, to, from]) => (token) => {
        const parts = token.split('.')
        parts[to] = partsOf(other.token)[from] ?? ''
        return parts.join('.')
      }),
      fc
        .tuple(fc.nat({ max: 1 }), fc.constantFrom('alg', 'kid', 'typ', 'jwk', 'iss', 'sub', 'aud', 'exp', 'jti', '__proto__'), fc.jsonValue())
        .map(([part, member, value]) => (token) => {
          const parts = token.split('.')
          const text = Buffer.from(parts[part] ?? '', 'base64url').toString()
          parts[part] = encoded(text.replace('{', `{${JSON.stringify(member)}:${JSON.stringify(value)},`))
          return parts.join('.')
        }),
      fc.constant((token) => (partsOf(token)[2].length === 86 ? twinOf(token) : token)),
      fc.constant((token) => token.split('.').reverse().join('.')),
    )
    const mutant = fc.tuple(fc.constantFrom(...NAMES), fc.array(step, { minLength: 1, maxLength: 4 }))
    await fc.assert(
      fc.asyncProperty(mutant, async ([name, steps]) => {
        const token = steps.reduce((text, change) => change(text), goods[name].token)
        // Shown as what they are for: nothing here is spent but by the test that counts it.
        if (accepted.has(token)) return
        expect(await outcomeOf(name, token)).toMatchObject({ refused: expect.stringMatching(/_invalid$/) })
        expect(await identity.explain(token)).toMatchObject({ ok: false })
      }),
      { numRuns: 800, seed: SEED },
    )
  })
})

describe('what an issuer signs itself', () => {
  const CALLERS = NAMES.filter((name) => name !== SINGLE_USE && name !== PERSON)
  const headerOf = (good: Good) => membersOf(partsOf(good.token)[0])
  const claimsOf = (good: Good) => membersOf(partsOf(good.token)[1])
  const principalOf = async (good: Good, token: string): Promise<unknown> => {
    const outcome = await outcomeOf(good.name, token)
    return 'accepted' in outcome ? { ...outcome.accepted, tokenFingerprint: '' } : outcome.refused
  }

  it.each(CALLERS)('%s: a header that means something else is refused, and what says nothing changes nothing', async (name) => {
    const good = goods[name]
    const [header, claims] = [headerOf(good), claimsOf(good)]
    const same = await principalOf(good, good.token)
    const refused: Record<string, unknown>[] = [
      { jku: 'https://evil.example' },
      { jwk: createPublicKey(good.privateKey).export({ format: 'jwk' }) },
      { jwk: null },
      { x5u: '' },
      { x5c: [] },
      { crit: [] },
      { crit: ['exp'], exp: NOW },
      { crit: ['b64'], b64: false },
      { b64: false },
      { b64: true },
      { zip: 'DEF' },
      { enc: 'A256GCM' },
      ...['ES384', 'ES512', 'RS384', 'RS512', 'PS256', 'PS384', 'HS256', 'none', 'ES256 ', 'es256'].map((alg) => ({ alg })),
      ...['k9', 'K1', 'k1 ', '', '../k1', 'k1\0', '[object Object]', 'k'.repeat(300)].map((kid) => ({ kid })),
      ...[1, null, true, [header.kid], { kid: header.kid }].map((kid) => ({ kid })),
      ...['dpop+jwt', 'JWT ', '', 'JWE', 'application/application/jwt', 'jwt;a=b'].map((typ) => ({ typ })),
      ...[1, null, ['JWT'], { typ: 'JWT' }].map((typ) => ({ typ })),
    ]
    for (const more of refused)
      expect([more, await principalOf(good, signedBy(good, { ...header, ...more }, claims))]).toEqual([more, 'token_invalid'])
    const nothing = [{ cty: 'JWT' }, { iss: 'https://evil.example', sub: 'admin' }, { x5t: 'AA' }, { p2c: 2 ** 53 }, { 'a b': [] }]
    for (const more of nothing) {
      const expected = name === 'JWT-SVID' ? 'token_invalid' : same
      expect([more, await principalOf(good, signedBy(good, { ...header, ...more }, claims))]).toEqual([more, expected])
    }
  })

  it.each(CALLERS)('%s: another algorithm of the same key is refused, however well it is signed', async (name) => {
    const good = goods[name]
    const { kid } = headerOf(good)
    const algorithms = { ES256: ['ES384', 'ES512', 'ES256K'], RS256: ['RS384', 'RS512', 'PS256', 'PS384', 'PS512'], EdDSA: ['Ed448', 'EdDsa'] }[
      good.alg
    ]
    for (const alg of algorithms ?? []) {
      const token = signedBy(good, { alg, kid }, claimsOf(good), alg === 'ES256K' ? 'ES256' : alg)
      expect([alg, await principalOf(good, token)]).toEqual([alg, 'token_invalid'])
      const lying = signedBy(good, { alg: good.alg, kid }, claimsOf(good), alg === 'ES256K' ? 'ES384' : alg)
      if (good.alg !== 'EdDSA') expect([alg, await principalOf(good, lying)]).toEqual([alg, 'token_invalid'])
    }
  })

  it.each(CALLERS)('%s: a payload that is no plain JSON object is refused, and another way to write the same one is the same', async (name) => {
    const good = goods[name]
    const header = headerOf(good)
    const text = Buffer.from(partsOf(good.token)[1], 'base64url').toString()
    const inside = text.slice(1, -1)
    const { exp } = claimsOf(good)
    const refused: (string | Buffer)[] = [
      `${text}{}`,
      `${text},`,
      `${text}\0`,
      `${text}x`,
      `\ufeff${text}`,
      `[${text}]`,
      `"${text}"`,
      `{${inside},}`,
      `{${inside},"a":01}`,
      `{${inside},"a":+1}`,
      `{${inside},"a":1.}`,
      `{${inside},"a":.1}`,
      `{${inside},"a":0x1}`,
      `{${inside},"a":NaN}`,
      `{${inside},"a":-Infinity}`,
      `{${inside},"a":undefined}`,
      `{${inside},"a":'b'}`,
      `{${inside},a:1}`,
      `{${inside},"a":"\n"}`,
      `{${inside},"a":"\\x41"}`,
      `{${inside},"a":"\\u12"}`,
      `{${inside},"a":"\\udc00\\ud800"}`,
      `{${inside}/**/}`,
      `{${inside}}//`,
      `{${inside},"sub":"admin"}`,
      `{"sub":"admin",${inside}}`,
      `{${inside},"\\u0073ub":"admin"}`,
      `{${inside},"exp":${exp}}`,
      `{${inside},"a":{"b":1,"\\u0062":1}}`,
      `{${inside},"":1,"":1}`,
      `{${inside},"__proto__":{"sub":"admin"}}`,
      `{${inside},"a":{"constructor":{"prototype":{}}}}`,
      `{${inside},"a":${'['.repeat(2000)}${']'.repeat(2000)}}`,
      `{${inside},"a":${'{"a":'.repeat(900)}1${'}'.repeat(900)}}`,
      good.token,
      '',
      ' ',
      'null',
      '1',
      '{}',
      Buffer.from(text, 'utf16le'),
      Buffer.concat([Buffer.from(`{${inside},"a":"`), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]),
      Buffer.concat([Buffer.from(`{${inside},"a":"`), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
    ]
    for (const payload of refused) expect([payload, await principalOf(good, signedBy(good, header, payload))]).toEqual([payload, 'token_invalid'])
    const number = String(exp)
    const rewritten = [
      ` \t\r\n${text} \n`,
      text.replaceAll('":', '" : '),
      text.replace('"sub"', '"\\u0073\\u0075b"'),
      text.replace('"exp"', '"e\\u0078p"'),
      text.replace(number, `${number}.0`),
      text.replace(number, `${number}.000000000000000000001`),
      text.replace(number, `${number}e0`),
      text.replace(number, `${number[0]}.${number.slice(1)}E+${number.length - 1}`),
      text.replace(number, `${number}00e-2`),
      `{${inside},"a":1e400,"b":-0,"c":${'9'.repeat(400)},"d":1e-400,"e":null,"f":[[[[]]]],"g":"\\u0000\\"\\\\:"}`,
      `{${inside},"SUB":"admin","sub ":"admin","sub\\u0000":"admin","ѕub":"admin"}`,
    ]
    const same = await principalOf(good, good.token)
    for (const payload of rewritten) expect([payload, await principalOf(good, signedBy(good, header, payload))]).toEqual([payload, same])
  })

  it('dates are numbers, and within each other as the rules say, or the token is refused', async () => {
    const good = goods.ES256
    const header = headerOf(good)
    const near = fc.tuple(
      fc.constantFrom(NOW, NOW - 30, NOW + 30, NOW + 600, NOW - 86_400, NOW + 86_400),
      fc.integer({ min: -2, max: 2 }),
      fc.constantFrom(0, 0.5, 0.0001),
    )
    const odd = fc.constantFrom(
      '-0',
      '0',
      '-1',
      '1e400',
      '-1e400',
      '1e308',
      '1e-400',
      '9'.repeat(400),
      '"1782864600"',
      'null',
      'true',
      '[]',
      '{}',
      `[${NOW}]`,
      '9007199254740993',
      '1.7828646e9',
    )
    const date = fc.oneof({ arbitrary: near.map(([base, off, part]) => String(base + off + part)), weight: 3 }, { arbitrary: odd, weight: 1 })
    const optional = fc.option(date, { nil: undefined })
    let accepted = 0
    await fc.assert(
      fc.asyncProperty(optional, optional, optional, async (iat, nbf, exp) => {
        const { iat: _iat, nbf: _nbf, exp: _exp, ...claims } = goodClaims()
        const dates = Object.entries({ iat, nbf, exp }).flatMap(([claim, text]) => (text === undefined ? [] : [`,"${claim}":${text}`]))
        const outcome = await outcomeOf(good.name, signedBy(good, header, `${JSON.stringify(claims).slice(0, -1)}${dates.join('')}}`))
        if ('accepted' in outcome) accepted++
        const isGood = fitsTime({ iat, nbf, exp })
        expect('accepted' in outcome ? 'accepted' : outcome.refused).toEqual(isGood ? 'accepted' : expect.stringMatching(/^token_(invalid|expired)$/))
        if ('accepted' in outcome)
          expect(outcome.accepted).toMatchObject({ tokenIssuedAt: Math.trunc(Number(iat) * 1000), tokenExpiresAt: Math.trunc(Number(exp) * 1000) })
      }),
      { numRuns: 600, seed: SEED },
    )
    expect(accepted).toBeGreaterThan(20)
  })

  it('a claim of whatever type is of somebody that it names exactly, or the token is refused', async () => {
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom<unknown>('mayfly', ['mayfly'], ISSUER, [ISSUER], OTHER, 'worker-1', null, {}, 0, true))
    const members = fc.dictionary(fc.constantFrom('iss', 'sub', 'aud', 'jti', 'kubernetes.io', 'may_act', 'act', 'azp', 'cnf', 'events'), value, {
      minKeys: 1,
    })
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...CALLERS), members, async (name, more) => {
        const good = goods[name]
        const claims = { ...claimsOf(good), ...more }
        const outcome = await outcomeOf(name, signedBy(good, headerOf(good), claims))
        if (!('accepted' in outcome)) return
        expect(outcome.accepted.subject).toBe(claims.sub)
        expect([claims.aud].flat()).toEqual(['mayfly'])
        expect(claims).not.toHaveProperty('events')
        if (name !== 'JWT-SVID') expect(claims.iss).toBe(claimsOf(good).iss)
      }),
      { numRuns: 600, seed: SEED },
    )
  })
})

/** The rules of RFC 7519 and `docs/identity.md` anew, of the texts. */
function fitsTime(texts: { iat?: string; nbf?: string; exp?: string }): boolean {
  const values = [texts.iat, texts.nbf ?? texts.iat, texts.exp].map((text): unknown => (text === undefined ? undefined : JSON.parse(text)))
  if (!values.every((one) => typeof one === 'number' && one >= 0 && one < 9e12)) return false
  const [iat, nbf, exp] = values.map((one) => Math.trunc(Number(one) * 1000)) as [number, number, number]
  if (exp + 30_000 <= START || iat > START + 30_000 || nbf > START + 30_000) return false
  return exp > iat && exp > nbf && exp - iat <= 86_400_000
}

describe('a token that is good for one request', () => {
  it('is spent by nothing that was made of it, and by its twin as by itself', async () => {
    const good = goods[SINGLE_USE]
    const before = spent.size
    const mutants = [...mutate.respelled(good), ...mutate.resigned(good, othersOf(SINGLE_USE)), ...mutate.unkeyed(good)]
    expect(await accidents(good, mutants)).toEqual([])
    expect(spent.size).toBe(before)
    const twin = twinOf(good.token)
    expect(twin).not.toBe(good.token)
    expect(await outcomeOf(SINGLE_USE, twin)).toMatchObject({ accepted: { id: 'once/worker-1' } })
    for (const token of [good.token, twin, good.token]) expect(await outcomeOf(SINGLE_USE, token)).toMatchObject({ refused: 'token_replayed' })
    expect(spent.size).toBe(before + 1)
  })
  it('is known by its issuer and "jti", however its payload is written or signed', async () => {
    const good = goods[SINGLE_USE]
    const header = membersOf(partsOf(good.token)[0])
    const text = JSON.stringify({ ...membersOf(partsOf(good.token)[1]), jti: 'once-1' })
    expect(await outcomeOf(SINGLE_USE, signedBy(good, header, text))).toMatchObject({ accepted: {} })
    for (const again of [text, ` ${text}`, text.replace('once', '\\u006fnce'), text.replace('worker-1', 'worker-2')])
      expect(await outcomeOf(SINGLE_USE, signedBy(good, header, again))).toMatchObject({ refused: 'token_replayed' })
    expect(await outcomeOf(SINGLE_USE, signedBy(good, header, text.replace('once-1', 'once-2')))).toMatchObject({ accepted: {} })
  })
})

describe('the twin of an ECDSA signature', () => {
  it.each(['ES256', 'another issuer', 'JWT-SVID', PERSON] as const)('is the same token, of %s', async (name) => {
    const { token } = goods[name]
    expect(twinOf(twinOf(token))).toBe(token)
    expect(await outcomeOf(name, twinOf(token))).toEqual(await outcomeOf(name, token))
  })
})
