import { z } from 'zod'
import { envName, isShallow, scopeKey, word } from './wire.js'

export const serviceUrl = z
  .string()
  .refine(isServiceUrl, 'must be a URL as https://provider.internal/mayfly, without credentials, query, fragment or a slash at its end')

/** Where the service is, and what the operator was told of it: it cannot change that by itself. */
export const options = z
  .strictObject({
    url: serviceUrl,
    /** The URL under which the service knows itself, where that is another. */
    audience: serviceUrl.optional(),
    /** PEM of the authorities to trust instead of the system's. */
    ca: z.string().min(1).max(65_536).optional(),
    /** http to another machine: tokens are bound to one request each, but credentials can be read on the way. */
    allow_plaintext: z.boolean().default(false),
    credential_type: word,
    revocation: z.enum(['immediate', 'deny-policy', 'at-expiry']),
    residual_seconds: z.int().min(0).max(86_400),
    shortest_life_seconds: z.int().min(0).max(86_400).default(0),
    renewable: z.boolean().default(false),
    verifiable: z.boolean().default(false),
    cuts_sessions: z.boolean().default(false),
    expiry_ends_use: z.boolean().default(false),
    scope_keys: z.array(scopeKey).max(64).default([]),
    /** Environment variables that its credentials may set. */
    env: z.array(envName).max(64).default([]),
  })
  .superRefine(({ url, allow_plaintext, revocation, expiry_ends_use, cuts_sessions }, context) => {
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (!allow_plaintext && isPlaintext(url))
      wrong('url', 'must be https: credentials come back on it. Plain http is for loopback, or with allow_plaintext: true')
    if (revocation === 'at-expiry' && !expiry_ends_use) wrong('expiry_ends_use', 'must be true where nothing but the expiry ends a credential')
    if (revocation === 'at-expiry' && cuts_sessions) wrong('cuts_sessions', 'cannot be true where nothing is revoked')
  })
export type Options = z.infer<typeof options>

const MAX_PARAMS_BYTES = 16_384
/** Whatever the service understands; what it does not, it refuses at the mint. */
export const params = z
  .unknown()
  // A record leaves it out without a word.
  .refine((value) => typeof value !== 'object' || value === null || !Object.hasOwn(value, '__proto__'), 'must not name "__proto__"')
  .pipe(
    z.record(z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, 'must be letters, digits, "_", "." and "-", starting with a letter'), z.unknown()),
  )
  .refine(isShallow, { error: 'must not be nested so deep', abort: true })
  // RFC 7493 §2.1: not everybody's JSON can hold half a character.
  .refine(isPlainJson, { error: 'must be JSON: well-formed text, finite numbers, true, false, null, lists and objects', abort: true })
  .refine((value) => JSON.stringify(value).length <= MAX_PARAMS_BYTES, `must be at most ${MAX_PARAMS_BYTES} bytes`)
export type Params = z.infer<typeof params>

function isServiceUrl(text: string): boolean {
  if (!URL.canParse(text) || text.length > 2048) return false
  const { protocol, username, password, search, hash, href, pathname } = new URL(text)
  if (!/^https?:$/.test(protocol) || username !== '' || password !== '' || search !== '' || hash !== '') return false
  // Compared byte for byte by the service, as `aud`: only its usual spelling is taken.
  return pathname === '/' ? href === `${text}/` : href === text && !text.endsWith('/')
}

function isPlaintext(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}

function isPlainJson(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value === 'number') return Number.isFinite(value)
  if (Array.isArray(value)) return value.every(isPlainJson)
  if (typeof value !== 'object') return typeof value === 'boolean'
  if (value === null) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return false
  return Object.entries(value).every(([key, inner]) => key.isWellFormed() && key !== '__proto__' && isPlainJson(inner))
}
