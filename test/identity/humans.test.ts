import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { MayflyError } from '../../src/errors.js'
import type { Identity } from '../../src/identity/identity.js'
import { createIdentity, lintIdentity } from '../../src/identity/index.js'
import type { HumanRule, IdentityOptions } from '../../src/identity/options.js'
import type { Agent, Orchestrator } from '../../src/types.js'
import { startOidc } from '../support/oidc.js'
import { bearer, type Clock, goodClaims, house, newSigner, rawToken, type Signer, START } from './tokens.js'

const NOW = START / 1000
const SSO = 'https://sso.example'
const TRIAGE = 'https://triage.example'
const OURS = 'https://mayfly.example'
let cluster: Signer
let sso: Signer
let stranger: Signer
let options: IdentityOptions
let identity: Identity
let triage: Agent
let reporter: Agent
let flows: Orchestrator

/** People sign in at one issuer, agents have their tokens of another; on-call engineers are operators, and people too. */
const HUMANS: readonly HumanRule[] = [
  {
    id: 'sso/{sub}',
    match: { issuer: 'sso', claims: { kind: 'person' } },
    team: 'analytics',
    groups: { finance: { groups: 'fin-*' }, staff: { kind: 'person' }, legal: { groups: 'legal' } },
  },
]

beforeAll(async () => {
  ;[cluster, sso, stranger] = await Promise.all([newSigner('ES256', 'k1'), newSigner('ES256', 's1'), newSigner('ES256', 'k2')])
  const agent = { owner: 'sre@example.com', autonomy: 'supervised' } as const
  const of = (sub: string) => ({ issuer: 'cluster', claims: { sub } })
  options = {
    issuers: {
      cluster: { kind: 'jwks', keys: { keys: [cluster.jwk] }, issuer: 'https://idp.example', audience: 'mayfly' },
      sso: { kind: 'jwks', keys: { keys: [sso.jwk] }, issuer: SSO, audience: 'mayfly', maxLifetimeSeconds: 3600, typ: ['at+jwt'] },
      robots: { kind: 'jwks', keys: { keys: [stranger.jwk] }, issuer: 'https://robots.example', audience: 'mayfly', only: ['agent'] },
    },
    agents: [
      { ...agent, id: 'triage', match: of('workload:triage'), onBehalfOf: { audience: TRIAGE } },
      { ...agent, id: 'reporter', match: of('workload:reporter'), onBehalfOf: { audience: 'https://reporter.example' } },
      { ...agent, id: 'team/{crew}', match: of('shared'), onBehalfOf: { audience: 'https://teams.example/{crew}' } },
    ],
    orchestrators: [{ id: 'flows', match: of('workload:flows'), onBehalfOf: { audience: 'https://flows.example' } }],
    operators: [{ id: 'ops/{sub}', match: { issuer: 'sso', claims: { groups: 'sre-oncall' } }, groups: ['sre-oncall'] }],
    humans: HUMANS,
    ownIssuers: [OURS],
  }
  identity = createIdentity(options, house())
  const caller = async (sub: string, more = {}) => identity.verify(bearer(await cluster.token({ sub, ...more })))
  triage = (await caller('workload:triage')) as Agent
  reporter = (await caller('workload:reporter')) as Agent
  flows = (await caller('workload:flows')) as Orchestrator
})
afterAll(() => identity.close())

/** What a person at the SSO lets `triage` have, until it is changed. */
const claims = (more: Record<string, unknown> = {}) => ({ ...goodClaims(), iss: SSO, sub: 'ann', aud: TRIAGE, kind: 'person', ...more })
const signed = (more: Record<string, unknown> = {}, by = sso) => by.token(claims(more), { kid: by.kid })
const named = (mayAct: unknown, more: Record<string, unknown> = {}) => signed({ aud: 'mayfly', may_act: mayAct, ...more })

async function refusal(token: string, by: Agent | Orchestrator = triage, at: Identity = identity): Promise<{ code: string; because: string }> {
  const error = await at.verifyHuman(token, by).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof MayflyError)) throw new Error(`not refused: ${error}`)
  expect(error.status).toBe(403)
  expect(error.message).toMatch(/^the token of the human on whose behalf this is asked (has expired|was not accepted)$/)
  expect(error.details.internal).toMatch(/^[\x20-\x7e…]{5,250}$/)
  expect(error.details.internal).not.toContain('EVIL')
  return { code: error.code, because: error.details.internal ?? '' }
}
const invalid = (because: RegExp) => ({ code: 'on_behalf_of_invalid', because: expect.stringMatching(because) })

describe("a human's token", () => {
  it('shows who the human is, with the team and those groups that its claims show', async () => {
    const shown = { id: 'sso/ann', issuer: 'sso', subject: 'ann', team: 'analytics', tokenIssuedAt: START - 10_000, tokenExpiresAt: START + 600_000 }
    expect(await identity.verifyHuman(await signed(), triage)).toEqual({ ...shown, groups: ['staff'], tokenFingerprint: expect.any(String) })
    const rich = await identity.verifyHuman(await signed({ groups: ['fin-eu', 'sre-oncall'] }), triage)
    expect(rich.groups).toEqual(['finance', 'staff'])
    expect(Object.isFrozen(rich)).toBe(true)
  })

  it('of a rule without conditions gives its groups to all who match', async () => {
    const other = createIdentity({ ...options, humans: [{ id: '{sub}', match: { issuer: 'sso', claims: {} }, groups: ['everybody'] }] }, house())
    expect(await other.verifyHuman(await signed(), triage)).toMatchObject({ id: 'ann', team: undefined, groups: ['everybody'] })
    await other.close()
  })
})

describe('a token of a real identity provider', () => {
  it('is taken from the agent that it names', async () => {
    const oidc = await startOidc({ clients: [{ id: 'ann', claims: { department: 'finance', aud: TRIAGE } }] })
    const issuer = { kind: 'oidc', url: oidc.issuer, audience: 'mayfly', typ: ['at+jwt'], allowHttpLoopback: true, only: ['human'] } as const
    const humans = [{ id: '{sub}', match: { issuer: 'people', claims: { department: '*' } }, groups: { finance: { department: 'finance' } } }]
    const other = createIdentity({ ...options, issuers: { ...options.issuers, people: issuer }, humans }, { ...house(), now: Date.now })
    try {
      const token = await oidc.token('ann')
      expect(await other.verifyHuman(token, triage)).toMatchObject({ id: 'ann', issuer: 'people', groups: ['finance'] })
      expect(await refusal(token, reporter, other)).toEqual(invalid(/"aud" names somebody else/))
      const named = { aud: 'mayfly', may_act: { iss: 'https://idp.example', sub: 'workload:reporter' } }
      expect(await other.verifyHuman(await oidc.token('ann', named), reporter)).toMatchObject({ id: 'ann' })
      expect(await refusal(await oidc.token('ann', { nonce: 'of a login' }), triage, other)).toEqual(invalid(/ID token/))
      await expect(other.verify(bearer(await oidc.token('ann', named)))).rejects.toMatchObject({ code: 'token_invalid' })
    } finally {
      await other.close()
      await oidc.stop()
    }
  })
})

describe('the binding to who presents it', () => {
  it('by audience: each with its own alone', async () => {
    expect(await identity.verifyHuman(await signed(), triage)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(await signed(), reporter)).toEqual(invalid(/"aud" names somebody else/))
    expect(await refusal(await signed(), flows)).toEqual(invalid(/"aud" names somebody else/))
    expect(await identity.verifyHuman(await signed({ aud: 'https://flows.example' }), flows)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(await signed({ aud: 'https://flows.example' }))).toEqual(invalid(/"aud" names somebody else/))
  })

  it('two agents of one rule are told apart', async () => {
    const member = async (crew: string) => (await identity.verify(bearer(await cluster.token({ sub: 'shared', crew })))) as Agent
    const [a, b] = [await member('a'), await member('b')]
    const token = await signed({ aud: 'https://teams.example/a' })
    expect(await identity.verifyHuman(token, a)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(token, b)).toEqual(invalid(/"aud" names somebody else/))
  })

  it('two rules whose audiences can be filled alike: what could name either names neither', async () => {
    const agent = { owner: 'sre@example.com', autonomy: 'supervised' } as const
    const agents = ['x/{a}-b', 'x/a-{b}'].map((audience, index) => {
      const claim = index === 0 ? 'a' : 'b'
      return { ...agent, id: `${claim}/{${claim}}`, match: { issuer: 'cluster', claims: { [claim]: '*' } }, onBehalfOf: { audience } }
    })
    const other = createIdentity({ ...options, agents }, house())
    const first = (await other.verify(bearer(await cluster.token({ a: 'a' })))) as Agent
    const another = (await other.verify(bearer(await cluster.token({ a: 'c' })))) as Agent
    expect([first.humanAudience, another.humanAudience]).toEqual(['x/a-b', 'x/c-b'])
    expect(await refusal(await signed({ aud: 'x/a-b' }), first, other)).toEqual(invalid(/could name several/))
    expect(await other.verifyHuman(await signed({ aud: 'x/c-b' }), another)).toMatchObject({ id: 'sso/ann' })
    await other.close()
  })

  it('to nobody: a token for the broker alone is not for any agent to act with', async () => {
    for (const by of [triage, reporter, flows])
      expect(await refusal(await signed({ aud: 'mayfly' }), by)).toEqual(invalid(/neither its "aud" nor "may_act"/))
    expect(await refusal(await signed({ aud: 'EVIL' }))).toEqual(invalid(/not the audience of issuer sso/))
  })

  it.each<[string, unknown]>([
    ['issuer and subject', { iss: 'https://idp.example', sub: 'workload:triage' }],
    ["this broker's issuer and the id", { iss: OURS, sub: 'triage' }],
  ])('by may_act: %s', async (_, mayAct) => {
    const token = await named(mayAct)
    expect(await identity.verifyHuman(token, triage)).toMatchObject({ id: 'sso/ann' })
    for (const by of [reporter, flows]) expect(await refusal(token, by)).toEqual(invalid(/"may_act" names somebody else/))
    // And with the audience besides.
    expect(await identity.verifyHuman(await named(mayAct, { aud: TRIAGE }), triage)).toMatchObject({ id: 'sso/ann' })
  })

  it('by may_act with a SPIFFE ID, which needs no issuer', async () => {
    const jwks = { keys: [{ ...cluster.jwk, use: 'jwt-svid' }] }
    const mesh = { kind: 'spiffe', trustDomain: 'prod.example', bundle: { jwks }, audience: 'mayfly' } as const
    const svid = { ...triage, id: 'mesh/triage', issuer: 'mesh', subject: 'spiffe://prod.example/triage' }
    const other = createIdentity({ ...options, issuers: { ...options.issuers, mesh } }, house())
    for (const mayAct of [{ sub: svid.subject }, { iss: 'spiffe://prod.example', sub: svid.subject }])
      expect(await other.verifyHuman(await named(mayAct), svid)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(await named({ sub: 'spiffe://prod.example/triage/2' }), svid, other)).toEqual(invalid(/"may_act" names somebody else/))
    await other.close()
  })

  it('by may_act with a subject alone: an id of ours where the issuer has no agents of its own', async () => {
    expect(await identity.verifyHuman(await named({ sub: 'triage' }), triage)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(await named({ sub: 'workload:triage' }))).toEqual(invalid(/"may_act" names somebody else/))
    // Where it has some, the name is one that it knows: of whom it calls so, not of whom we do.
    const agents = [...(options.agents ?? []), { ...options.agents?.[0], id: 'other', match: { issuer: 'sso', claims: { sub: 'triage' } } }]
    const mixed = createIdentity(
      { ...options, agents: agents.map(({ onBehalfOf: _, ...rule }) => rule) as typeof agents } as IdentityOptions,
      house(),
    )
    expect(await refusal(await named({ sub: 'triage' }), triage, mixed)).toEqual(invalid(/"may_act" names somebody else/))
    const other = (await mixed.verify(bearer(await signed({ sub: 'triage', aud: 'mayfly', kind: 'robot' })))) as Agent
    expect(other.id).toBe('other')
    expect(await mixed.verifyHuman(await named({ sub: 'triage' }), other)).toMatchObject({ id: 'sso/ann' })
    await mixed.close()
  })

  it.each<[string, unknown]>([
    ['another agent', { sub: 'reporter' }],
    ["another issuer's subject of that name", { iss: SSO, sub: 'workload:triage' }],
    ['an issuer of ours that is none', { iss: `${OURS}/`, sub: 'triage' }],
    ['an issuer that is no text', { iss: [OURS], sub: 'triage' }],
    ['an issuer that is null', { iss: null, sub: 'triage' }],
    ['another case', { sub: 'Triage' }],
    ['the human', { sub: 'ann' }],
    ['nobody', {}],
    ['text', 'triage'],
    ['a list', [{ sub: 'triage' }]],
    ['null', null],
    ['a subject that is a list', { sub: ['triage'] }],
    ['an orchestrator by its id', { sub: 'flows' }],
  ])('is not there where may_act names %s, whatever the audience says', async (_, mayAct) => {
    for (const aud of ['mayfly', TRIAGE]) expect(await refusal(await named(mayAct, { aud }))).toEqual(invalid(/"may_act" names somebody else/))
    expect(await refusal(await named({ sub: 'flows' }), flows)).toEqual(invalid(/"may_act" names somebody else/))
  })

  it('several audiences only where the issuer may have them', async () => {
    expect(await refusal(await signed({ aud: [TRIAGE, 'account'] }))).toEqual(invalid(/"aud" has other members/))
    const loose = { ...options.issuers, sso: { ...options.issuers.sso, audience: { contains: 'mayfly' } } } as IdentityOptions['issuers']
    const other = createIdentity({ ...options, issuers: loose }, house())
    expect(await other.verifyHuman(await signed({ aud: [TRIAGE, 'account'] }), triage)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(await signed({ aud: ['mayfly', 'account'] }), triage, other)).toEqual(invalid(/neither its "aud" nor "may_act"/))
    expect(await refusal(await signed({ aud: ['mayfly', TRIAGE] }), reporter, other)).toEqual(invalid(/"aud" names somebody else/))
    await other.close()
  })
})

describe("every check of a caller's token is one of a human's too", () => {
  it.each<[string, () => Promise<string> | string, RegExp]>([
    ['no token at all', () => 'EVIL', /three parts/],
    ['a login: a nonce', () => signed({ nonce: 'n' }), /ID token/],
    ['a login: an at_hash', () => signed({ at_hash: 'h' }), /ID token/],
    ['a login: a c_hash', () => signed({ c_hash: 'h' }), /ID token/],
    ['a SET', () => signed({ events: {} }), /no workload token/],
    ['a DPoP proof', () => signed({ htm: 'POST', htu: 'x' }), /no workload token/],
    ['signed by somebody else', () => stranger.token(claims(), { kid: 's1' }), /signature does not verify/],
    ['of an issuer that nobody configured', () => signed({ iss: 'https://EVIL.example' }), /no issuer of the configuration/],
    ['that this broker signed', () => signed({ iss: OURS }), /signed by this broker/],
    ['without a signature', async () => `${(await signed()).split('.').slice(0, 2).join('.')}.`, /signature is not canonical/],
    ['with alg none', () => rawToken({ alg: 'none' }, claims(), sso.privateKey), /"alg" is not on the list/],
    ['with a key of its own', () => rawToken({ alg: 'ES256', kid: 's1', jwk: {} }, claims(), sso.privateKey), /"jwk" is not allowed/],
    ['of another type', () => sso.token(claims(), { kid: 's1', typ: 'secevent+jwt' }), /"typ" is neither/],
    ['not yet', () => signed({ nbf: NOW + 31 }), /"nbf" is in the future/],
    ['for too long', () => signed({ exp: NOW + 3600 }), /longer than the cap/],
    ['without an end', () => signed({ exp: undefined }), /"exp" is missing/],
    [
      'with a subject twice',
      () => rawToken({ alg: 'ES256', kid: 's1' }, `${JSON.stringify(claims()).slice(0, -1)},"sub":"bob"}`, sso.privateKey),
      /twice/,
    ],
    ['of nobody whom a rule knows', () => signed({ kind: 'robot' }), /no human of issuer sso/],
    ['of a name that cannot be an id', () => signed({ sub: 'EVIL/../root' }), /cannot be filled/],
    ['of an issuer without humans', () => stranger.token(claims({ iss: 'https://robots.example' }), { kid: 'k2' }), /no human of issuer robots/],
  ])('%s', async (_, make, because) => {
    expect(await refusal(await make())).toEqual(invalid(because))
  })

  it('one that has expired, with a code of its own', async () => {
    expect(await refusal(await signed({ iat: NOW - 600, nbf: NOW - 600, exp: NOW - 30 }))).toEqual({
      code: 'on_behalf_of_expired',
      because: '"exp" has passed',
    })
    // Whom it is not for is told nothing of it.
    expect(await refusal(await signed({ iat: NOW - 600, nbf: NOW - 600, exp: NOW - 30 }), reporter)).toEqual(invalid(/"aud"/))
  })

  it('nothing of it is remembered: it ends with its time, and with its key', async () => {
    const clock: Clock = { at: START }
    const other = createIdentity(options, house(clock))
    const token = await signed()
    expect(await other.verifyHuman(token, triage)).toMatchObject({ id: 'sso/ann' })
    clock.at = START + 630_000
    expect((await refusal(token, triage, other)).code).toBe('on_behalf_of_expired')
    expect(other.cache).toMatchObject({ hits: 0, misses: 0 })
    await other.close()
  })

  it('of a single-use issuer it serves once, and whom it is not for does not spend it', async () => {
    const issuers = { ...options.issuers, sso: { ...options.issuers.sso, singleUse: true } } as IdentityOptions['issuers']
    const spent = new Set<string>()
    const [one, two] = [
      createIdentity({ ...options, issuers }, house(undefined, spent)),
      createIdentity({ ...options, issuers }, house(undefined, spent)),
    ]
    const token = await signed({ jti: 'once' })
    expect(await refusal(token, reporter, one)).toEqual(invalid(/"aud"/))
    expect(await one.verifyHuman(token, triage)).toMatchObject({ id: 'sso/ann' })
    expect(await refusal(token, triage, two)).toEqual(invalid(/was used before/))
    await one.close()
    await two.close()
  })
})

describe('a human is never a caller', () => {
  const asCaller = (token: string, at = identity) =>
    at.verify(bearer(token)).then(
      ({ kind, id }) => `${kind} ${id}`,
      (error: unknown) => (error instanceof MayflyError ? `${error.status} ${error.details.internal}` : error),
    )

  it('however the token is bound', async () => {
    expect(await asCaller(await signed({ aud: 'mayfly' }))).toMatch(/^401 humans\[0\] matches its claims: a human calls nothing/)
    expect(await asCaller(await signed())).toMatch(/^401 "aud" is not the audience/)
    expect(await asCaller(await named({ sub: 'triage' }))).toMatch(/^401 humans\[0\] matches/)
  })

  it('a token with which an operator lets an agent act does not make the agent an operator', async () => {
    const oncall = { groups: ['sre-oncall'] }
    expect(await asCaller(await signed({ aud: 'mayfly', ...oncall }))).toBe('operator ops/ann')
    const given = await named({ sub: 'triage' }, oncall)
    expect(await identity.verifyHuman(given, triage)).toMatchObject({ id: 'sso/ann' })
    expect(await asCaller(given)).toMatch(/^401 "may_act" names somebody else than the operator/)
    expect(await asCaller(await signed({ aud: 'mayfly', act: { sub: 'triage' }, ...oncall }))).toMatch(/^401 "act" says that another acts/)
    const issuers = { ...options.issuers, sso: { ...options.issuers.sso, audience: { contains: 'mayfly' } } } as IdentityOptions['issuers']
    const loose = createIdentity({ ...options, issuers }, house())
    expect(await asCaller(await signed({ aud: ['mayfly', TRIAGE], ...oncall }), loose)).toMatch(/^401 "aud" says that it is for somebody to act/)
    await loose.close()
  })

  it('nor is a caller ever a human: whom two rules of both kinds match is neither', async () => {
    const agents = [{ id: 'any/{sub}', match: { issuer: 'sso', claims: {} }, owner: 'x', autonomy: 'scripted' } as const]
    const other = createIdentity({ ...options, agents }, house())
    expect(await asCaller(await signed({ aud: 'mayfly' }), other)).toMatch(/^401 ambiguous: agents\[0\] and humans\[0\]/)
    expect(await asCaller(await signed({ aud: 'mayfly', kind: 'robot' }), other)).toBe('agent any/ann')
    expect(await refusal(await named({ sub: 'any/ann', iss: OURS }), { ...triage, id: 'any/ann' }, other)).toEqual(invalid(/ambiguous: humans\[0\]/))
    await other.close()
  })
})

describe('the name of a human', () => {
  it('is the same in whatever case it is written, where it is one that people write; an opaque subject is not', async () => {
    const other = createIdentity({ ...options, humans: [{ id: '{email}', match: { issuer: 'sso', claims: {} } }] }, house())
    const nameOf = async (email: string) => (await other.verifyHuman(await signed({ email }), triage)).id
    for (const email of ['ann@example.com', 'Ann@Example.com', 'ANN@EXAMPLE.COM']) expect(await nameOf(email)).toBe('ann@example.com')
    // Letters that only look alike, or become others when they are made small, are no way to another's name.
    for (const email of ['\uff41nn@example.com', 'bob@\u212aerberos.example', '\ufb01nn@example.com'])
      expect(await refusal(await signed({ email }), triage, other)).toEqual(invalid(/"email" is not written in its plain characters/))
    expect((await identity.verifyHuman(await signed({ sub: 'Ann' }), triage)).id).toBe('sso/Ann')
    await other.close()
  })
})

describe('rules that can only be wrong are refused when they are read', () => {
  const agent = { owner: 'sre@example.com', autonomy: 'supervised' } as const
  const rule = (id: string, audience: string) => ({ ...agent, id, match: { issuer: 'cluster', claims: { sub: id } }, onBehalfOf: { audience } })
  it.each<[string, Partial<IdentityOptions>, RegExp]>([
    ['the audience of the broker', { agents: [rule('a', 'mayfly')] }, /^agents\[0\]\.on_behalf_of\.audience: is the audience of issuers\.cluster/],
    ['what could be filled to it', { agents: [rule('a', '{x}')] }, /is the audience of issuers/],
    ['one for two', { agents: [rule('a', 'x'), rule('b', 'x')] }, /agents\[0\]\.on_behalf_of\.audience can be the same/],
    ['one that another can be filled to', { agents: [rule('a', 'x/{y}'), rule('b', 'x/y')] }, /can be the same/],
    ['an orchestrator with that of an agent', { agents: [rule('a', 'x')], orchestrators: [rule('b', 'x')] }, /orchestrators\[0\].*can be the same/],
    ['one for all who match', { agents: [rule('a/{ns}', 'x')] }, /needs \{ns\}, as the id has it/],
    ['no template', { agents: [rule('a', 'x{')] }, /on_behalf_of\.audience: must be/],
    ['an issuer that is not for humans', { humans: [{ id: '{sub}', match: { issuer: 'robots', claims: {} } }] }, /humans\[0\].*only for agent/],
    [
      'a group shown by nothing',
      { humans: [{ id: 'x', match: { issuer: 'sso', claims: {} }, groups: { a: { b: '' } } }] },
      /groups\.a\.b: must not be/,
    ],
  ])('%s', (_, more, message) => {
    expect(() => createIdentity({ ...options, ...more }, house())).toThrow(message)
  })

  it('an issuer may be for humans alone', () => {
    const issuers = { ...options.issuers, sso: { ...options.issuers.sso, only: ['human'] } } as IdentityOptions['issuers']
    expect(() => createIdentity({ ...options, issuers }, house())).toThrow('operators[0].match.issuer: it is only for human')
  })

  it('and what is not wise is told: a name that can pass to another, one name for all', () => {
    const human = (id: string, more = {}) =>
      lintIdentity({ ...options, humans: [{ id, match: { issuer: 'sso', claims: { groups: 'staff' } }, ...more }] })
    expect(human('sso/{sub}')).toEqual([])
    expect(human('{email}')).toContainEqual('humans[0].id: "email" is a name that can pass to another; use sub')
    expect(human('somebody')).toContainEqual(expect.stringMatching(/^humans\[0\]\.id: all who match share one id/))
  })
})
