import { CompactSign, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Signer } from './providers/provider.js'

/**
 * Signs what Mayfly asserts, with a key set that rotates: the first key signs, every key is published and verifies. To rotate, put the new
 * key second until verifiers have fetched it, then first, and drop the old one once its last token has expired.
 *
 * On jose and not on node:crypto's synchronous `sign`: for a token of the usual size 67 µs of CPU (48 µs a token at 32 in flight, part of it
 * off the main thread) against 33 µs, all of it on the main thread. At 2,000 tokens a second that is a seventh of one core.
 */
export interface TokenSigner extends Signer {
  /** The public half of every key: RFC 7517 §5. */
  jwks(): { keys: JWK[] }
  /** Claims of a token that this signer made and that has not expired `at` (ms, of the clock that it was made by); `undefined` for whatever else it is given. */
  verify(token: string, at?: number): Promise<JWTPayload | undefined>
}

/** RFC 9864 prefers the fully specified `Ed25519` to the polymorphic `EdDSA`; ES256 is what every verifier knows. */
export const SIGNING_ALGORITHMS = ['ES256', 'Ed25519'] as const
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number]
/** For assertions to upstreams that verify nothing else; a token that is signed with it is none of Mayfly's. */
type AssertionAlgorithm = SigningAlgorithm | 'RS256'

const MAX_TOKEN_LENGTH = 8192
const coordinate = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 octets in base64url')
const common = { kid: z.string().min(1).max(128).optional(), use: z.literal('sig').optional(), d: coordinate.optional() }
/** Base64url; 342 characters are the 2048 bits that RFC 7518 §3.3 asks for at least. */
const number = (least: number) => z.string().regex(new RegExp(`^[A-Za-z0-9_-]{${least},1024}$`), 'must be a number in base64url')
const rsaPrivate = { d: number(1), p: number(1), q: number(1), dp: number(1), dq: number(1), qi: number(1) }
const signingKey = z.discriminatedUnion('kty', [
  z.object({ kty: z.literal('EC'), crv: z.literal('P-256'), x: coordinate, y: coordinate, alg: z.literal('ES256').optional(), ...common }),
  z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: coordinate, alg: z.enum(['Ed25519', 'EdDSA']).optional(), ...common }),
  z.object({
    ...common,
    kty: z.literal('RSA'),
    n: number(342),
    e: number(2),
    alg: z.literal('RS256').optional(),
    ...z.object(rsaPrivate).partial().shape,
  }),
])
/**
 * A JWK set of ES256 (EC P-256) or Ed25519 keys. The first has its private half; the others may be public. An RSA key may stand among the
 * others, for assertions alone.
 */
export const signingKeys = z.object({ keys: z.array(signingKey).min(1) })
export type SigningKeys = z.infer<typeof signingKeys>
type SigningKey = SigningKeys['keys'][number]

/** @throws Error when a key doesn't fit, the first has no private half, or two keys share a `kid` */
export async function openSigner({ issuer, keys }: { issuer: string; keys: { keys: readonly object[] } }): Promise<TokenSigner> {
  const set = signingKeys.parse(keys)
  const published = await Promise.all(set.keys.map(publicHalf))
  const byKid = new Map(await Promise.all(published.map(async (jwk) => [jwk.kid, { alg: jwk.alg, key: await importJWK(jwk, jwk.alg) }] as const)))
  if (byKid.size < published.length) throw new Error('two signing keys have the same kid')

  const [first] = set.keys
  if (first?.d === undefined) throw new Error('the first signing key has no private half ("d")')
  if (first.kty === 'RSA') throw new Error('the first signing key must be of ES256 or Ed25519: an RSA key signs assertions alone')
  const halves = published.flatMap(({ alg, kid }, index) => {
    const jwk = set.keys[index]
    return jwk?.d === undefined ? [] : [{ alg, kid, jwk: { ...jwk, alg } }]
  })
  const signing = await Promise.all(halves.map(async ({ jwk, ...header }) => ({ ...header, key: await importJWK(jwk, jwk.alg) })))
  const encoder = new TextEncoder()

  return {
    issuer,
    async sign(claims, { typ, alg }) {
      const active = alg === undefined ? signing[0] : signing.find((one) => one.alg === alg)
      if (active === undefined) throw new Error(`no signing key of ${alg} has its private half`)
      const header = { alg: active.alg, typ, kid: active.kid }
      return new CompactSign(encoder.encode(JSON.stringify({ ...claims, iss: issuer }))).setProtectedHeader(header).sign(active.key)
    },
    jwks: () => ({ keys: published.map((jwk) => ({ ...jwk })) }),
    async verify(token, at = Date.now()) {
      if (token.length > MAX_TOKEN_LENGTH) return undefined
      try {
        const { payload } = await jwtVerify(
          token,
          (header) => {
            const known = header.kid === undefined ? undefined : byKid.get(header.kid)
            // One algorithm per key (RFC 8725 §3.1): the header's word alone chooses nothing.
            if (known === undefined || known.alg !== header.alg) throw new Error('not a key of this signer')
            return known.key
          },
          { issuer, requiredClaims: ['exp', 'iat', 'jti'], algorithms: [...SIGNING_ALGORITHMS], currentDate: new Date(at) },
        )
        return payload
      } catch {
        // Whoever asks about a token learns only that it is none of ours.
        return undefined
      }
    },
  }
}

/** A fresh set of one key, private half included. */
export async function generateSigningKeys(alg: AssertionAlgorithm = 'ES256'): Promise<SigningKeys> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(privateKey)
  return signingKeys.parse({ keys: [{ ...jwk, alg, use: 'sig', kid: await calculateJwkThumbprint(jwk) }] })
}

async function publicHalf(key: SigningKey): Promise<JWK & { kid: string; alg: AssertionAlgorithm }> {
  const jwk = publicMembers(key)
  const alg = { EC: 'ES256', OKP: 'Ed25519', RSA: 'RS256' } as const
  return { ...jwk, use: 'sig', alg: alg[key.kty], kid: key.kid ?? (await calculateJwkThumbprint(jwk)) }
}

/** What may be seen of a key, named one by one: RFC 7518 §6.2.1, §6.3.1, RFC 8037 §2. */
function publicMembers(key: SigningKey): JWK {
  if (key.kty === 'RSA') return { kty: key.kty, n: key.n, e: key.e }
  if (key.kty === 'OKP') return { kty: key.kty, crv: key.crv, x: key.x }
  return { kty: key.kty, crv: key.crv, x: key.x, y: key.y }
}
