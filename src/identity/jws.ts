import { createHash } from 'node:crypto'
import { type JsonObject, parseStrictObject } from './json.js'
import { refuse } from './refuse.js'
import { isSpiffeUri } from './spiffe/id.js'

const MAX_TOKEN_BYTES = 8192
const MAX_KID_LENGTH = 256
const MAX_SUBJECT_LENGTH = 1024
const MAX_SPIFFE_ID_LENGTH = 2048
const BASE64URL = /^[A-Za-z0-9_-]+$/
const PRINTABLE_ASCII = /^[\x20-\x7e]+$/
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}]/u
/**
 * Header fields that bring their own key or change how the token is read. `crit` is refused whole, since no extension is understood
 * (RFC 7515 §4.1.11); `b64` with it (RFC 7797); `enc` and `zip` belong to a JWE.
 */
const FORBIDDEN_FIELDS = ['jku', 'x5u', 'jwk', 'x5c', 'crit', 'b64', 'enc', 'zip']

/** A token that is well-formed, and about which nothing else is known. */
export interface ParsedJws {
  readonly header: { readonly alg: string; readonly kid?: string; readonly typ?: string; readonly hasOthers: boolean }
  /** Only a JWT-SVID may lack `iss`. */
  readonly claims: JsonObject & { readonly iss?: string; readonly sub: string }
  /** The first two parts: what is signed. Unlike the token it can't be altered while the signature still verifies. */
  readonly signingInput: string
}

/** The token of `Authorization: Bearer <token>`; the scheme is case-insensitive (RFC 9110 §11.1), everything else is exact. */
export function bearerToken(authorization: string | undefined): string {
  if (authorization === undefined || authorization === '') refuse('token_missing', 'there is no Authorization header')
  const scheme = authorization.slice(0, 7)
  const token = authorization.slice(7)
  if (scheme.toLowerCase() !== 'bearer ') refuse('token_invalid', 'the Authorization header is not "Bearer <token>"')
  return token
}

/** Strict compact form (RFC 7515 §7.1), refused before any cryptography. */
export function parseJws(token: string): ParsedJws {
  if (Buffer.byteLength(token) > MAX_TOKEN_BYTES) refuse('token_invalid', `the token is over ${MAX_TOKEN_BYTES} bytes`)
  const [header, payload, signature, ...more] = token.split('.')
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    refuse('token_invalid', 'the token is not a compact JWS of three parts')
  }
  decode(signature, 'signature')
  return { header: parseHeader(header), claims: parseClaims(payload), signingInput: `${header}.${payload}` }
}

/** Tells tokens apart in events without being one. */
export function fingerprint(jws: ParsedJws): string {
  return createHash('sha256').update(jws.signingInput).digest('base64url').slice(0, 16)
}

function parseHeader(part: string): ParsedJws['header'] {
  const header = parseObject(part, 'header')
  for (const field of FORBIDDEN_FIELDS) {
    if (Object.hasOwn(header, field)) refuse('token_invalid', `the header field "${field}" is not allowed`)
  }
  const { alg, kid, typ, ...others } = header
  if (typeof alg !== 'string') refuse('token_invalid', 'the header has no "alg"')
  if (typ !== undefined && typeof typ !== 'string') refuse('token_invalid', 'the header\'s "typ" is not a string')
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > MAX_KID_LENGTH || !PRINTABLE_ASCII.test(kid))) {
    refuse('token_invalid', `the header's "kid" is not printable ASCII of at most ${MAX_KID_LENGTH} characters`)
  }
  return { alg, kid, typ, hasOthers: Object.keys(others).length > 0 }
}

function parseClaims(part: string): ParsedJws['claims'] {
  const claims = parseObject(part, 'payload')
  const { iss, sub } = claims
  if (iss !== undefined && typeof iss !== 'string') refuse('token_invalid', '"iss" is no string')
  const longest = typeof sub === 'string' && isSpiffeUri(sub) ? MAX_SPIFFE_ID_LENGTH : MAX_SUBJECT_LENGTH
  if (typeof sub !== 'string' || sub === '' || sub.length > longest || UNPRINTABLE.test(sub)) {
    refuse('token_invalid', `"sub" is not printable text of 1 to ${longest} characters`)
  }
  return { ...claims, iss, sub }
}

function parseObject(part: string, what: string): JsonObject {
  const bytes = decode(part, what)
  let text: string
  try {
    // ignoreBOM keeps a byte order mark in the text, where JSON doesn't allow it.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    refuse('token_invalid', `the ${what} is not UTF-8`)
  }
  try {
    return parseStrictObject(text)
  } catch (error) {
    refuse('token_invalid', `the ${what} ${error instanceof Error ? error.message : 'is not JSON'}`)
  }
}

/** Only the canonical spelling: otherwise one token could be written in several ways. */
function decode(part: string, what: string): Buffer {
  const bytes = Buffer.from(part, 'base64url')
  if (!BASE64URL.test(part) || bytes.toString('base64url') !== part) refuse('token_invalid', `the ${what} is not canonical base64url without padding`)
  return bytes
}
