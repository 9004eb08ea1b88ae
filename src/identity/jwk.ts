import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { isObject, type JsonObject } from './json.js'
import type { Algorithm } from './options.js'

const MAX_KEYS = 100
const MIN_RSA_BITS = 2048
const CURVES: Readonly<Record<string, readonly Algorithm[]>> = {
  'EC P-256': ['ES256'],
  'EC P-384': ['ES384'],
  'EC P-521': ['ES512'],
  // One algorithm under two names: RFC 8037 and RFC 9864.
  'OKP Ed25519': ['Ed25519', 'EdDSA'],
}
const RSA: readonly string[] = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']

/** A public key of one issuer, good for one algorithm (RFC 8725 §3.1). */
export interface VerificationKey {
  /** Same text, same key: kid, algorithm and material. */
  readonly id: string
  readonly kid?: string
  readonly algorithms: readonly Algorithm[]
  readonly key: KeyObject
}

/** The usable keys of a JWK Set, and how many were left out: other use, other type, too small, private, or not on the issuer's list. */
export function usableKeys(jwks: readonly unknown[], allowed: readonly Algorithm[]): { keys: VerificationKey[]; ignored: number } {
  if (jwks.length > MAX_KEYS) throw new Error(`the key set has over ${MAX_KEYS} keys`)
  const keys = jwks.map((jwk) => usableKey(jwk, allowed)).filter((key) => key !== undefined)
  return { keys, ignored: jwks.length - keys.length }
}

function usableKey(jwk: unknown, allowed: readonly Algorithm[]): VerificationKey | undefined {
  if (!isObject(jwk)) return
  const { use, key_ops: operations, kid, d } = jwk
  if (use !== undefined && use !== 'sig') return
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return
  if (kid !== undefined && typeof kid !== 'string') return
  // A key set that publishes private keys vouches for nothing.
  if (d !== undefined) return
  const algorithms = algorithmsOf(jwk, allowed)
  if (algorithms.length === 0) return
  const key = importPublic(jwk)
  if (key === undefined || (jwk.kty === 'RSA' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < MIN_RSA_BITS)) return
  const material = createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('base64url')
  return { id: JSON.stringify([kid ?? null, algorithms, material]), kid, algorithms, key }
}

/** By the key's own `alg`; without one by its curve; an RSA key without one is for RS256, or else the first RSA algorithm on the list. */
function algorithmsOf(jwk: JsonObject, allowed: readonly Algorithm[]): readonly Algorithm[] {
  const fitting = jwk.kty === 'RSA' ? allowed.filter((algorithm) => RSA.includes(algorithm)) : (CURVES[`${jwk.kty} ${jwk.crv}`] ?? [])
  const permitted = fitting.filter((algorithm) => allowed.includes(algorithm))
  if (jwk.alg !== undefined) {
    if (jwk.kty === 'RSA') return permitted.filter((algorithm) => algorithm === jwk.alg)
    return fitting.some((algorithm) => algorithm === jwk.alg) ? permitted : []
  }
  if (jwk.kty !== 'RSA') return permitted
  return permitted.includes('RS256') ? ['RS256'] : permitted.slice(0, 1)
}

function importPublic(jwk: JsonObject): KeyObject | undefined {
  const { kty, crv, n, e, x, y } = jwk
  try {
    return createPublicKey({ key: JSON.parse(JSON.stringify({ kty, crv, n, e, x, y })), format: 'jwk' })
  } catch {
    return undefined
  }
}
