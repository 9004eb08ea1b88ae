import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'

/** Who signs certificates and revocation lists. */
export interface Authority {
  readonly certificate: X509Certificate
  readonly key: KeyObject
  readonly scheme: Scheme
}
/** How a kind of key signs: RFC 5758 §3.2, RFC 4055 §5, RFC 8410 §3. */
interface Scheme {
  readonly oid: string
  readonly digest: string | null
  /** RSA alone writes NULL where the others write nothing. */
  readonly hasNull: boolean
}

const CURVES: Readonly<Record<string, Scheme>> = {
  prime256v1: { oid: '1.2.840.10045.4.3.2', digest: 'sha256', hasNull: false },
  secp384r1: { oid: '1.2.840.10045.4.3.3', digest: 'sha384', hasNull: false },
  secp521r1: { oid: '1.2.840.10045.4.3.4', digest: 'sha512', hasNull: false },
}
const RSA: Scheme = { oid: '1.2.840.113549.1.1.11', digest: 'sha256', hasNull: true }
const ED25519: Scheme = { oid: '1.3.101.112', digest: null, hasNull: false }
const LEAST_RSA_BITS = 3072

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g
const PRIVATE_KEY = /-----BEGIN (?<label>[A-Z ]*PRIVATE KEY)-----[\s\S]*?-----END \k<label>-----/g

/** What is wrong with the texts, in a sentence that holds none of them. */
export class AuthorityProblem extends Error {
  override readonly name = 'AuthorityProblem'
}

/** Each certificate with the key that belongs to it, in the order of the certificates. @throws AuthorityProblem */
export function readAuthorities(certificates: string, keys: string): [Authority, ...Authority[]] {
  const found = all(certificates, CERTIFICATE, 'certificates: certificate', (pem) => new X509Certificate(pem))
  const given = all(keys, PRIVATE_KEY, 'keys: key', (pem) => createPrivateKey(pem))
  const [first, ...others] = found.map((certificate, index) => authorityOf(certificate, given, `certificates: certificate ${index + 1}`))
  if (first === undefined) throw new AuthorityProblem('certificates: holds no certificate as PEM')
  const authorities = [first, ...others] satisfies [Authority, ...Authority[]]
  if (new Set(authorities.map(({ key }) => key)).size < authorities.length) throw new AuthorityProblem('certificates: two have the same key')
  if (given.some((key) => authorities.every((one) => one.key !== key))) throw new AuthorityProblem('keys: holds a key that belongs to no certificate')
  return authorities
}

function all<T>(text: string, pattern: RegExp, what: string, read: (pem: string) => T): T[] {
  return [...text.matchAll(pattern)].map(([pem], index) => {
    try {
      return read(pem)
    } catch {
      // OpenSSL's errors may quote what they could not read.
      throw new AuthorityProblem(`${what} ${index + 1} cannot be read; keys are given without a passphrase`)
    }
  })
}

function authorityOf(certificate: X509Certificate, keys: readonly KeyObject[], where: string): Authority {
  const key = keys.find((one) => certificate.checkPrivateKey(one))
  if (key === undefined) throw new AuthorityProblem(`${where} does not match any of the private keys`)
  if (!certificate.ca) throw new AuthorityProblem(`${where} is not that of an authority: it lacks basicConstraints CA:TRUE`)
  return { certificate, key, scheme: schemeOf(key, where) }
}

function schemeOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject, where: string): Scheme {
  const curve = CURVES[details?.namedCurve ?? '']
  if (type === 'ec' && curve !== undefined) return curve
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= LEAST_RSA_BITS) return RSA
  if (type === 'ed25519') return ED25519
  throw new AuthorityProblem(`${where} has a key that may not sign: use P-256, P-384, P-521, Ed25519, or RSA with at least ${LEAST_RSA_BITS} bits`)
}
