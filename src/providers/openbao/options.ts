import { z } from 'zod'
import { duration } from '../duration.js'

const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])$/
/** One segment of a path, or several: nothing that OpenBao, a proxy or a policy could read as more than a name. */
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const pathOf = (text: string) => text.split('/').every((segment) => SEGMENT.test(segment))
const mount = z.string().max(256).refine(pathOf, 'must be a path as team/jwt')
const visible = z.string().regex(/^[\x21-\x7e]{1,256}$/, 'must be 1 to 256 visible characters')

const auth = z.discriminatedUnion('method', [
  /** A JWT that Mayfly signs, at a `jwt` auth mount that trusts its keys. */
  z.strictObject({
    method: z.literal('jwt'),
    mount: mount.default('jwt'),
    role: z.string().regex(SEGMENT, 'must be the name of a role'),
    audience: visible.default('openbao'),
    /** `sub` of the JWT; by default `mayfly-<instance>`. */
    subject: visible.optional(),
  }),
  /** Needs the option `secret_id`. */
  z.strictObject({ method: z.literal('approle'), mount: mount.default('approle'), role_id: visible }),
  /** Needs the option `token`. */
  z.strictObject({ method: z.literal('token') }),
])
export type Auth = z.infer<typeof auth>

export const options = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/ })
      .refine((text) => /^https?:\/\/[^/?#@]+\/?$/.test(text), 'must be the origin alone, as https://openbao.internal:8200')
      .refine((text) => text.startsWith('https:') || LOOPBACK.test(new URL(text).hostname), 'must be https')
      .transform((text) => new URL(text).origin),
    namespace: mount.optional(),
    auth,
    token: visible.optional(),
    secret_id: visible.optional(),
    /** Certificates that sign OpenBao's own, PEM. */
    ca: z.string().includes('-----BEGIN CERTIFICATE-----', 'must be certificates in PEM').optional(),
    /** The longest that a secret lives which nobody renews: what the mounts and roles behind `path` give by default. */
    lease_ttl: duration(1, 31 * 86_400),
  })
  .refine(({ auth, token }) => (token !== undefined) === (auth.method === 'token'), {
    path: ['token'],
    message: 'goes with auth.method token, and with no other',
  })
  .refine(({ auth, secret_id: id }) => (id !== undefined) === (auth.method === 'approle'), {
    path: ['secret_id'],
    message: 'goes with auth.method approle, and with no other',
  })
export type Options = z.infer<typeof options>

const PLACEHOLDER = /^\$\{scope\.([A-Za-z][A-Za-z0-9_]{0,63})\}$/
/** `auth` and `sys` make tokens and policies, `identity` makes tokens that nothing takes back, `cubbyhole` is the token's own: also inside a namespace. */
const FORBIDDEN = ['auth', 'sys', 'identity', 'cubbyhole']
export const leadsAstray = (path: string): boolean =>
  path
    .split('/')
    .slice(0, -1)
    .some((segment) => FORBIDDEN.includes(segment))
const value = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}$/, 'must be letters, digits, "_", ".", "@" and "-"')
  .refine((text) => !text.includes('..'), 'must not hold ".."')
const datum = z.union([z.string().max(4096), z.number(), z.boolean(), z.array(z.string().max(4096)).max(100)])

export const params = z
  .strictObject({
    /** As database/creds/readonly; a whole segment after the first may be a placeholder. */
    path: z
      .string()
      .max(512)
      .refine((text) => {
        const [first = '', ...rest] = text.split('/')
        return SEGMENT.test(first) && rest.length > 0 && rest.every((segment) => SEGMENT.test(segment) || PLACEHOLDER.test(segment))
      }, 'must be a path as database/creds/readonly, in which a whole segment may be a placeholder')
      .refine((text) => !leadsAstray(text), `must not lead into ${FORBIDDEN.join(', ')}`),
    method: z.enum(['read', 'write']).default('read'),
    /** Sent with `write`; a whole value may be a placeholder. */
    data: z.record(z.string().regex(/^[A-Za-z0-9_]{1,64}$/), datum).optional(),
    /** What each placeholder may stand for. */
    values: z.record(z.string(), z.array(value).min(1).max(100)).default({}),
    /** Environment variables and the fields of the secret that they hold. */
    env: z.record(z.string().regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'must be the name of an environment variable'), z.string().min(1).max(64)).default({}),
  })
  .refine(({ method, data }) => data === undefined || method === 'write', { path: ['data'], message: 'goes with method write' })
export type Params = z.infer<typeof params>

/** The scope key that a whole segment or value stands for. */
export function placeholderOf(text: unknown): string | undefined {
  return typeof text === 'string' ? PLACEHOLDER.exec(text)?.[1] : undefined
}
