/**
 * Key revocation lists of OpenSSH: https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.krl. No library writes them. Revoked is by
 * key id and for every authority, so that the certificates of a key that was rotated out stay revoked too (OpenSSH >= 6.8).
 */

const MAGIC = 0x5353484b524c0a00n
const FORMAT_VERSION = 1
const SECTION_CERTIFICATES = 1
const CERTIFICATES_BY_KEY_ID = 0x23

export interface Krl {
  /** Grows with each change; the register's versions follow the clock, in milliseconds. */
  readonly version: number
  readonly keyIds: readonly string[]
}

export function encodeKrl({ version, keyIds }: Krl): Buffer {
  // Of the version, so that every broker makes the same bytes of the same list.
  const generatedAt = uint64(BigInt(Math.floor(version / 1000)))
  const flags = uint64(0n)
  const reserved = string('')
  const comment = string('')
  const header = [uint64(MAGIC), uint32(FORMAT_VERSION), uint64(BigInt(version)), generatedAt, flags, reserved, comment]
  if (keyIds.length === 0) return Buffer.concat(header)
  const everyAuthority = string('')
  const section = Buffer.concat([everyAuthority, reserved, byte(CERTIFICATES_BY_KEY_ID), string(Buffer.concat(keyIds.map(string)))])
  return Buffer.concat([...header, byte(SECTION_CERTIFICATES), string(section)])
}

/** RFC 4251 §5: `byte`, `uint32`, `uint64`, `string`. */
function byte(value: number): Buffer {
  return Buffer.from([value])
}
function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}
export function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint32(bytes.length), bytes])
}
