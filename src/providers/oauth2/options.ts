import { createPrivateKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { duration } from '../duration.js'
import { isSafeUrl } from '../outbound.js'

const LONGEST_LIFE_SECONDS = 86_400
/** RFC 6749 appendix A.1 and A.2: visible ASCII. */
const visible = z.string().regex(/^[\x20-\x7e]{1,2048}$/, 'must be 1 to 2048 ASCII characters')
const address = z
  .string()
  .max(2048)
  .refine((text) => isSafeUrl(text, { allowHttpLoopback: true }), 'must be an https address without credentials, query and fragment')

/** RFC 7518 §3.1, by what the key is. */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519'] as const
type Algorithm = (typeof ALGORITHMS)[number]

export const options = z
  .strictObject({
    issuer: address,
    /** Where its metadata is: OpenID Connect Discovery, or RFC 8414. */
    discovery: z.enum(['oidc', 'oauth2']).default('oidc'),
    /** Instead of what discovery finds, and the only way to endpoints of another origin than the issuer's. */
    endpoints: z.strictObject({ token: address, revocation: address.optional(), introspection: address.optional() }).optional(),
    allow_http_loopback: z.boolean().default(false),
    client_id: visible,
    client_auth: z.enum(['client_secret_basic', 'client_secret_post', 'private_key_jwt']).default('client_secret_basic'),
    client_secret: visible.optional(),
    /** PEM. */
    private_key: z
      .string()
      .refine((pem) => keyOf(pem) !== undefined, 'must be a private RSA, EC (P-256, P-384) or Ed25519 key, as PEM')
      .optional(),
    /** When the key alone doesn't say it, which is with RSA; RS256 when absent. */
    private_key_alg: z.enum(['RS256', 'PS256']).optional(),
    key_id: visible.optional(),
    /** How those who get the tokens check them: they ask the server each time (RFC 7662, or it is they), or check the signature alone. */
    verification: z.enum(['introspection', 'signature']),
    /** A token that the server lets live for longer is not handed out. */
    max_token_life: duration(1, LONGEST_LIFE_SECONDS).prefault('1h'),
  })
  .superRefine((given, context) => {
    const { issuer, endpoints, allow_http_loopback: allowHttpLoopback, client_auth: auth } = given
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    for (const url of [issuer, ...Object.values(endpoints ?? {})])
      if (url !== undefined && !isSafeUrl(url, { allowHttpLoopback }))
        wrong('issuer', 'must be https; allow_http_loopback takes http on this machine')
    if ((auth === 'private_key_jwt') !== (given.private_key !== undefined))
      wrong('private_key', 'goes with client_auth private_key_jwt, and only with it')
    if ((auth === 'private_key_jwt') === (given.client_secret !== undefined))
      wrong('client_secret', `is what client_auth ${auth} ${auth === 'private_key_jwt' ? 'does without' : 'needs'}`)
    if (given.private_key_alg !== undefined && keyOf(given.private_key ?? '')?.asymmetricKeyType !== 'rsa')
      wrong('private_key_alg', 'is for an RSA key')
    if (given.key_id !== undefined && given.private_key === undefined) wrong('key_id', 'names a private_key, and there is none')
    if (given.verification === 'introspection' && endpoints !== undefined && endpoints.revocation === undefined)
      wrong('endpoints', 'need a revocation endpoint (RFC 7009): without it nothing could be taken back at once')
  })
export type Options = z.infer<typeof options>

/** The key, with the algorithm that it signs with. */
export function signingKeyOf({ private_key: pem = '', private_key_alg: named }: Options): { pkcs8: string; alg: Algorithm } | undefined {
  const key = keyOf(pem)
  return key && { pkcs8: String(key.export({ type: 'pkcs8', format: 'pem' })), alg: named ?? algorithmOf(key) ?? 'RS256' }
}

function keyOf(pem: string): KeyObject | undefined {
  try {
    // Line breaks may come escaped from an environment variable.
    const key = createPrivateKey(pem.replaceAll('\\n', '\n'))
    return algorithmOf(key) && key
  } catch {
    return undefined
  }
}

function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): Algorithm | undefined {
  if (type === 'rsa') return 'RS256'
  if (type === 'ed25519') return 'Ed25519'
  if (type !== 'ec') return undefined
  return details?.namedCurve === 'prime256v1' ? 'ES256' : details?.namedCurve === 'secp384r1' ? 'ES384' : undefined
}
