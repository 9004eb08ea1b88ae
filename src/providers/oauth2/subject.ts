import { actors } from '../actors.js'
import { type LeasePlan, ProviderError, type Signer } from '../provider.js'
import type { Params } from './role.js'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const LIFE_SECONDS = 60

export interface SubjectToken {
  readonly lease: LeasePlan
  readonly params: Params
  readonly scopes: readonly string[]
  /** The authorization server's. */
  readonly issuer: string
  readonly issuedAt: number
}

export function signerFor(signer: Signer | undefined): Signer {
  if (signer) return signer
  throw new ProviderError('invalid', 'the grant token_exchange needs a token that Mayfly signs: the configuration needs "signing"')
}

/**
 * A JWT for the authorization server alone, of one minute, in which Mayfly says who acts for whom and what for; and the rest of the exchange:
 * RFC 8693 §2.1. It names no audience but the server's, so that it opens nothing by itself.
 */
export async function exchangeOf({ lease, params, scopes, issuer, issuedAt }: SubjectToken, signer: Signer): Promise<Record<string, string>> {
  const iat = Math.floor(issuedAt / 1000)
  const claims = {
    ...actors(lease),
    aud: params.subject_audience ?? issuer,
    iat,
    nbf: iat,
    exp: iat + LIFE_SECONDS,
    jti: lease.id,
    client_id: lease.agent,
    task: lease.task,
    role: lease.role,
    scope: scopes.join(' '),
  }
  return {
    subject_token: await signer.sign(claims, { typ: 'JWT' }),
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  }
}
