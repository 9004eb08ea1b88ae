/** One defect each, put into the sample's text, and the case of the conformance suite that is there for it. */
export interface Defect {
  readonly what: string
  readonly changes: readonly (readonly [from: string, to: string])[]
  readonly foundBy: string
}

const LATE_AT_FIRST: readonly [string, string] = [
  "    if (passed(until)) throw late()\n    if (revokedNames.has(name)) throw refused('this was revoked')\n    // Once",
  "    if (revokedNames.has(name)) throw refused('this was revoked')\n    // Once",
]
const LATE_AT_LAST = 'if (revokedNames.has(name) || passed(until)) {'
const MINTED_BEFORE = "if (mintedNames.has(name)) throw refused('this was minted before')"
const REMEMBER_REVOKED = 'remember(revokedNames, name, Date.parse(until))'
const REVOKED = "{ outcome: (await partner.remove(name)) ? 'revoked' : 'absent' }"
const UNRENEWABLE = 'if (revokedNames.has(name) || !(await partner.extend(name, Date.parse(expires_at))))'
const ANSWER = 'return { credential: { fields: { key, regions: wanted }, env: { PARTNER_KEY: key } } }'
const without = (line: string): readonly [string, string] => [line, '']

const DESCRIBING = 'it describes itself, to whom Mayfly signed for'
const MINTING = 'a mint is answered with a credential'
const VERIFYING = 'verify tells dead from alive'
const TWICE = 'revoking twice is success'
const BEFORE = 'revoking before the mint is success'
const LATE = 'a mint whose end has passed makes nothing'
const SECOND = 'a second mint of a lease makes no second credential'
const FOUR_MINTS = 'four mints at once of one lease make one credential'
const CLAIM = 'a token without one of its claims is refused'
const NOT_JSON = 'what is not JSON is refused'
const MISSING = 'a missing or wrong field is refused'
const PROBLEM = 'a refusal is a problem document with a kind'
const SECRET = 'the secret is in no refusal'
const EXPIRY = 'it stops working at its expiry'
const RENEWS = 'renew extends it'

export const DEFECTS: readonly Defect[] = [
  { what: 'says nothing of its version', changes: [without('  version: 1,\n')], foundBy: DESCRIBING },
  { what: 'says more of itself than was asked', changes: [['  version: 1,', '  version: 1,\n  quota: 7,']], foundBy: DESCRIBING },

  { what: 'answers more than the contract has', changes: [[ANSWER, ANSWER.replace('return {', 'return { note: 1,')]], foundBy: MINTING },
  {
    what: 'sets a variable that it did not announce',
    changes: [['env: { PARTNER_KEY: key }', "env: { PARTNER_KEY: key, LD_PRELOAD: '/tmp/x.so' }"]],
    foundBy: MINTING,
  },
  { what: 'gives nothing', changes: [['fields: { key, regions: wanted }', 'fields: {}']], foundBy: MINTING },
  { what: 'verifies everything as alive', changes: [["(await partner.exists(name)) ? 'alive' : 'dead'", "'alive'"]], foundBy: VERIFYING },
  { what: 'verifies everything as dead', changes: [["(await partner.exists(name)) ? 'alive' : 'dead'", "'dead'"]], foundBy: VERIFYING },

  {
    what: 'revokes in words alone',
    changes: [['await partner.remove(name)) ?', 'await partner.exists(name)) ?']],
    foundBy: 'a revoke takes back what was minted',
  },
  {
    what: 'calls revoked what never was',
    changes: [[REVOKED, "{ outcome: (await partner.remove(name)) ? 'revoked' : 'revoked' }"]],
    foundBy: BEFORE,
  },
  {
    what: 'answers 404 to a revoke of what is not there',
    changes: [[REMEMBER_REVOKED, `${REMEMBER_REVOKED}\n    if (!(await partner.exists(name))) throw new Problem(404, 'refused', 'unknown')`]],
    foundBy: BEFORE,
  },
  {
    what: 'answers 500 to the second revoke',
    changes: [[REMEMBER_REVOKED, `if (revokedNames.has(name)) throw new Error('it is gone')\n    ${REMEMBER_REVOKED}`]],
    foundBy: TWICE,
  },
  {
    what: 'refuses the second revoke',
    changes: [[REMEMBER_REVOKED, `if (revokedNames.has(name)) throw new Problem(410, 'refused', 'it is gone')\n    ${REMEMBER_REVOKED}`]],
    foundBy: TWICE,
  },
  {
    what: 'refuses a revoke while another is under way',
    changes: [
      [
        REMEMBER_REVOKED,
        `${REMEMBER_REVOKED}\n    globalThis.busy ??= new Set()\n    if (busy.has(name)) throw refused('another is under way')
    busy.add(name)\n    await new Promise((done) => setTimeout(done, 50))\n    busy.delete(name)`,
      ],
    ],
    foundBy: 'four revokes at once are success on each side',
  },
  {
    what: 'forgets that a name was revoked before its mint',
    changes: [without(REMEMBER_REVOKED)],
    foundBy: 'a mint that comes after its revoke makes nothing',
  },
  {
    what: 'does not look again after it waited',
    changes: [[LATE_AT_LAST, 'if (passed(until)) {']],
    foundBy: 'a revoke during the mint leaves nothing',
  },
  {
    what: 'forgets what it knows when a caller hangs up',
    changes: [
      [
        "    if (revokedNames.has(name)) throw refused('this was revoked')\n    // Once",
        "    const forgets = globalThis.lost\n    globalThis.lost = false\n    if (!forgets && revokedNames.has(name)) throw refused('this was revoked')\n    // Once",
      ],
      [MINTED_BEFORE, MINTED_BEFORE.replace('if (', 'if (!forgets && ')],
      [LATE_AT_LAST, 'if (!forgets && (revokedNames.has(name) || passed(until))) {'],
      ['  const send = (status', "  response.on('close', () => (globalThis.lost ||= !response.writableFinished))\n  const send = (status"],
    ],
    foundBy: 'a mint whose answer nobody hears can be revoked',
  },

  {
    what: 'gives everybody the same',
    changes: [['const key = await partner.create', "const key = 'one-key-for-everybody'\n    await partner.create"]],
    foundBy: 'two leases get two credentials',
  },
  { what: 'mints after the end', changes: [LATE_AT_FIRST, [LATE_AT_LAST, 'if (revokedNames.has(name)) {']], foundBy: LATE },
  {
    what: 'refuses a late mint, and leaves what it made',
    changes: [LATE_AT_FIRST, ['      await partner.remove(name)\n      throw', '      if (!passed(until)) await partner.remove(name)\n      throw']],
    foundBy: LATE,
  },
  { what: 'mints again', changes: [without(MINTED_BEFORE)], foundBy: SECOND },
  {
    what: 'remembers a mint only when it is done',
    changes: [
      without('    remember(mintedNames, name, Math.max(Date.parse(expires_at), Date.parse(until)))\n'),
      ['    // While that took', '    remember(mintedNames, name, Date.parse(expires_at))\n    // While that took'],
    ],
    foundBy: FOUR_MINTS,
  },

  {
    what: 'asks nobody without a token for one',
    changes: [["  if (!head) throw no('a", "  if (authorization === undefined) return\n  if (!head) throw no('a"]],
    foundBy: 'a request without a token is refused',
  },
  { what: 'checks no signature', changes: [['if (!verify(', 'if (false && !verify(']], foundBy: 'a token signed by another key is refused' },
  {
    what: 'takes the algorithm "none"',
    changes: [
      ['if (!found || header.alg', "if (!found || header.alg !== 'none' && header.alg"],
      ['if (!verify(', "if (header.alg !== 'none' && !verify("],
    ],
    foundBy: 'a token of another algorithm is refused',
  },
  {
    what: 'takes a public key for a shared secret',
    changes: [
      ['import { createHash,', 'import { createHmac, createHash,'],
      ['if (!found || header.alg', "if (!found || header.alg !== 'HS256' && header.alg"],
      [
        'if (!verify(',
        "const pem = found.key.export({ type: 'spki', format: 'pem' })\n  if (createHmac('sha256', pem).update(head + '.' + claim).digest('base64url') !== signature && !verify(",
      ],
    ],
    foundBy: 'a token of another algorithm is refused',
  },
  {
    what: 'ignores the issuer',
    changes: [without("  if (claims.iss !== ISSUER) throw no('the issuer is another')\n")],
    foundBy: 'a token in the name of another issuer is refused',
  },
  {
    what: 'ignores the audience',
    changes: [without("  if (claims.aud !== AUDIENCE) throw no('the audience is another')\n")],
    foundBy: 'a token for another audience is refused',
  },
  {
    what: 'compares the beginning of the audience',
    changes: [['claims.aud !== AUDIENCE', '!String(claims.aud).startsWith(AUDIENCE)']],
    foundBy: 'a token for another audience is refused',
  },
  {
    what: 'takes every kind of token',
    changes: [["header.typ !== 'mayfly-provider+jwt'", 'false']],
    foundBy: 'a token that Mayfly signed for something else is refused',
  },
  { what: 'ignores exp', changes: [['!(claims.exp > now - SKEW_SECONDS)', 'claims.exp === undefined']], foundBy: 'an expired token is refused' },
  {
    what: 'ignores iat',
    changes: [['!(claims.iat < now + SKEW_SECONDS)', 'claims.iat === undefined']],
    foundBy: 'a token from the future is refused',
  },
  {
    what: 'lets a token live for ever',
    changes: [['!(claims.exp - claims.iat <= MAX_TOKEN_SECONDS)', 'false']],
    foundBy: 'a token that lives longer than 30 seconds is refused',
  },
  {
    what: 'ignores the address',
    changes: [[' || claims.htu !== ', ' || claims.htu === undefined && ']],
    foundBy: 'a token for another request is refused',
  },
  {
    what: 'ignores the method',
    changes: [["claims.htm !== 'POST' ||", 'claims.htm === undefined ||']],
    foundBy: 'a token for another request is refused',
  },
  {
    what: 'ignores the digest',
    changes: [['claims.content_digest !== digest', 'claims.content_digest === undefined']],
    foundBy: 'an altered body is refused',
  },
  {
    what: 'digests what it parsed',
    changes: [["createHash('sha256').update(body)", "createHash('sha256').update(JSON.stringify(parse(body)) ?? body)"]],
    foundBy: 'an altered body is refused',
  },
  {
    what: 'accepts replays',
    changes: [['!text(claims.jti) || usedTokens.has(claims.jti)', '!text(claims.jti)']],
    foundBy: 'a token is good for one request',
  },
  {
    what: 'takes a token without a jti',
    changes: [['!text(claims.jti) || usedTokens.has(claims.jti)', 'usedTokens.has(claims.jti ?? {})']],
    foundBy: CLAIM,
  },
  {
    what: 'takes a token without an exp',
    changes: [
      ['!(claims.exp > now - SKEW_SECONDS)', 'claims.exp <= now - SKEW_SECONDS'],
      ['!(claims.exp - claims.iat <= MAX_TOKEN_SECONDS)', 'claims.exp - claims.iat > MAX_TOKEN_SECONDS'],
    ],
    foundBy: CLAIM,
  },

  {
    what: 'overlooks unknown fields',
    changes: [['  Object.keys(value).every((key) => Object.hasOwn(must, key) || Object.hasOwn(may, key)) &&\n', '']],
    foundBy: 'an unknown field is refused',
  },
  {
    what: 'overlooks scope keys that it does not know',
    changes: [['scope: closed({}, { regions })', 'scope: object']],
    foundBy: 'a scope key that it does not name is refused',
  },
  {
    what: 'answers 500 to what is not JSON',
    changes: [['const asked = parse(body)', 'const asked = JSON.parse(new TextDecoder().decode(body))']],
    foundBy: NOT_JSON,
  },
  {
    what: 'takes "until" unseen',
    changes: [['    expires_at: time,\n    until: time,', '    expires_at: time,\n    until: () => true,']],
    foundBy: MISSING,
  },
  {
    what: 'takes every text for a name',
    changes: [['text(value) && /^mf-[a-z0-9-]{1,20}-[0-9]{2}[a-z0-9]{16,32}$/.test(value)', 'text(value)']],
    foundBy: 'a name of another form is refused',
  },
  {
    what: 'takes a name in a list',
    changes: [['const name = (value) => text(value) && ', 'const name = (value) => ']],
    foundBy: 'a name of another form is refused',
  },
  {
    what: 'has its own idea of an agent',
    changes: [['agent: text,', 'agent: (value) => /^[\\w/ -]+$/.test(value),']],
    foundBy: 'hostile texts are inert',
  },
  { what: 'reads whatever length', changes: [['length > MAX_BODY_BYTES', 'false']], foundBy: 'a body that is too large is refused' },
  {
    what: 'reads whatever type',
    changes: [["request.headers['content-type'] !== 'application/json'", 'false']],
    foundBy: 'another content type is refused',
  },
  {
    what: 'describes itself to a GET',
    changes: [["if (request.method !== 'POST') throw", "if (request.method === 'GET') return DESCRIPTION\n  if (request.method !== 'POST') throw"]],
    foundBy: 'only POST is answered',
  },
  { what: 'refuses in plain JSON', changes: [["'application/problem+json'", "'application/json'"]], foundBy: PROBLEM },
  { what: 'refuses with a kind of its own', changes: [["new Problem(409, 'late',", "new Problem(409, 'expired',"]], foundBy: PROBLEM },
  {
    what: 'repeats the secret when it refuses',
    changes: [
      [ANSWER, `;(globalThis.made ??= new Map()).set(name, key)\n    ${ANSWER}`],
      ["refused('this was minted before')", "refused('this was minted before: ' + globalThis.made?.get(name))"],
    ],
    foundBy: SECRET,
  },
  {
    what: "repeats the caller's token when it refuses",
    changes: [['title, status, kind }', 'title, status, kind, got: request.headers.authorization }']],
    foundBy: SECRET,
  },

  {
    what: 'forgets the expiry',
    changes: [['expiresAt: Date.parse(expires_at) })', 'expiresAt: Date.parse(expires_at) + 600_000 })']],
    foundBy: EXPIRY,
  },
  {
    what: 'renews in words alone',
    changes: [['!(await partner.extend(name, Date.parse(expires_at)))', '!(await partner.exists(name))']],
    foundBy: RENEWS,
  },
  { what: 'renews to a time of its own', changes: [['    return { expires_at }', '    return { expires_at: until }']], foundBy: RENEWS },
  {
    what: 'revives what it renews',
    changes: [
      [
        UNRENEWABLE,
        `if (!(await partner.extend(name, Date.parse(expires_at))))\n      await partner.create(name, { regions: ['eu'], expiresAt: Date.parse(expires_at) })\n    if (false)`,
      ],
    ],
    foundBy: 'renew revives nothing',
  },
  {
    what: 'renews after the end',
    changes: [[`if (passed(until)) throw late()\n    ${UNRENEWABLE}`, UNRENEWABLE]],
    foundBy: 'a renew whose end has passed extends nothing',
  },
]
