import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import * as asn1 from '@peculiar/asn1-schema'
import * as x509 from '@peculiar/asn1-x509'

/** What a certificate is to say, rightly or wrongly. */
export interface CertificateShape {
  readonly commonName?: string
  readonly uris?: readonly string[]
  readonly dns?: readonly string[]
  /** Absent: no basic constraints. */
  readonly ca?: boolean
  /** Absent: no key usage. */
  readonly usage?: number
  readonly extendedUsage?: readonly string[]
  /** The names are said twice, in two extensions. */
  readonly twice?: boolean
  /** Milliseconds since the epoch. */
  readonly notBefore?: number
  readonly notAfter?: number
  /** Another certificate of the same key. */
  readonly renews?: Made
}
export interface Made {
  readonly der: Buffer
  readonly pem: string
  readonly privateKey: KeyObject
  /** As PEM. */
  readonly key: string
  readonly name: x509.Name
}

export const { digitalSignature, keyCertSign, cRLSign, keyEncipherment, nonRepudiation } = x509.KeyUsageFlags
export const { id_kp_clientAuth: CLIENT_AUTH, id_kp_serverAuth: SERVER_AUTH } = x509
const MINUTE_MS = 60_000
const ECDSA_SHA256 = new x509.AlgorithmIdentifier({ algorithm: '1.2.840.10045.4.3.2' })

/** A certificate of any shape, signed by an authority, or by itself. Written out by hand: what no well-behaved issuer makes is asked for too. */
export function makeCertificate(shape: CertificateShape, issuer?: Made): Made {
  const { publicKey, privateKey } = shape.renews
    ? { publicKey: createPublicKey(shape.renews.key), privateKey: shape.renews.privateKey }
    : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const subjectPublicKeyInfo = asn1.AsnConvert.parse(publicKey.export({ type: 'spki', format: 'der' }), x509.SubjectPublicKeyInfo)
  const name = nameOf(shape.commonName)
  const now = Date.now()
  const tbsCertificate = new x509.TBSCertificate({
    version: x509.Version.v3,
    serialNumber: bufferOf(Buffer.concat([Buffer.of(1), randomBytes(15)])),
    signature: ECDSA_SHA256,
    issuer: issuer?.name ?? name,
    validity: new x509.Validity({
      notBefore: seconds(shape.notBefore ?? now - MINUTE_MS),
      notAfter: seconds(shape.notAfter ?? now + 60 * MINUTE_MS),
    }),
    subject: name,
    subjectPublicKeyInfo,
    extensions: new x509.Extensions(extensionsOf(shape, subjectPublicKeyInfo.subjectPublicKey)),
  })
  const signature = sign('sha256', Buffer.from(asn1.AsnConvert.serialize(tbsCertificate)), issuer?.privateKey ?? privateKey)
  const certificate = new x509.Certificate({ tbsCertificate, signatureAlgorithm: ECDSA_SHA256, signatureValue: bufferOf(signature) })
  const der = Buffer.from(asn1.AsnConvert.serialize(certificate))
  return { der, pem: pemOf(der), privateKey, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), name }
}

export function makeAuthority(commonName: string, shape: CertificateShape = {}, issuer?: Made): Made {
  return makeCertificate({ commonName, ca: true, usage: keyCertSign | cRLSign, ...shape }, issuer)
}

/** As X509-SVID §4 wants a leaf. */
export function makeSvid(uri: string, issuer: Made, shape: CertificateShape = {}): Made {
  return makeCertificate({ uris: [uri], ca: false, usage: digitalSignature, extendedUsage: [CLIENT_AUTH, SERVER_AUTH], ...shape }, issuer)
}

function extensionsOf(
  { uris = [], dns = [], ca, usage, extendedUsage, commonName, twice }: CertificateShape,
  publicKey: ArrayBuffer,
): x509.Extension[] {
  const extension = (extnID: string, critical: boolean, value: object) =>
    new x509.Extension({ extnID, critical, extnValue: new asn1.OctetString(asn1.AsnConvert.serialize(value)) })
  const alternatives = [
    ...uris.map((uri) => new x509.GeneralName({ uniformResourceIdentifier: uri })),
    ...dns.map((name) => new x509.GeneralName({ dNSName: name })),
  ]
  const keyIdentifier = bufferOf(createHash('sha256').update(Buffer.from(publicKey)).digest().subarray(0, 20))
  const names =
    alternatives.length === 0 ? [] : [extension(x509.id_ce_subjectAltName, commonName === undefined, new x509.SubjectAlternativeName(alternatives))]
  return [
    ...(ca === undefined ? [] : [extension(x509.id_ce_basicConstraints, true, new x509.BasicConstraints({ cA: ca }))]),
    ...(usage === undefined ? [] : [extension(x509.id_ce_keyUsage, true, new x509.KeyUsage(usage))]),
    ...(extendedUsage === undefined ? [] : [extension(x509.id_ce_extKeyUsage, false, new x509.ExtendedKeyUsage([...extendedUsage]))]),
    extension(x509.id_ce_subjectKeyIdentifier, false, new x509.SubjectKeyIdentifier(keyIdentifier)),
    ...names,
    ...(twice ? names : []),
  ]
}

function nameOf(commonName: string | undefined): x509.Name {
  if (commonName === undefined) return new x509.Name([])
  const attribute = new x509.AttributeTypeAndValue({ type: '2.5.4.3', value: new x509.AttributeValue({ utf8String: commonName }) })
  return new x509.Name([new x509.RelativeDistinguishedName([attribute])])
}

function pemOf(der: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
}

function seconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000)
}

function bufferOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}
