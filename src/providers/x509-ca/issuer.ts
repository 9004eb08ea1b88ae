import { createHash, sign } from 'node:crypto'
import type * as Schema from '@peculiar/asn1-schema'
import type * as X509 from '@peculiar/asn1-x509'
import { ProviderError } from '../provider.js'
import type { Authority } from './authorities.js'

/** The encoder of ASN.1, and the structures of RFC 5280. */
export interface Encoder {
  readonly asn1: typeof Schema
  readonly x509: typeof X509
}

/** An authority as it is named in what it signs. */
export interface Issuer {
  readonly authority: Authority
  /** As in its own certificate, octet for octet: names are compared so. */
  readonly name: X509.Name
  readonly keyIdentifier: ArrayBuffer
  readonly algorithm: X509.AlgorithmIdentifier
  sign(bytes: ArrayBuffer): ArrayBuffer
}

/** @throws ProviderError `invalid` when its certificate does not let it sign certificates and lists */
export function issuerOf({ asn1, x509 }: Encoder, authority: Authority): Issuer {
  const { tbsCertificate } = asn1.AsnConvert.parse(authority.certificate.raw, x509.Certificate)
  const extension = (id: string) => tbsCertificate.extensions?.find(({ extnID }) => extnID === id)?.extnValue
  const usage = extension(x509.id_ce_keyUsage)
  const may = usage && asn1.AsnConvert.parse(usage, x509.KeyUsage).toNumber()
  // RFC 5280 §4.2.1.3: without the extension it may do both.
  for (const flag of [x509.KeyUsageFlags.keyCertSign, x509.KeyUsageFlags.cRLSign])
    if (may !== undefined && (may & flag) === 0)
      throw new ProviderError('invalid', 'certificates: the key usage of an authority must allow both keyCertSign and cRLSign')
  const identifier = extension(x509.id_ce_subjectKeyIdentifier)
  const { scheme, key } = authority
  return {
    authority,
    name: tbsCertificate.subject,
    keyIdentifier: identifier
      ? asn1.AsnConvert.parse(identifier, x509.SubjectKeyIdentifier).buffer
      : keyIdentifierOf(tbsCertificate.subjectPublicKeyInfo.subjectPublicKey),
    algorithm: new x509.AlgorithmIdentifier({ algorithm: scheme.oid, ...(scheme.hasNull && { parameters: null }) }),
    sign: (bytes) => bufferOf(sign(scheme.digest, Buffer.from(bytes), key)),
  }
}

/** RFC 7093 §2, the first way: SHA-256 of the key, its leftmost 160 bits. */
export function keyIdentifierOf(publicKey: ArrayBuffer): ArrayBuffer {
  return bufferOf(createHash('sha256').update(Buffer.from(publicKey)).digest().subarray(0, 20))
}

export function bufferOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}

export function pemOf(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g)
  return `-----BEGIN ${label}-----\n${lines?.join('\n')}\n-----END ${label}-----\n`
}
