import { compactVerify, errors } from 'jose'
import type { Principal } from '../types.js'
import type { Binding } from './binding.js'
import { checkAudience, checkHeader, checkMayAct, checkPurpose, checkTime } from './claims.js'
import type { Issuer } from './issuer.js'
import type { VerificationKey } from './jwk.js'
import { fingerprint, type ParsedJws, parseJws } from './jws.js'
import type { Mapping } from './mapping.js'
import { exposeClaims } from './presets.js'
import { refuse } from './refuse.js'
import { isSpiffeUri, parseSpiffeId } from './spiffe/id.js'

/** Runs one check. `describe` says what was found, for `explain`; its text may quote the token. */
export type Check = <T>(name: string, run: () => T | Promise<T>, describe: (found: T) => string) => Promise<T>

export interface Verifier {
  /** By `iss`; trust domains are among them by their URI, which no `iss` names. */
  readonly issuers: ReadonlyMap<string, Issuer>
  readonly ownIssuers: readonly string[]
  readonly mapping: Mapping
  readonly binding: Binding
  readonly now: () => number
}
export interface Verified {
  readonly principal: Principal
  readonly issuer: Issuer
  readonly key: VerificationKey
  readonly jws: ParsedJws
}

/**
 * A token that its issuer signed, and that nothing says is no access token: parse, find issuer and key, verify the signature. Whom and what it
 * is for is not looked at yet.
 */
export async function authenticToken(token: string, verifier: Verifier, check: Check): Promise<Omit<Verified, 'principal'>> {
  const jws = await check('form', () => parseJws(token), describeToken)
  const issuer = await check(
    'issuer',
    () => issuerOf(jws, verifier),
    ({ name }) => `it is of issuer ${name}`,
  )
  await check(
    'header',
    () => checkHeader(jws, issuer),
    () => '"alg" and "typ" are allowed',
  )
  const key = await check(
    'signature',
    () => verifySignature(token, jws, issuer),
    () => 'a key of the issuer verifies it',
  )
  await check(
    'purpose',
    () => checkPurpose(jws),
    () => 'nothing says that it was made for something else',
  )
  return { issuer, key, jws }
}

/** Token -> principal: find out that it is authentic, check the claims, map. Throws `MayflyError` at the first check that fails. */
export async function verifyToken(token: string, verifier: Verifier, check: Check): Promise<Verified> {
  const { issuer, key, jws } = await authenticToken(token, verifier, check)
  await check(
    'audience',
    () => {
      checkAudience(jws, issuer)
      verifier.binding.checkCaller(jws)
    },
    () => `it is for ${issuer.audience}`,
  )
  const { issuedAt, expiresAt } = await check('time', () => checkTime(jws, issuer, verifier.now()), describeTime)
  const claims = await check(
    'claims',
    () => exposeClaims(jws.claims, issuer.preset),
    (exposed) => `rules see ${[...exposed.keys()].join(', ')}`,
  )
  const facts = {
    issuer: issuer.name,
    subject: jws.claims.sub,
    tokenFingerprint: fingerprint(jws),
    tokenIssuedAt: issuedAt,
    tokenExpiresAt: expiresAt,
  }
  const principal = await check(
    'principal',
    () => {
      const mapped = verifier.mapping.caller(claims, facts)
      checkMayAct(jws, mapped)
      return mapped
    },
    ({ kind, id }) => `it is ${kind} ${id}`,
  )
  return { principal: Object.freeze(principal), issuer, key, jws }
}

/**
 * By `iss`, or else by the trust domain of a SPIFFE ID as `sub`. Whatever a token says of itself, it is held against the keys of one issuer and mapped
 * by the rules of that one: an OIDC issuer that signs `sub: spiffe://…` speaks for its own subjects only, and so does a trust domain that signs
 * another's `iss`.
 */
function issuerOf({ claims: { iss, sub } }: ParsedJws, { issuers, ownIssuers }: Verifier): Issuer {
  if (iss !== undefined && ownIssuers.includes(iss)) refuse('token_invalid', 'it was signed by this broker, and is no workload token')
  const named = iss === undefined ? undefined : issuers.get(iss)
  if (named !== undefined && named.domain === undefined) return named
  if (isSpiffeUri(sub)) return domainOf(sub, issuers)
  if (iss === undefined) refuse('token_invalid', 'the token has no "iss", and only a JWT-SVID may lack it')
  const near = [...issuers.values()].find((candidate) => candidate.domain === undefined && loosely(candidate.iss) === loosely(iss))
  const hint = near === undefined ? '' : `; it differs from issuer ${near.name} only in case or a final slash, and must be equal`
  refuse('token_invalid', `no issuer of the configuration has its "iss"${hint}`)
}

function domainOf(sub: string, issuers: Verifier['issuers']): Issuer {
  const id = parseSpiffeId(sub)
  if ('refused' in id) refuse('token_invalid', `"sub" is no SPIFFE ID of a workload: it ${id.refused}`)
  const issuer = issuers.get(`spiffe://${id.trustDomain}`)
  if (issuer?.domain === undefined) refuse('token_invalid', 'no issuer of the configuration has its "iss" or the trust domain of its "sub"')
  return issuer
}

function loosely(iss: string): string {
  return iss.toLowerCase().replace(/\/$/, '')
}

async function verifySignature(token: string, { header }: ParsedJws, issuer: Issuer): Promise<VerificationKey> {
  const found = await issuer.keys.find(header)
  if ('refused' in found) refuse(found.unavailable ? 'issuer_unavailable' : 'token_invalid', `${found.refused} (issuer ${issuer.name})`)
  if (await isSignedBy(token, header.alg, found.key)) return found.key
  // The issuer may have replaced a key under the same kid, or have none: worth the one refetch of a cool-down.
  const replaced = await issuer.keys.find(header, found.key)
  if ('key' in replaced && (await isSignedBy(token, header.alg, replaced.key))) return replaced.key
  refuse('token_invalid', `the signature does not verify with the key of issuer ${issuer.name}`)
}

async function isSignedBy(token: string, alg: string, { key }: VerificationKey): Promise<boolean> {
  try {
    await compactVerify(token, key, { algorithms: [alg] })
    return true
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) return false
    refuse('token_invalid', 'the signature cannot be checked', error)
  }
}

function describeToken({ header, claims }: ParsedJws): string {
  return JSON.stringify({ alg: header.alg, kid: header.kid, typ: header.typ, iss: claims.iss, sub: claims.sub, aud: claims.aud })
}

function describeTime({ issuedAt, expiresAt }: { issuedAt: number; expiresAt: number }): string {
  return `issued ${new Date(issuedAt).toISOString()}, expires ${new Date(expiresAt).toISOString()}`
}
