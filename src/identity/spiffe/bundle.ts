import { X509Certificate } from 'node:crypto'
import { isObject, type JsonObject } from '../json.js'
import { usableKeys, type VerificationKey } from '../jwk.js'
import type { Algorithm } from '../options.js'

const MAX_ENTRIES = 200

/** What one trust domain vouches with: SPIFFE Trust Domain and Bundle §4. */
export interface Bundle {
  /** Of JWT-SVIDs. */
  readonly keys: readonly VerificationKey[]
  /** Of X.509-SVIDs. */
  readonly authorities: readonly X509Certificate[]
  /** Entries of another use, or of no use. */
  readonly ignored: number
  readonly sequence?: number
  /** How often its publisher wants to be asked. */
  readonly refreshSeconds?: number
}

/** Throws an `Error` about what is no bundle at all; entries that cannot be used are left out (§4.1.3). */
export function parseBundle(document: unknown, algorithms: readonly Algorithm[]): Bundle {
  if (!isObject(document) || !Array.isArray(document.keys)) throw new Error('is not a SPIFFE bundle: it has no "keys"')
  if (document.keys.length > MAX_ENTRIES) throw new Error(`has over ${MAX_ENTRIES} keys`)
  const entries = document.keys.filter(isObject)
  const { keys } = usableKeys(entries.flatMap(jwtKey), algorithms)
  const authorities = distinct(entries.flatMap(authority))
  return {
    keys,
    authorities,
    ignored: document.keys.length - keys.length - authorities.length,
    sequence: wholeNumber(document, 'spiffe_sequence'),
    refreshSeconds: wholeNumber(document, 'spiffe_refresh_hint'),
  }
}

/** X.509 authorities without JWT keys, as meshes hand them out: PEM. */
export function parseAuthorities(pem: string): readonly X509Certificate[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  const authorities = distinct(found.flatMap((text) => authorityOf(text)))
  if (authorities.length === 0 || authorities.length < found.length)
    throw new Error('must hold certificates of authorities (CA, self-signed) and nothing else')
  return authorities
}

/** JWT-SVID §6: each has a `kid`. The `use` is SPIFFE's own, which says nothing to the reader of a JWK, and is taken off. */
function jwtKey({ use, ...jwk }: JsonObject): JsonObject[] {
  return use === 'jwt-svid' && typeof jwk.kid === 'string' && jwk.kid !== '' ? [jwk] : []
}

/** X509-SVID §6.2: the first value of `x5c` is the authority, whatever else the entry says. */
function authority({ use, x5c }: JsonObject): X509Certificate[] {
  if (use !== 'x509-svid' || !Array.isArray(x5c) || typeof x5c[0] !== 'string') return []
  return authorityOf(Buffer.from(x5c[0], 'base64'))
}

/** Self-signed, since trust ends with it: OpenSSL takes no other for an anchor. */
function authorityOf(encoded: string | Buffer): X509Certificate[] {
  try {
    const certificate = new X509Certificate(encoded)
    return certificate.ca && certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey) ? [certificate] : []
  } catch {
    return []
  }
}

function distinct(certificates: readonly X509Certificate[]): X509Certificate[] {
  return [...new Map(certificates.map((certificate) => [certificate.fingerprint256, certificate])).values()]
}

function wholeNumber(document: JsonObject, name: string): number | undefined {
  const value = document[name]
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) throw new Error(`has a "${name}" that is no whole number`)
  return value
}
