import { createHash } from 'node:crypto'
import { MayflyError } from '../errors.js'
import type { IdentityCapabilities } from './identity.js'
import type { Issuer } from './issuer.js'
import type { ParsedJws } from './jws.js'
import { refuse } from './refuse.js'

/**
 * Spends a single-use token. By its `jti`, or else by what is signed: never by the whole token, since an ECDSA signature can be rewritten into
 * another valid one. Remembered for as long as the token could still be accepted.
 */
export async function consumeOnce(consume: IdentityCapabilities['consume'], jws: ParsedJws, issuer: Issuer, remainingMs: number): Promise<void> {
  const { jti } = jws.claims
  if (jti !== undefined && (typeof jti !== 'string' || jti === '')) refuse('token_invalid', '"jti" is no string')
  const spent = JSON.stringify(jti === undefined ? ['input', jws.signingInput] : ['jti', issuer.iss, jti])
  const hash = createHash('sha256').update(spent).digest('base64url')
  let isFirst: boolean
  try {
    isFirst = await consume(hash, Math.ceil(remainingMs + issuer.skewMs))
  } catch (error) {
    if (error instanceof MayflyError) throw error
    throw new MayflyError('ledger_unavailable', 'Whether the token was used before cannot be told now.', { next: 'Try again shortly.', cause: error })
  }
  if (!isFirst) refuse('token_replayed', `a token of issuer ${issuer.name} was used before`)
}
