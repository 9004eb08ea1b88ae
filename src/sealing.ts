import { randomBytes } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, importJWK } from 'jose'
import { z } from 'zod'
import type { Handle } from './types.js'

/**
 * Encrypts the revocation handles that are themselves secrets, so that whoever reads Redis can use none of them: JWE (RFC 7516), `dir` with
 * A256GCM, in a ring of keys by `kid`. The first key seals, every key opens. To rotate, add the new key second on every broker, then put it
 * first, and drop the old one once no lease needs it: a start without a key that leases need is refused.
 */
export interface Sealer {
  /** Bound to the lease: what was sealed for one is no handle of another. */
  seal(lease: string, handle: Handle): Promise<{ readonly handle: Handle; readonly sealedBy: string }>
  /** @throws Error when the key is missing, or the text was not sealed for this lease */
  open(lease: string, sealed: Handle): Promise<Handle>
  /** `kid` of each key. */
  readonly kids: readonly string[]
}

const KEY_BYTES = 32
const sealingKey = z.object({
  kty: z.literal('oct'),
  k: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 octets in base64url'),
  kid: z.string().min(1).max(128),
  use: z.literal('enc').optional(),
  alg: z.literal('A256GCM').optional(),
})
/** A JWK set of 256-bit symmetric keys (RFC 7518 §6.4), each with a `kid` of its own. */
export const sealingKeys = z
  .object({ keys: z.array(sealingKey).min(1) })
  .refine(({ keys }) => new Set(keys.map(({ kid }) => kid)).size === keys.length, 'two keys have the same kid')
export type SealingKeys = z.infer<typeof sealingKeys>

const sealedHandle = z.strictObject({ sealed: z.string() })

/** @throws Error when a key doesn't fit */
export async function openSealer(keys: { keys: readonly object[] }): Promise<Sealer> {
  const set = sealingKeys.parse(keys).keys
  const ring = new Map(await Promise.all(set.map(async (jwk) => [jwk.kid, await importJWK(jwk, 'A256GCM')] as const)))
  const [first] = ring
  if (first === undefined) throw new Error('there is no sealing key')
  const [kid, key] = first
  return {
    kids: [...ring.keys()],
    async seal(lease, handle) {
      const header = { alg: 'dir', enc: 'A256GCM', kid, lease }
      return { handle: { sealed: await new CompactEncrypt(encode(handle)).setProtectedHeader(header).encrypt(key) }, sealedBy: kid }
    },
    async open(lease, handle) {
      const { sealed } = sealedHandle.parse(handle)
      const { plaintext, protectedHeader } = await compactDecrypt(
        sealed,
        (header) => {
          const known = ring.get(header.kid ?? '')
          if (!known)
            throw new Error(`the handle was sealed with the key "${header.kid}", which the configuration no longer has: add it to sealing.keys`)
          return known
        },
        { keyManagementAlgorithms: ['dir'], contentEncryptionAlgorithms: ['A256GCM'] },
      )
      if (protectedHeader.lease !== lease) throw new Error('the handle was sealed for another lease')
      return z.record(z.string(), z.unknown()).parse(JSON.parse(new TextDecoder().decode(plaintext)))
    },
  }
}

/** A fresh set of one key: `mayfly keys generate --sealing`. */
export function generateSealingKeys(): SealingKeys {
  const kid = randomBytes(9).toString('base64url')
  return { keys: [{ kty: 'oct', k: randomBytes(KEY_BYTES).toString('base64url'), kid, use: 'enc', alg: 'A256GCM' }] }
}

function encode(handle: Handle): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(handle))
}
