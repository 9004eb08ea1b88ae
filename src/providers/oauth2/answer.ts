import { decodeJwt } from 'jose'
import type { Made } from './server.js'

/** What the server granted, where it is no more than was asked for. */
export interface Granted {
  readonly token: string
  readonly scopes: readonly string[]
  /** When it ends by itself, ms. */
  readonly expiresAt: number
}
export interface Asked {
  readonly scopes: readonly string[]
  readonly grant: 'client_credentials' | 'token_exchange'
  readonly maxLifeSeconds: number
  readonly verification: 'introspection' | 'signature'
}

/** RFC 8693 §3. */
const ISSUED = ['urn:ietf:params:oauth:token-type:access_token', 'urn:ietf:params:oauth:token-type:jwt']
/** Between the server's clock and the broker's. */
export const CLOCK_MARGIN_SECONDS = 60

/** RFC 6750 §2.1. */
export function isBearer(token: string): boolean {
  return /^[A-Za-z0-9._~+/-]{1,16384}=*$/.test(token)
}

/** What was granted; or, in a sentence, why it must not be handed out. `now` is when the answer came. */
export function judge({ answer }: Made, { scopes, grant, maxLifeSeconds, verification }: Asked, now: number): Granted | string {
  if (answer instanceof Error) return 'the server gave a token in an answer that is none of OAuth'
  const { access_token: token, token_type: type, expires_in: life, refresh_token: refresh, issued_token_type: issued } = answer
  if (!isBearer(token) || type !== 'bearer') return 'the server gave a token that is no bearer token'
  if (refresh !== undefined) return 'the server gave a refresh token, which outlives the lease: switch refresh tokens off for this client'
  if (grant === 'token_exchange' && !ISSUED.includes(String(issued))) return 'the server exchanged for something else than an access token'
  const told = answer.scope?.split(' ').filter((one) => one !== '')
  if (!isWithin(told ?? [], scopes)) return 'the server granted more scopes than were asked for'
  if (life === undefined || !(life >= 1)) return 'the server does not say how long the token lives (expires_in)'
  if (life > maxLifeSeconds) return `the server lets the token live for ${Math.ceil(life)} s, longer than max_token_life`
  const granted = { token, scopes: told ?? scopes, expiresAt: now + Math.floor(life) * 1000 }
  return verification === 'introspection' ? granted : judgeJwt(granted, scopes, now + (maxLifeSeconds + CLOCK_MARGIN_SECONDS) * 1000)
}

/** Who checks the signature alone goes by what is in the token, not by what was said of it. */
function judgeJwt(granted: Granted, scopes: readonly string[], latest: number): Granted | string {
  const claims = claimsOf(granted.token)
  if (typeof claims?.exp !== 'number') return 'the server gave a token that is no JWT with an expiry: "verification: signature" is not for it'
  const expiresAt = Math.floor(claims.exp * 1000)
  if (!(expiresAt <= latest)) return 'the server lets the token live for longer than max_token_life, by its own exp'
  // RFC 9068 §2.2.3; `scp` is how some servers call it.
  const inside = [claims.scope, claims.scp].flat().flatMap((one) => (typeof one === 'string' ? one.split(' ') : []))
  if (
    !isWithin(
      inside.filter((one) => one !== ''),
      scopes,
    )
  )
    return 'the server put more scopes into the token than were asked for'
  return { ...granted, expiresAt }
}

function claimsOf(token: string): Record<string, unknown> | undefined {
  try {
    return decodeJwt(token)
  } catch {
    return undefined
  }
}

function isWithin(some: readonly string[], all: readonly string[]): boolean {
  return some.every((one) => all.includes(one))
}
