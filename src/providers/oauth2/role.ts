import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { ProviderError } from '../provider.js'

const MAX_SCOPES = 100
/** RFC 6749 §3.3. */
const scopeToken = z
  .string()
  .regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/, 'must be one scope: visible ASCII without blanks, quotes and backslashes')
  .refine((scope) => scope !== 'offline_access', 'asks for a refresh token, which would outlive the lease')
const printable = z.string().regex(/^[\x20-\x7e]{1,2048}$/, 'must be 1 to 2048 ASCII characters')

export const params = z.strictObject({
  /** As the client itself (RFC 6749 §4.4), or in exchange for a token in which Mayfly says for whom (RFC 8693). */
  grant: z.enum(['client_credentials', 'token_exchange']),
  scopes: z
    .array(scopeToken)
    .min(1)
    .max(MAX_SCOPES)
    .refine((all) => new Set(all).size === all.length, 'names one twice')
    .describe('a request without would be given whatever the server gives by default'),
  /** RFC 8707 §2: an absolute URI without a fragment. */
  resource: printable.refine((text) => URL.canParse(text) && !/[#\s]/.test(text), 'must be an absolute URI without a fragment').optional(),
  /** RFC 8693 §2.1; several servers take it with client credentials too. */
  audience: printable.optional(),
  /** `aud` of the token in which Mayfly says for whom; the issuer when absent. */
  subject_audience: printable.optional(),
  /** Name of the environment variable that holds the token. */
  env: z
    .string()
    .regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'must be the name of an environment variable')
    .default('OAUTH2_ACCESS_TOKEN'),
})
export type Params = z.infer<typeof params>

export function checkRole({ grant, subject_audience }: Params, scope: Readonly<Record<string, ScopeKind>>): string[] {
  return [
    ...(grant === 'client_credentials' && subject_audience !== undefined ? ['params.subject_audience: is for the grant token_exchange'] : []),
    ...Object.entries(scope)
      .filter(([key, kind]) => key !== 'scopes' || kind === 'path')
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; an oauth2 role may have scope {scopes: set}`),
  ]
}

/** @throws ProviderError `invalid` for what the role does not have */
export function narrow({ scopes }: Params, scope: Scope): readonly string[] {
  for (const key of Object.keys(scope)) if (key !== 'scopes') throw new ProviderError('invalid', 'this role is narrowed by scopes alone')
  if (scope.scopes === undefined) return scopes
  const wanted = new Set([scope.scopes].flat())
  // None at all would be the server's default.
  if (wanted.size === 0) throw new ProviderError('invalid', 'the scope names nothing; leave it out to have all that the role has')
  const left = scopes.filter((one) => wanted.has(one))
  if (left.length !== wanted.size) throw new ProviderError('invalid', 'the scope names OAuth scopes that the role does not have')
  return left
}
