import { z } from 'zod'

/**
 * The wire contract between Mayfly and a provider written by somebody else, version 1: `docs/providers/http.md`, and as JSON Schema
 * `docs/providers/http/*.schema.json`, which `scripts/http-schemas.ts` writes from here. Every object is closed: an unknown field is an error on both sides.
 */
export const WIRE_VERSION = 1
/** The largest request that Mayfly makes; a service answers 413 to a larger one. */
export const MAX_REQUEST_BYTES = 262_144
/** The largest answer that Mayfly reads. */
export const MAX_ANSWER_BYTES = 1_048_576
export const JSON_TYPE = 'application/json'
/** RFC 9457 §3 */
export const PROBLEM_TYPE = 'application/problem+json'

const DEEPEST = 8

/** RFC 3339, with milliseconds where Mayfly writes it. */
const time = z.iso.datetime({ offset: true })
const label = z.string().max(16_384)
/** `mf-<instance>-<lease>`: `upstreamName` of name.ts. */
const name = z.string().regex(/^mf-[a-z0-9-]{1,20}-[0-9]{2}[a-z0-9]{16,32}$/)
export const scopeKey = z.string().regex(/^[a-z][a-z0-9_]{0,31}$/, 'must be lower-case letters, digits and "_", starting with a letter')
export const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be the name of an environment variable')
export const word = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and dashes, starting with a letter')
/** What the answer to an agent holds beside the fields. */
const TAKEN_FIELDS = ['type', 'env', 'expires_at']
const fieldName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,63}$/)
  .refine((text) => !TAKEN_FIELDS.includes(text))

const describeRequest = z.strictObject({})
const describeAnswer = z.strictObject({
  version: z.literal(WIRE_VERSION),
  type: word.describe('What kind of credential it is; agents read it.'),
  revocation: z.enum(['immediate', 'deny-policy', 'at-expiry']),
  residual_seconds: z.int().min(0).describe('Worst case between a confirmed revoke and "no longer works".'),
  shortest_life_seconds: z.int().min(0).describe('No credential lives shorter than this, whatever was asked for; 0: there is no such limit.'),
  renewable: z.boolean().describe('Whether there is /renew.'),
  verifiable: z.boolean().describe('Whether there is /verify.'),
  cuts_sessions: z.boolean().describe('Whether a revoke also ends sessions that were opened before it.'),
  expiry_ends_use: z.boolean().describe('Whether a credential stops working by itself at its expiry.'),
  scope_keys: z.array(scopeKey).max(64).describe('Keys of a scope that it can narrow by; every other is refused.'),
  env: z.array(envName).max(64).describe('Environment variables that a credential may set.'),
})

const mintRequest = z.strictObject({
  lease: z.strictObject({
    id: z.string().max(64),
    task: z.string().max(64),
    agent: label,
    owner: label,
    human: label.optional(),
    role: label,
  }),
  name: name.describe('What it must be called, or be found by, upstream: the one thing that a revoke knows.'),
  params: z.record(z.string(), z.unknown()).describe("The role's parameters in the configuration."),
  scope: z.record(z.string(), z.union([z.string(), z.array(z.string())])).describe('Narrows the parameters, and never widens them.'),
  issued_at: time,
  expires_at: time.describe('When the credential must stop working by itself.'),
  until: time.describe('Absolute end of the mint: after it nothing may be made.'),
  idempotency: z.string().max(128).describe('The same for every attempt at one credential: there is at most one.'),
})
const mintAnswer = z.strictObject({
  credential: z.strictObject({
    fields: z
      .record(fieldName, z.unknown())
      .refine(isShallow, `must not be nested deeper than ${DEEPEST}`)
      .describe(`What an agent gets. No name may be ${TAKEN_FIELDS.join(', ')}; nested at most ${DEEPEST} deep.`),
    env: z.record(envName, z.string().regex(/^[^\0]*$/)).describe('The same for the environment of a process; names as in env of describe.'),
  }),
  expires_at: time.optional().describe('Where it ends earlier than was asked for.'),
  usable_until: time.optional().describe('Where it ends later than was asked for, because of shortest_life_seconds.'),
})

const revokeRequest = z.strictObject({
  name,
  until: time.describe('No mint of this name ends later: so long it must be remembered that the name was revoked.'),
})
const revokeAnswer = z.strictObject({ outcome: z.enum(['revoked', 'absent']) })

const renewRequest = z.strictObject({ name, expires_at: time, until: time })
const renewAnswer = z.strictObject({ expires_at: time.describe('The expiry that it has now, which is the one asked for.') })

const verifyRequest = z.strictObject({ name })
const verifyAnswer = z.strictObject({ state: z.enum(['alive', 'dead']) })

/** RFC 9457, with `kind`. Open: §3.2 has whoever reads it ignore what it does not know. */
export const problem = z.looseObject({
  kind: z.enum(['throttled', 'refused', 'invalid', 'late']),
  type: z.string().optional(),
  title: z.string().optional(),
  status: z.int().optional(),
  detail: z.string().optional(),
})
export type ProblemKind = z.infer<typeof problem>['kind']

/** Claims of the JWT that comes with every request. */
export const requestToken = z.strictObject({
  iss: z.string(),
  aud: z.string().describe('The URL under which the service is configured, without a slash at its end.'),
  iat: z.int(),
  exp: z.int().describe('At most 30 seconds after iat.'),
  jti: z.string().describe('Good for one request.'),
  htm: z.literal('POST').describe('RFC 9449 §4.2.'),
  htu: z.string().describe('RFC 9449 §4.2: aud, "/" and the name of the operation.'),
  content_digest: z
    .string()
    .regex(/^sha-256=:[A-Za-z0-9+/]{43}=:$/)
    .describe('Of the body as sent, spelt as the value of Content-Digest in RFC 9530 §2.'),
})

/** Every operation: `POST <url>/<name>`. */
export const OPERATIONS = {
  describe: { request: describeRequest, answer: describeAnswer },
  mint: { request: mintRequest, answer: mintAnswer },
  revoke: { request: revokeRequest, answer: revokeAnswer },
  renew: { request: renewRequest, answer: renewAnswer },
  verify: { request: verifyRequest, answer: verifyAnswer },
} as const
export type Operation = keyof typeof OPERATIONS
export type RequestOf<O extends Operation> = z.infer<(typeof OPERATIONS)[O]['request']>
export type AnswerOf<O extends Operation> = z.infer<(typeof OPERATIONS)[O]['answer']>
export type Description = AnswerOf<'describe'>

/** Deep nesting exhausts the stack of whoever writes it out again. By level, so that the look itself does not. */
export function isShallow(value: unknown): boolean {
  let level = [value]
  for (let depth = 0; depth <= DEEPEST; depth++) {
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []))
    if (level.length === 0) return true
  }
  return false
}
