import { createPublicKey, createVerify, type JsonWebKey } from 'node:crypto'

/** A role of a `jwt` auth mount of the fake: https://openbao.org/api-docs/auth/jwt/. */
export interface JwtLogin {
  readonly issuer: string
  readonly audience: string
  readonly subject: string
  /** ES256 alone, in this fake. */
  readonly keys: () => readonly (JsonWebKey & { readonly kid?: string })[]
}

const LEEWAY_SECONDS = 60
const MAX_AGE_SECONDS = 150

/** What is wrong with the token, or nothing. */
export function isSigned(jwt: string, { issuer, audience, subject, keys }: JwtLogin, now: number): string | undefined {
  try {
    const [header = '', payload = '', signature = ''] = jwt.split('.')
    const { alg, kid } = decode(header)
    const key = keys().find((one) => one.kid === kid)
    if (alg !== 'ES256' || key === undefined) return 'no known key successfully validated the token signature'
    const verifying = { key: createPublicKey({ key, format: 'jwk' }), dsaEncoding: 'ieee-p1363' } as const
    if (!createVerify('sha256').update(`${header}.${payload}`).verify(verifying, signature, 'base64url'))
      return 'no known key successfully validated the token signature'
    const { iss, aud, sub, exp, nbf, iat } = decode(payload)
    if (iss !== issuer) return 'invalid issuer (iss) claim'
    if (aud !== audience) return 'invalid audience (aud) claim: audience claim does not match any bound audience'
    if (sub !== subject) return 'sub claim does not match bound subject'
    const seconds = now / 1000
    if (typeof exp !== 'number' || typeof nbf !== 'number' || typeof iat !== 'number') return 'exp, nbf and iat are needed'
    if (exp + LEEWAY_SECONDS < seconds) return 'token is expired'
    if (nbf - MAX_AGE_SECONDS > seconds) return 'token not yet valid'
    return undefined
  } catch {
    return 'malformed jwt'
  }
}

function decode(part: string): Record<string, unknown> {
  return Object(JSON.parse(Buffer.from(part, 'base64url').toString('utf8')))
}
