import { bufferOf, type Encoder, type Issuer } from './issuer.js'

export interface RevocationList {
  /** Of the register: grows with each change, and is the same for the same entries. */
  readonly version: number
  /** Hexadecimal, 20 octets each. */
  readonly serials: readonly string[]
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** Room for seconds since the epoch. */
const SECONDS_BITS = 40n

/**
 * A certificate revocation list, RFC 5280 §5, as DER. What is fixed in it the library writes; its entries, of which there may be thousands, are
 * two fields each and are put together here: the library takes half a second for 5,000, in which the broker would do nothing else.
 */
export function signCrl({ asn1, x509 }: Encoder, issuer: Issuer, { version, serials, thisUpdate, nextUpdate }: RevocationList): Buffer {
  const encode = (value: object) => Buffer.from(asn1.AsnConvert.serialize(value))
  const extension = (extnID: string, value: Buffer) =>
    new x509.Extension({ extnID, critical: false, extnValue: new asn1.OctetString(bufferOf(value)) })
  const algorithm = encode(issuer.algorithm)
  const time = encode(new x509.Time(wholeSeconds(thisUpdate)))
  // The register keeps no time of the revoke, and it was not later than this.
  const entries = serials.map((serial) => der(SEQUENCE, integer(serial), time))
  const extensions = new x509.Extensions([
    extension(
      x509.id_ce_authorityKeyIdentifier,
      encode(new x509.AuthorityKeyIdentifier({ keyIdentifier: new x509.KeyIdentifier(issuer.keyIdentifier) })),
    ),
    extension(x509.id_ce_cRLNumber, integer(numberOf(version, thisUpdate))),
  ])
  const list = der(
    SEQUENCE,
    integer('01'), // v2
    algorithm,
    encode(issuer.name),
    time,
    encode(new x509.Time(wholeSeconds(nextUpdate))),
    // RFC 5280 §5.1.2.6: absent when there are none.
    ...(entries.length === 0 ? [] : [der(SEQUENCE, ...entries)]),
    der(EXPLICIT_0, encode(extensions)),
  )
  const signature = Buffer.from(issuer.sign(bufferOf(list)))
  return der(SEQUENCE, list, algorithm, der(BIT_STRING, NO_UNUSED_BITS, signature))
}

/**
 * RFC 5280 §5.2.3: lists of different times must not have the same number, so that the version alone, which stays when a list is only signed
 * anew, would not do. Later entries always have a greater number.
 */
function numberOf(version: number, thisUpdate: number): string {
  const number = (BigInt(version) << SECONDS_BITS) | BigInt(Math.floor(thisUpdate / 1000))
  const digits = number.toString(16)
  return digits.length % 2 === 0 ? digits : `0${digits}`
}

const SEQUENCE = 0x30
const INTEGER = 0x02
const BIT_STRING = 0x03
const EXPLICIT_0 = 0xa0
const NO_UNUSED_BITS = Buffer.from([0])

/** X.690 §8.1: tag, length, contents. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const length = contents.reduce((sum, one) => sum + one.length, 0)
  const octets: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  const head = length < 128 ? [tag, length] : [tag, 0x80 | octets.length, ...octets]
  return Buffer.concat([Buffer.from(head), ...contents])
}

/** A number that is not negative, of whole octets: X.690 §8.3 wants a zero before a first bit of one, and no other. */
function integer(hex: string): Buffer {
  const bytes = Buffer.from(hex, 'hex')
  const first = bytes[0] ?? 0
  return first >= 0x80 ? der(INTEGER, Buffer.from([0]), bytes) : der(INTEGER, bytes)
}

function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000)
}
