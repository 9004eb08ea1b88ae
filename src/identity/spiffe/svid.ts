import type { Certificate, Extension } from '@peculiar/asn1-x509'
import { refuse } from '../refuse.js'
import { parseSpiffeId, type SpiffeId } from './id.js'

/** Loaded with the first certificate: most brokers see none. */
async function loadAsn1() {
  const [asn1, x509] = await Promise.all([import('@peculiar/asn1-schema'), import('@peculiar/asn1-x509')])
  return { asn1, x509 }
}

/**
 * Who a leaf certificate says it is: X509-SVID §2, §4, §5.2. Exactly one URI, which is the SPIFFE ID of a workload; to sign with, and not to sign other
 * certificates with. Whether it is to be believed is another question.
 */
export async function readSvid(der: Uint8Array): Promise<SpiffeId> {
  return (await svidReader())(der)
}

/** The same, for where nothing can be waited for. */
export async function svidReader(): Promise<(der: Uint8Array) => SpiffeId> {
  const encoder = await loadAsn1()
  return (der) => read(der, encoder)
}

function read(der: Uint8Array, { asn1, x509 }: Awaited<ReturnType<typeof loadAsn1>>): SpiffeId {
  const parse = <T>(bytes: ArrayBuffer | Uint8Array, type: new () => T): T => {
    try {
      return asn1.AsnConvert.parse(bytes, type)
    } catch (error) {
      refuse('token_invalid', 'the certificate cannot be read', error)
    }
  }
  const certificate = parse(der, x509.Certificate)
  const contentOf = <T>(id: string, type: new () => T): T | undefined => {
    const extension = onlyOne(certificate, id)
    return extension && parse(extension.extnValue.buffer, type)
  }
  if (contentOf(x509.id_ce_basicConstraints, x509.BasicConstraints)?.cA) refuse('token_invalid', 'it is the certificate of an authority')
  const usage = contentOf(x509.id_ce_keyUsage, x509.KeyUsage)?.toNumber() ?? 0
  if ((usage & (x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign)) !== 0) refuse('token_invalid', 'its key usage is that of an authority')
  if ((usage & x509.KeyUsageFlags.digitalSignature) === 0) refuse('token_invalid', 'its key usage does not include digitalSignature')
  const names = contentOf(x509.id_ce_subjectAltName, x509.SubjectAlternativeName) ?? []
  const [uri, another] = [...names].flatMap(({ uniformResourceIdentifier }) => uniformResourceIdentifier ?? [])
  if (uri === undefined || another !== undefined) refuse('token_invalid', 'the certificate has no URI as its subject alternative name, or several')
  const id = parseSpiffeId(uri)
  if ('refused' in id) refuse('token_invalid', `the URI of the certificate is no SPIFFE ID of a workload: it ${id.refused}`)
  return id
}

/** RFC 5280 §4.2: an extension is there once; of two, one of us could read the first and another the second. */
function onlyOne({ tbsCertificate }: Certificate, id: string): Extension | undefined {
  const [extension, another] = tbsCertificate.extensions?.filter(({ extnID }) => extnID === id) ?? []
  if (another !== undefined) refuse('token_invalid', 'an extension of the certificate is repeated')
  return extension
}
