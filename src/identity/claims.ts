import type { Principal } from '../types.js'
import { type Issuer, mediaType } from './issuer.js'
import type { ParsedJws } from './jws.js'
import { refuse } from './refuse.js'

/** Claims by which a login's ID token is known (OpenID Connect Core 1.0 §2, §3.3.2.11): it speaks to a client of a person, not for a workload. */
const ID_TOKEN_CLAIMS = ['nonce', 'at_hash', 'c_hash', 's_hash']
/** Claims of a SET (RFC 8417 §2.2) and a DPoP proof (RFC 9449 §4.2). */
const OTHER_TOKEN_CLAIMS = ['events', 'htm', 'htu']

/** The algorithm is on the issuer's list, and `typ` doesn't name another kind of token (RFC 8725 §3.1, §3.11). */
export function checkHeader({ header }: ParsedJws, issuer: Issuer): void {
  if (!issuer.algorithms.some((algorithm) => algorithm === header.alg)) refuse('token_invalid', `"alg" is not on the list of issuer ${issuer.name}`)
  if (header.typ !== undefined && !issuer.typ.includes(mediaType(header.typ))) {
    refuse('token_invalid', `"typ" is neither JWT nor on the list of issuer ${issuer.name}`)
  }
  // JWT-SVID §2.
  if (issuer.domain && header.hasOthers) refuse('token_invalid', 'the header of a JWT-SVID holds "alg", "kid" and "typ" alone')
}

/** Not a token made for something else (RFC 8725 §3.12). */
export function checkPurpose({ claims }: ParsedJws): void {
  for (const claim of ID_TOKEN_CLAIMS) if (Object.hasOwn(claims, claim)) refuse('token_invalid', `"${claim}" says that it is an ID token of a login`)
  for (const claim of OTHER_TOKEN_CLAIMS) {
    if (Object.hasOwn(claims, claim)) refuse('token_invalid', `"${claim}" says that it is no workload token`)
  }
}

export function audienceOf({ claims }: ParsedJws): readonly string[] {
  const audience = typeof claims.aud === 'string' ? [claims.aud] : claims.aud
  if (!Array.isArray(audience) || !audience.every((member) => typeof member === 'string')) refuse('token_invalid', '"aud" is missing or no string')
  return audience
}

/** The broker, or whoever is meant instead, is the sole audience, unless the configuration says that there may be others. */
export function checkAudience(jws: ParsedJws, issuer: Issuer, meant = issuer.audience): void {
  if (meant === undefined) refuse('token_invalid', `issuer ${issuer.name} takes no tokens, only certificates: it has no audience`)
  const audience = audienceOf(jws)
  if (!audience.includes(meant)) refuse('token_invalid', `"aud" is not the audience of issuer ${issuer.name}`)
  if (audience.length > 1 && !issuer.audienceMayHaveOthers) {
    refuse('token_invalid', `"aud" has other members, which issuer ${issuer.name} allows only with audience: {contains: …}`)
  }
}

/**
 * RFC 8693 §4.4: `may_act` names who may act for the subject. Whoever presents a token acts, so one that names somebody else is not for its
 * subject to call with: an agent that was let act for an operator is no operator.
 */
export function checkMayAct({ claims }: ParsedJws, { kind, id }: Principal): void {
  // RFC 8693 §4.1: somebody acts for its subject already.
  if (kind === 'operator' && Object.hasOwn(claims, 'act')) refuse('token_invalid', '"act" says that another acts for the operator that it maps to')
  if (!Object.hasOwn(claims, 'may_act')) return
  const actor = claims.may_act
  if (typeof actor !== 'object' || actor === null || Array.isArray(actor)) refuse('token_invalid', '"may_act" is no object')
  const { sub, iss = claims.iss } = actor as { sub?: unknown; iss?: unknown }
  if (iss !== claims.iss || (sub !== claims.sub && sub !== id))
    refuse('token_invalid', `"may_act" names somebody else than the ${kind} that it maps to`)
}

/** Milliseconds since the Unix epoch. */
export interface Validity {
  readonly issuedAt: number
  readonly expiresAt: number
}

/** `exp` and `iat` are required, `nbf` is not; the life between them is capped. A JWT-SVID may lack `iat`, and was then issued as long ago as it can be. */
export function checkTime({ claims }: ParsedJws, issuer: Issuer, now: number): Validity {
  const expiresAt = numericDate(claims.exp, 'exp')
  const isUndated = issuer.domain !== undefined && claims.iat === undefined
  const issuedAt = isUndated ? expiresAt - issuer.maxLifetimeMs : numericDate(claims.iat, 'iat')
  const notBefore = claims.nbf === undefined ? issuedAt : numericDate(claims.nbf, 'nbf')
  if (now >= expiresAt + issuer.skewMs) refuse('token_expired', '"exp" has passed')
  if (issuedAt > now + issuer.skewMs)
    refuse('token_invalid', isUndated ? `it lives longer than the cap of issuer ${issuer.name}` : '"iat" is in the future')
  if (notBefore > now + issuer.skewMs) refuse('token_invalid', '"nbf" is in the future')
  if (expiresAt <= issuedAt || expiresAt <= notBefore) refuse('token_invalid', '"exp" is not after "iat" and "nbf"')
  if (expiresAt - issuedAt > issuer.maxLifetimeMs) refuse('token_invalid', `it lives longer than the cap of issuer ${issuer.name}`)
  return { issuedAt, expiresAt }
}

/** RFC 7519 §2: seconds, perhaps with a fraction. */
function numericDate(value: unknown, claim: string): number {
  if (typeof value !== 'number' || value < 0 || !Number.isSafeInteger(Math.trunc(value * 1000)))
    refuse('token_invalid', `"${claim}" is missing or no date`)
  return Math.trunc(value * 1000)
}
