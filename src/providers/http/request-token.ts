import { createHash, randomUUID } from 'node:crypto'
import type { z } from 'zod'
import type { requestToken } from './wire.js'

/** Said in the header, so that no other token of the same key is taken for one of these, nor these for another: RFC 8725 §3.11. */
export const REQUEST_TOKEN_TYPE = 'mayfly-provider+jwt'
export const REQUEST_TOKEN_SECONDS = 30

/** `iss` is the signer's to add. */
export type RequestClaims = Omit<z.infer<typeof requestToken>, 'iss'>

/** Binds one request: whoever sees it can send it once, as it is, to this address (RFC 9449 §4.2), with this very body (RFC 9530). */
export function requestClaims(audience: string, operation: string, body: string | Buffer, now = Date.now()): RequestClaims {
  const iat = Math.floor(now / 1000)
  const exp = iat + REQUEST_TOKEN_SECONDS
  return { aud: audience, iat, exp, jti: randomUUID(), htm: 'POST', htu: `${audience}/${operation}`, content_digest: contentDigest(body) }
}

function contentDigest(body: string | Buffer): string {
  return `sha-256=:${createHash('sha256').update(body).digest('base64')}:`
}
