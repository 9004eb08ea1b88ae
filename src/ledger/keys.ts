import { hash, randomBytes } from 'node:crypto'

/**
 * Every key name and every id of the ledger. All keys of one task tree carry the hash tag of its partition, so that each script
 * stays in one slot of a Redis Cluster; a script is given one key and derives the others from that key's first nine characters. Two of them, where all is
 * on one server, are given the keys of all partitions: what must not wait (`freeze`), and what is asked all the time (`peek`).
 */
export const META = 'mf:meta'
/** Channel on which a broker tells the others that work is due now, or by its id of a freeze that it could not write everywhere: a hint, nothing rests on it. */
export const DUE_CHANNEL = 'mf:due'

/** Two digits in the hash tag. */
export const MOST_PARTITIONS = 100

const TAGS = Array.from({ length: MOST_PARTITIONS }, (_, partition) => String(partition).padStart(2, '0'))
const PREFIXES = TAGS.map((tag) => `mf:{p${tag}}:`)

export type IdKind = 'task' | 'lease' | 'freeze' | 'revocation' | 'approval'

const ID = /^(task|lease|freeze|revocation|approval)_(\d\d)[a-z2-7]{26}$/

/** Partition of an id that this installation could have made; undefined for anything else a caller may have sent. */
export function partitionOf(id: string, kind: IdKind, partitions: number): number | undefined {
  const parts = ID.exec(id)
  if (parts?.[1] !== kind) return undefined
  const partition = Number(parts[2])
  return partition < partitions ? partition : undefined
}

/** Of a key that `keys` made. */
export function partitionOfKey(key: string): number {
  return Number(key.slice(TAG_AT, TAG_AT + 2))
}
const TAG_AT = 'mf:{p'.length

/** `<kind>_<pp><base32>` with 128 random bits. */
export function newId(kind: IdKind, partition: number): string {
  return `${kind}_${TAGS[partition]}${base32(randomId())}`
}

const ID_BYTES = 16
const POOL_BYTES = 4_096
let pool = Buffer.alloc(0)
let used = 0

/** From a pool: asking the system for each id is a good part of the cost of a lease. No byte is given out twice. */
function randomId(): Buffer {
  if (used + ID_BYTES > pool.length) {
    pool = randomBytes(POOL_BYTES)
    used = 0
  }
  used += ID_BYTES
  return pool.subarray(used - ID_BYTES, used)
}

/** Which partition a name from outside belongs to. */
export function partitionFor(name: string, partitions: number): number {
  return hash('sha256', name, 'buffer').readUInt32BE(0) % partitions
}

/** How names from outside enter keys: 128 bits of SHA-256. */
export function hashed(...names: string[]): string {
  return hash('sha256', JSON.stringify(names), 'base64url').slice(0, 22)
}

export const keys = {
  prefix: (partition: number): string => PREFIXES[partition] ?? outOfRange(partition),
  task: (partition: number, id: string) => `${keys.prefix(partition)}task:${id}`,
  lease: (partition: number, id: string) => `${keys.prefix(partition)}lease:${id}`,
  approval: (partition: number, id: string) => `${keys.prefix(partition)}approval:${id}`,
  freezes: (partition: number) => `${keys.prefix(partition)}freezes`,
  events: (partition: number) => `${keys.prefix(partition)}events`,
  refused: (partition: number) => `${keys.prefix(partition)}refused`,
  wait: (partition: number) => `${keys.prefix(partition)}wait`,
  audit: (partition: number) => `${keys.prefix(partition)}audit`,
  sweep: (partition: number) => `${keys.prefix(partition)}sweep`,
  providers: (partition: number) => `${keys.prefix(partition)}providers`,
  sealed: (partition: number) => `${keys.prefix(partition)}sealed`,
  thaw: (partition: number, id: string) => `${keys.prefix(partition)}thaw:${id}`,
  revocation: (partition: number, id: string) => `${keys.prefix(partition)}revocation:${id}`,
  progress: (partition: number, id: string) => `${keys.prefix(partition)}progress:${id}`,
  rows: (partition: number, id: string) => `${keys.prefix(partition)}rows:${id}`,
  outcomes: (partition: number, id: string) => `${keys.prefix(partition)}outcomes:${id}`,
  revocations: (partition: number) => `${keys.prefix(partition)}revocations`,
  sighted: (partition: number, provider: string) => `${keys.prefix(partition)}sighted:${provider}`,
  seen: (partition: number, hash: string) => `${keys.prefix(partition)}seen:${hash}`,
  agentTasks: (partition: number, hash: string) => `${keys.prefix(partition)}agent:${hash}:tasks`,
  register: (partition: number, hash: string) => `${keys.prefix(partition)}register:${hash}`,
  agentLive: (partition: number, hash: string) => `${keys.prefix(partition)}agent:${hash}:live`,
  agentRisk: (partition: number, hash: string) => `${keys.prefix(partition)}agent:${hash}:risk`,
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'

/** RFC 4648 §6, lower case, unpadded. */
function base32(bytes: Buffer): string {
  let out = ''
  let held = 0
  let bits = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      out += ALPHABET[(held >> bits) & 31]
    }
    held &= (1 << bits) - 1
  }
  return bits > 0 ? out + ALPHABET[(held << (5 - bits)) & 31] : out
}

function outOfRange(partition: number): never {
  throw new RangeError(`there is no partition ${partition}`)
}
