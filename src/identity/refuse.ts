import { MayflyError } from '../errors.js'

export type TokenCode = 'token_missing' | 'token_invalid' | 'token_expired' | 'token_replayed' | 'issuer_unavailable'

/** As long as an issuer that cannot be reached is left alone. */
const RETRY_SECONDS = 10
const TOLD: Record<TokenCode, { message: string; next: string }> = {
  token_missing: { message: 'A workload token is required.', next: 'Send it as "Authorization: Bearer <token>", once.' },
  token_invalid: {
    message: 'The token was not accepted.',
    next: 'An operator finds the reason in the event, or with `mayfly doctor --token-file <file>`.',
  },
  token_expired: { message: 'The token has expired.', next: 'Fetch a new token and try again.' },
  issuer_unavailable: {
    message: 'The token cannot be verified now: its issuer cannot be reached.',
    next: 'Try again later; an operator finds the issuer in `/readyz`.',
  },
  token_replayed: { message: 'The token was used before, and its issuer is configured for single use.', next: 'Fetch a new token for each request.' },
}

/**
 * Refuses the token. The caller is told the code and nothing more; `reason` is for the event, and holds only our own words and names from the
 * configuration, never text of the token.
 */
export function refuse(code: TokenCode, reason: string, cause?: unknown): never {
  const { message, next } = TOLD[code]
  const retryAfterSeconds = code === 'issuer_unavailable' ? RETRY_SECONDS : undefined
  throw new MayflyError(code, message, { next, internal: reason, cause, retryAfterSeconds })
}
