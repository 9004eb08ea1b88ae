import { z } from 'zod'
import type { Scope } from '../types.js'
import { actors } from './actors.js'
import { type LeasePlan, ProviderError, type ProviderModule } from './provider.js'

/** Claims that Mayfly alone writes: RFC 7519 §4.1, RFC 8693 §4, RFC 9068 §2.2, RFC 7800 §3.1. */
const OWN_CLAIMS = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'client_id', 'scope', 'act', 'may_act', 'cnf', 'task', 'role']
/** RFC 7519 §4.1.4 lets a verifier grant "a few minutes" past `exp`; one is what common libraries are set to at most by default. */
const VERIFIER_LEEWAY_SECONDS = 60
const MAX_SCOPE_LENGTH = 4096

const options = z.strictObject({
  /** What the audiences do: check the signature alone, or ask the broker (RFC 7662) each time. */
  verification: z.enum(['signature', 'introspection']).default('signature'),
})
const params = z.strictObject({
  audience: z.string().min(1).max(256),
  claims: z
    .record(z.string().min(1).max(64), z.json())
    .refine((claims) => !Object.keys(claims).some((name) => OWN_CLAIMS.includes(name)), `may set none of ${OWN_CLAIMS.join(', ')}`)
    .optional(),
  /** Name of the environment variable that holds the token. */
  env: z
    .string()
    .regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'must be the name of an environment variable')
    .default('MAYFLY_JWT'),
})
type Options = z.infer<typeof options>
type Params = z.infer<typeof params>

/** A JWT access token (RFC 9068) that Mayfly signs itself: nothing exists upstream. `docs/providers/jwt.md`. */
export const jwt: ProviderModule<Options, Params> = {
  type: 'jwt',
  options,
  params,
  needs: ['signing'],
  checkRole: (_params, scope) =>
    Object.keys(scope)
      .filter((key) => !/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/.test(key))
      .map(() => 'a scope key becomes part of the "scope" claim: use letters, digits, "_", "." and "-"'),

  target: () => 'in-process',

  async open({ verification }, { name, signer }) {
    if (!signer) throw new ProviderError('invalid', `provider "${name}" signs tokens: the configuration needs "signing"`)
    const introspected = verification === 'introspection'
    return {
      type: 'jwt',
      revocation: introspected ? 'immediate' : 'at-expiry',
      residualSeconds: introspected ? 0 : VERIFIER_LEEWAY_SECONDS,
      inProcess: true,
      handle: 'planned',
      cutsSessions: false,
      sensitiveHandle: false,
      expiryEndsUse: true,
      plan: () => ({}),
      async mint({ lease, params, issuedAt, expiresAt }) {
        const claims = claimsOf(lease, params, Math.floor(issuedAt / 1000), Math.floor(expiresAt / 1000))
        const token = await signer.sign(claims, { typ: 'at+jwt' })
        return { credential: { type: 'jwt', fields: { token, token_type: 'Bearer' }, env: { [params.env]: token } } }
      },
      // The ledger's state is the deny-list that introspection reads: once the lease is closing, the token is inactive.
      async revoke() {
        if (introspected) return 'revoked'
        throw new ProviderError('refused', 'a token that is only checked by its signature cannot be taken back before it expires')
      },
      check: () => Promise.resolve(),
      close: () => Promise.resolve(),
    }
  },
}

function claimsOf(lease: LeasePlan, { audience, claims }: Params, iat: number, exp: number): Record<string, unknown> {
  const scope = scopeClaim(lease.scope)
  return {
    ...claims,
    ...actors(lease),
    aud: audience,
    iat,
    nbf: iat,
    exp,
    jti: lease.id,
    client_id: lease.agent,
    task: lease.task,
    role: lease.role,
    ...(scope === '' ? {} : { scope }),
  }
}

/**
 * `key=value` for each value, sorted, separated by spaces (RFC 6749 §3.3); what is not a letter, a digit or one of `-_.!~*'()/:@` is
 * percent-encoded, so that no value can pass for two.
 */
function scopeClaim(scope: Scope): string {
  const parts = Object.entries(scope).flatMap(([key, value]) => [value].flat().map((one) => `${encode(key)}=${encode(one)}`))
  const claim = parts.sort().join(' ')
  if (claim.length > MAX_SCOPE_LENGTH)
    throw new ProviderError('invalid', `the scope is longer than the ${MAX_SCOPE_LENGTH} characters a token may hold`)
  return claim
}

function encode(text: string): string {
  try {
    return encodeURIComponent(text).replaceAll('%2F', '/').replaceAll('%3A', ':').replaceAll('%40', '@')
  } catch (cause) {
    throw new ProviderError('invalid', 'the scope holds text that is not well-formed Unicode', { cause })
  }
}
