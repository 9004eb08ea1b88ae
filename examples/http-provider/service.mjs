// A provider for Mayfly in plain Node, without dependencies: docs/providers/http.md explains each rule. Copy it, and put your own system
// where it says `partner`. Try it:  MAYFLY_ISSUER=… MAYFLY_JWKS=… node service.mjs   and then   mayfly provider test --url http://127.0.0.1:8431
import { createHash, createPublicKey, verify } from 'node:crypto'
import { createServer } from 'node:http'
import { partner, servePartner } from './partner.mjs'

const { PORT = '8431', PARTNER_PORT = '0' } = process.env
/** `signing.issuer` of Mayfly's configuration, and where its public keys are: <broker>/.well-known/jwks.json. */
const ISSUER = process.env.MAYFLY_ISSUER ?? 'http://127.0.0.1:8430'
const JWKS = process.env.MAYFLY_JWKS ?? `${ISSUER}/.well-known/jwks.json`
/** This service's own URL, exactly as in Mayfly's configuration. */
const AUDIENCE = process.env.AUDIENCE ?? `http://127.0.0.1:${PORT}`
const [MAX_BODY_BYTES, MAX_TOKEN_SECONDS, SKEW_SECONDS] = [262_144, 30, 5]

/** What the operator writes into Mayfly's configuration, and Mayfly compares. */
const DESCRIPTION = {
  version: 1,
  type: 'partner-key',
  revocation: 'immediate',
  residual_seconds: 0,
  shortest_life_seconds: 0,
  renewable: true,
  verifiable: true,
  cuts_sessions: false,
  expiry_ends_use: true,
  scope_keys: ['regions'],
  env: ['PARTNER_KEY'],
}

/** RFC 9457, with one of the kinds invalid, refused, throttled, late. Nothing that came in, and no secret, is ever repeated. */
class Problem extends Error {
  constructor(status, kind, title) {
    super(title)
    Object.assign(this, { status, kind })
  }
}
const invalid = (title) => new Problem(422, 'invalid', title)
const refused = (title) => new Problem(409, 'refused', title)
const late = () => new Problem(409, 'late', 'the end of this request has passed')

// ---- What is remembered, each until its end. In memory, which suits a single process whose credentials die with it; otherwise these three
// ---- belong into a store that all copies share.
const [usedTokens, revokedNames, mintedNames] = [new Map(), new Map(), new Map()]
function remember(map, what, end) {
  for (const [old, itsEnd] of map) if (itsEnd < Date.now()) map.delete(old)
  map.set(what, end)
}

// ---- Who asks: RFC 7515, RFC 8725. With a JWT library this is a few lines; the claims are yours to check all the same.
let [keys, fetchedAt] = [Promise.resolve(new Map()), 0]
async function keyOf(kid) {
  const before = await keys
  // A key that is new is there at once, one that was withdrawn is gone after five minutes.
  if (Date.now() - fetchedAt > (before.has(kid) ? 300_000 : 1_000)) {
    fetchedAt = Date.now()
    keys = fetchKeys().catch((error) => (console.error(error), before))
  }
  return (await keys).get(kid)
}
async function fetchKeys() {
  const set = await (await fetch(JWKS, { redirect: 'error', signal: AbortSignal.timeout(3_000) })).json()
  return new Map(set.keys.map((jwk) => [jwk.kid, { alg: jwk.alg, key: createPublicKey({ key: jwk, format: 'jwk' }) }]))
}

async function authenticate(authorization, operation, body) {
  const no = (title) => new Problem(401, 'refused', title)
  const [, head, claim, signature] = /^Bearer ([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(authorization ?? '') ?? []
  if (!head) throw no('a bearer token is missing')
  const [header, claims] = [head, claim].map((part) => parse(Buffer.from(part, 'base64url')))
  const found = await keyOf(header?.kid)
  // The key says which algorithm it is for; the token's word alone chooses nothing.
  if (!found || header.alg !== found.alg || !['ES256', 'Ed25519'].includes(found.alg)) throw no('the key or the algorithm is not known')
  const [hash, key] = [found.alg === 'ES256' ? 'sha256' : null, { key: found.key, dsaEncoding: 'ieee-p1363' }]
  if (!verify(hash, Buffer.from(`${head}.${claim}`), key, Buffer.from(signature, 'base64url'))) throw no('the signature is wrong')
  // Mayfly signs other tokens with the same keys: this one must be for a provider.
  if (header.typ !== 'mayfly-provider+jwt') throw no('this is a token for something else')
  const now = Date.now() / 1000
  if (claims.iss !== ISSUER) throw no('the issuer is another')
  if (claims.aud !== AUDIENCE) throw no('the audience is another')
  if (claims.htm !== 'POST' || claims.htu !== `${AUDIENCE}/${operation}`) throw no('the token is for another request')
  if (!(claims.exp > now - SKEW_SECONDS)) throw no('the token has expired')
  if (!(claims.iat < now + SKEW_SECONDS)) throw no('the token is from the future')
  if (!(claims.exp - claims.iat <= MAX_TOKEN_SECONDS)) throw no('the token lives too long')
  const digest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`
  if (claims.content_digest !== digest) throw no('the body is not the one that was signed')
  // Last, and without a pause between looking and remembering: a token is good for one request.
  if (!text(claims.jti) || usedTokens.has(claims.jti)) throw no('the token was used before')
  remember(usedTokens, claims.jti, (claims.exp + SKEW_SECONDS) * 1000)
}

// ---- What is asked. An unknown field may be a rule that this version does not know, so it is an error.
const text = (value) => typeof value === 'string'
const time = (value) => text(value) && /^\d{4}-\d\d-\d\dT/.test(value) && !Number.isNaN(Date.parse(value))
const name = (value) => text(value) && /^mf-[a-z0-9-]{1,20}-[0-9]{2}[a-z0-9]{16,32}$/.test(value)
const object = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
const closed = (must, may = {}) => (value) =>
  object(value) &&
  Object.keys(value).every((key) => Object.hasOwn(must, key) || Object.hasOwn(may, key)) &&
  Object.entries(must).every(([key, is]) => is(value[key])) &&
  Object.entries(may).every(([key, is]) => value[key] === undefined || is(value[key]))
const region = (value) => partner.regions.includes(value)
const regions = (value) => (Array.isArray(value) ? value.length > 0 && value.every(region) : region(value))
const SHAPES = {
  describe: closed({}),
  mint: closed({
    lease: closed({ id: text, task: text, agent: text, owner: text, role: text }, { human: text }),
    name,
    params: closed({ regions }),
    scope: closed({}, { regions }),
    issued_at: time,
    expires_at: time,
    until: time,
    idempotency: text,
  }),
  revoke: closed({ name, until: time }),
  renew: closed({ name, expires_at: time, until: time }),
  verify: closed({ name }),
}

// ---- What is done.
const passed = (until) => Date.now() >= Date.parse(until)
const OPERATIONS = {
  describe: async () => DESCRIPTION,

  async mint({ name, params, scope, expires_at, until }) {
    const allowed = [params.regions].flat()
    const wanted = [scope.regions ?? allowed].flat()
    if (!wanted.every((one) => allowed.includes(one))) throw invalid('the scope reaches beyond the parameters')
    if (passed(until)) throw late()
    if (revokedNames.has(name)) throw refused('this was revoked')
    // Once for each lease, however often and from however many sides it is asked.
    if (mintedNames.has(name)) throw refused('this was minted before')
    remember(mintedNames, name, Math.max(Date.parse(expires_at), Date.parse(until)))
    const key = await partner.create(name, { regions: wanted, expiresAt: Date.parse(expires_at) })
    // While that took its time, a revoke may have come and found nothing, or the end of the mint.
    if (revokedNames.has(name) || passed(until)) {
      await partner.remove(name)
      throw passed(until) ? late() : refused('this was revoked')
    }
    return { credential: { fields: { key, regions: wanted }, env: { PARTNER_KEY: key } } }
  },

  async revoke({ name, until }) {
    // First, so that a mint under way, or one that comes later, makes nothing.
    remember(revokedNames, name, Date.parse(until))
    return { outcome: (await partner.remove(name)) ? 'revoked' : 'absent' }
  },

  async renew({ name, expires_at, until }) {
    if (passed(until)) throw late()
    if (revokedNames.has(name) || !(await partner.extend(name, Date.parse(expires_at)))) throw refused('there is no such credential')
    return { expires_at }
  },

  verify: async ({ name }) => ({ state: (await partner.exists(name)) ? 'alive' : 'dead' }),
}

async function answer(request) {
  const base = new URL(AUDIENCE).pathname.replace(/\/$/, '')
  const operation = request.url.startsWith(`${base}/`) ? request.url.slice(base.length + 1) : ''
  if (!Object.hasOwn(OPERATIONS, operation)) throw new Problem(404, 'invalid', 'there is no such operation')
  if (request.method !== 'POST') throw new Problem(405, 'invalid', 'every operation is a POST')
  const chunks = []
  let length = 0
  for await (const chunk of request) {
    length += chunk.length
    if (length > MAX_BODY_BYTES) throw new Problem(413, 'invalid', 'the body is too large')
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  await authenticate(request.headers.authorization, operation, body)
  if (request.headers['content-type'] !== 'application/json') throw new Problem(415, 'invalid', 'the body must be application/json')
  const asked = parse(body)
  if (!SHAPES[operation](asked)) throw invalid('the body is not what the contract says')
  return OPERATIONS[operation](asked)
}

function parse(bytes) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return undefined
  }
}

const server = createServer(async (request, response) => {
  const send = (status, type, body) => response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(JSON.stringify(body))
  try {
    send(200, 'application/json', await answer(request))
  } catch (error) {
    // What is not a Problem is ours to look into, and nobody else's to read.
    if (!(error instanceof Problem)) console.error(error)
    const { status, kind, message: title } = error instanceof Problem ? error : new Problem(500, undefined, 'it failed here')
    if (status === 413) response.setHeader('connection', 'close')
    send(status, 'application/problem+json', { type: 'about:blank', title, status, kind })
  }
})
const partnerPort = await servePartner(Number(PARTNER_PORT))
server.listen(Number(PORT), '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port, partnerPort })))
