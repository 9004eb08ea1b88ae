import { createPrivateKey, type KeyObject, sign } from 'node:crypto'
import jose from 'node-jose'
import type { IdentityCapabilities } from '../../src/identity/identity.js'
import type { IdentityOptions, JwksIssuerOptions } from '../../src/identity/options.js'

/** 2026-07-01T00:00:00Z. */
export const START = 1_782_864_000_000
export const ISSUER = 'https://idp.example'

export interface Clock {
  at: number
}
/** What the house gives to identity, with a clock that stands still and a store of spent tokens that several may share. */
export function house(clock: Clock = { at: START }, spent = new Set<string>()): IdentityCapabilities {
  return {
    now: () => clock.at,
    async consume(hash) {
      if (spent.has(hash)) return false
      spent.add(hash)
      return true
    },
  }
}

export interface Signer {
  readonly kid: string
  readonly alg: string
  /** As published. */
  readonly jwk: { readonly kty?: string } & Record<string, unknown>
  readonly privateKey: KeyObject
  /** A token by `node-jose`. */
  token(claims?: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>
}

const KINDS = {
  ES256: ['EC', 'P-256'],
  ES384: ['EC', 'P-384'],
  RS256: ['RSA', 2048],
  PS256: ['RSA', 2048],
} as const

export async function newSigner(alg: keyof typeof KINDS = 'ES256', kid = `${alg}-${crypto.randomUUID()}`): Promise<Signer> {
  const [kty, size] = KINDS[alg]
  const key = await jose.JWK.createKey(kty, size, { alg, kid, use: 'sig' })
  const privateKey = createPrivateKey(key.toPEM(true))
  return {
    kid,
    alg,
    jwk: key.toJSON() as Signer['jwk'],
    privateKey,
    async token(claims = {}, header = {}) {
      // A string would be taken for binary.
      const payload = Buffer.from(JSON.stringify({ ...goodClaims(), ...claims }))
      const made = await jose.JWS.createSign({ format: 'compact', fields: { typ: 'JWT', ...header } }, key)
        .update(payload)
        .final()
      return String(made)
    },
  }
}

export function goodClaims(): Record<string, unknown> {
  const now = START / 1000
  return { iss: ISSUER, sub: 'worker-1', aud: 'mayfly', iat: now - 10, nbf: now - 10, exp: now + 600 }
}

/** Any two texts, signed with ES256, well-formed or not. */
export function rawToken(header: string | Record<string, unknown>, payload: string | Record<string, unknown>, privateKey: KeyObject): string {
  const part = (value: string | Record<string, unknown>) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
  const input = `${part(header)}.${part(payload)}`
  return `${input}.${sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

/** One static issuer whose every subject is an agent of the same name. */
export function staticOptions(signer: Signer, issuer: Partial<JwksIssuerOptions> = {}): IdentityOptions {
  return {
    issuers: { idp: { kind: 'jwks', keys: { keys: [signer.jwk] }, issuer: ISSUER, audience: 'mayfly', ...issuer } },
    agents: [{ id: 'agents/{sub}', match: { issuer: 'idp', claims: {} }, owner: 'sre@example.com', autonomy: 'autonomous' }],
    ownIssuers: ['https://mayfly.example'],
  }
}

export const bearer = (token: string) => `Bearer ${token}`
