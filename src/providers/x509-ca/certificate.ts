import { generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { Extension } from '@peculiar/asn1-x509'
import { bufferOf, type Encoder, type Issuer, keyIdentifierOf, pemOf } from './issuer.js'
import type { Names } from './names.js'

export interface Subject {
  readonly publicKey: KeyObject
  /** Hexadecimal, 20 octets. */
  readonly serial: string
  readonly names: Names
  /** Milliseconds since the epoch; a certificate counts whole seconds. */
  readonly validFrom: number
  readonly validUntil: number
  readonly crlUrl: string | undefined
}

const generate = promisify(generateKeyPair)

/** A key pair for one lease: its private half leaves the broker once, with the credential. */
export function newSubjectKey(): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  return generate('ec', { namedCurve: 'P-256' })
}

/** A client certificate as PEM: RFC 5280 §4.1, §4.2. */
export function signCertificate(encoder: Encoder, issuer: Issuer, subject: Subject): string {
  const { asn1, x509 } = encoder
  const subjectPublicKeyInfo = asn1.AsnConvert.parse(subject.publicKey.export({ type: 'spki', format: 'der' }), x509.SubjectPublicKeyInfo)
  const tbsCertificate = new x509.TBSCertificate({
    version: x509.Version.v3,
    serialNumber: bufferOf(Buffer.from(subject.serial, 'hex')),
    signature: issuer.algorithm,
    issuer: issuer.name,
    validity: new x509.Validity({ notBefore: wholeSeconds(subject.validFrom), notAfter: wholeSeconds(subject.validUntil) }),
    subject: nameOf(encoder, subject.names.commonName),
    subjectPublicKeyInfo,
    extensions: new x509.Extensions(extensionsOf(encoder, issuer, subject, subjectPublicKeyInfo.subjectPublicKey)),
  })
  const signatureValue = issuer.sign(asn1.AsnConvert.serialize(tbsCertificate))
  const certificate = new x509.Certificate({ tbsCertificate, signatureAlgorithm: issuer.algorithm, signatureValue })
  return pemOf('CERTIFICATE', Buffer.from(asn1.AsnConvert.serialize(certificate)))
}

function nameOf({ x509 }: Encoder, commonName: string) {
  const value = new x509.AttributeValue({ utf8String: commonName })
  const attribute = new x509.AttributeTypeAndValue({ type: '2.5.4.3', value })
  return new x509.Name([new x509.RelativeDistinguishedName([attribute])])
}

function extensionsOf({ asn1, x509 }: Encoder, issuer: Issuer, { names, crlUrl }: Subject, publicKey: ArrayBuffer): Extension[] {
  const extension = (extnID: string, critical: boolean, value: object) =>
    new x509.Extension({ extnID, critical, extnValue: new asn1.OctetString(asn1.AsnConvert.serialize(value)) })
  const alternatives = [
    ...names.uris.map((uri) => new x509.GeneralName({ uniformResourceIdentifier: uri })),
    ...names.dns.map((name) => new x509.GeneralName({ dNSName: name })),
  ]
  const distributionPoint = (url: string) => {
    const fullName = [new x509.GeneralName({ uniformResourceIdentifier: url })]
    return new x509.DistributionPoint({ distributionPoint: new x509.DistributionPointName({ fullName }) })
  }
  return [
    extension(x509.id_ce_basicConstraints, true, new x509.BasicConstraints({ cA: false })),
    extension(x509.id_ce_keyUsage, true, new x509.KeyUsage(x509.KeyUsageFlags.digitalSignature)),
    extension(x509.id_ce_extKeyUsage, false, new x509.ExtendedKeyUsage([x509.id_kp_clientAuth])),
    extension(x509.id_ce_subjectKeyIdentifier, false, new x509.SubjectKeyIdentifier(keyIdentifierOf(publicKey))),
    extension(
      x509.id_ce_authorityKeyIdentifier,
      false,
      new x509.AuthorityKeyIdentifier({ keyIdentifier: new x509.KeyIdentifier(issuer.keyIdentifier) }),
    ),
    ...(alternatives.length === 0 ? [] : [extension(x509.id_ce_subjectAltName, false, new x509.SubjectAlternativeName(alternatives))]),
    ...(crlUrl === undefined
      ? []
      : [extension(x509.id_ce_cRLDistributionPoints, false, new x509.CRLDistributionPoints([distributionPoint(crlUrl)]))]),
  ]
}

function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000)
}
