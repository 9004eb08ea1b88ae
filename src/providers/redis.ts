import { createHash, randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { deadline } from './deadline.js'
import { leaseOfName, upstreamName } from './name.js'
import { type Credential, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'
import { type Lines, openLines } from './redis/lines.js'
import { narrow, type Params, params, rulesOf } from './redis/rules.js'

const options = z.strictObject({
  /** redis://user:password@host:port/db, or rediss:// */
  url: z
    .string()
    .refine((text) => URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol), 'must be a url as redis://user:password@host:port/0'),
  /** Where agents reach Redis, if not where the broker does. */
  host: z.string().min(1).optional(),
  port: z.int().min(1).max(65535).optional(),
})
type Options = z.infer<typeof options>
const handleShape = z.object({ user: z.string() })

const PASSWORD_BYTES = 32
/** Rules for subcommands, and the server that Mayfly's own ledger asks for. */
const OLDEST_VERSION = 7
const MAX_CLOCK_DIFFERENCE_MS = 2000

/** An ACL user for one lease. `docs/providers/redis.md`. */
export const redis: ProviderModule<Options, Params> = {
  type: 'redis',
  options,
  params,
  checkRole: ({ keys, channels }, scope) => [
    ...(keys.length + channels.length === 0 ? ['params: name the keys or the channels that it may touch; all of them is "*"'] : []),
    ...Object.entries(scope)
      .filter(([key, kind]) => !(key === 'keys' && kind !== 'equal') && !(key === 'channels' && kind === 'set'))
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a redis role may have scope {keys: path} or {keys: set, channels: set}`),
  ],
  target: ({ url }) => new URL(url).host,

  async open(options, context) {
    const name = `mayfly-${context.instance}`
    // Apart, so that revoking never waits for minting.
    return provider(
      options,
      context,
      await openLines(options.url, context.concurrency, name),
      await openLines(options.url, context.concurrency, name),
    )
  },
}

function provider(options: Options, { instance, timeoutMs, now = Date.now }: ProviderContext, minting: Lines, revoking: Lines): Provider<Params> {
  return {
    type: 'redis',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'planned',
    cutsSessions: true,
    sensitiveHandle: false,
    // An ACL user has no expiry at all.
    expiryEndsUse: false,

    plan: (lease) => ({ user: upstreamName(instance, lease.id) }),

    async mint({ handle, params, lease, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      const { user } = handleShape.parse(handle)
      const left = narrow(params, lease.scope)
      const password = randomBytes(PASSWORD_BYTES).toString('base64url')
      // Only its hash is sent; Redis keeps no more than that either.
      const rules = rulesOf(left, createHash('sha256').update(password).digest('hex'))
      const outcome = await minting.use(time, (line) => makeUser(line, user, rules, until))
      if (outcome === 'late') throw new ProviderError('timeout', 'the mint arrived at Redis after its deadline and made nothing')
      if (outcome === 'taken back') throw new ProviderError('refused', 'the credential was taken back while it was made, so nothing was')
      return { credential: credentialOf(options, user, password) }
    },

    async revoke(handle, deadlineMs) {
      const { user } = handleShape.parse(handle)
      return revoking.use(deadline(deadlineMs), async (line) => {
        // The guard first: a mint under way is aborted by its loss. ACL DELUSER also ends the connections of the user:
        // https://redis.io/docs/latest/commands/acl-deluser/
        const [guards, deleted] = await all(line.pipeline().del(guardOf(user)).call('ACL', 'DELUSER', user))
        // Whatever else answers has taken nothing back.
        if (typeof guards !== 'number' || (deleted !== 0 && deleted !== 1))
          throw new ProviderError('broken', 'what answered a revoke did not answer as Redis does: check the url')
        return deleted === 1 ? 'revoked' : 'absent'
      })
    },

    async verify(handle, deadlineMs) {
      const { user } = handleShape.parse(handle)
      return (await revoking.use(deadline(deadlineMs), (line) => line.call('ACL', 'GETUSER', user))) === null ? 'dead' : 'alive'
    },

    async *list() {
      const users = await revoking.use(deadline(timeoutMs), async (line) => z.array(z.string()).parse(await line.call('ACL', 'USERS')))
      for (const user of users) {
        const lease = leaseOfName(instance, user)
        if (lease !== undefined) yield { lease, handle: { user } }
      }
    },

    async check() {
      const wrong = await revoking.use(deadline(timeoutMs), (line) => problemsOf(line, `mf-${instance}-check`, now))
      if (wrong.length > 0) throw new ProviderError('refused', `${wrong.join('; ')}; see docs/providers/redis.md`)
    },

    async close() {
      minting.close()
      revoking.close()
    },
  }
}

/**
 * Makes the user only if `until` has not come, told by Redis's own clock: the guard key expires then, and EXEC is aborted when the watched
 * guard is gone, be it expired (Redis >= 6.0.9) or deleted by a revoke. ACL SETUSER cannot run in a script, which would be shorter.
 */
async function makeUser(line: Redis, user: string, rules: readonly string[], until: number): Promise<'made' | 'late' | 'taken back'> {
  const guard = guardOf(user)
  const [set, , exists] = await all(line.pipeline().set(guard, '1', 'PXAT', Math.floor(until), 'NX').watch(guard).exists(guard))
  const guarded = set === 'OK' && exists === 1
  const answers = guarded
    ? await line
        .multi()
        .call('ACL', 'SETUSER', user, ...rules)
        .del(guard)
        .exec()
    : null
  if (answers !== null && succeeded(answers)) return 'made'
  await line.unwatch()
  if (set !== 'OK') throw new ProviderError('refused', 'another mint of this lease is under way')
  return (await clockOf(line)) >= until ? 'late' : 'taken back'
}

/** Milliseconds on Redis's own clock. */
async function clockOf(line: Redis): Promise<number> {
  const [seconds, microseconds] = await line.time()
  return Number(seconds) * 1000 + Number(microseconds) / 1000
}

function guardOf(user: string): string {
  return `mf-guard:${user}`
}

interface Batch {
  exec(): Promise<[error: Error | null, result: unknown][] | null>
}
async function all(batch: Batch): Promise<unknown[]> {
  const answers = (await batch.exec()) ?? []
  succeeded(answers)
  return answers.map(([, result]) => result)
}

function succeeded(answers: [error: Error | null, result: unknown][]): true {
  for (const [error] of answers) if (error) throw error
  return true
}

/** Tries what a mint and a revoke need, with a name that no lease has; permissions are checked when a command is queued, and nothing is carried out. */
async function problemsOf(line: Redis, user: string, now: () => number): Promise<string[]> {
  const guard = guardOf(user)
  const hello = z.array(z.unknown()).parse(await line.call('HELLO'))
  const version = String(hello[hello.indexOf('version') + 1])
  const difference = Math.round(Math.abs((await clockOf(line)) - now()))
  await line.watch(guard)
  await line.multi({ pipeline: false })
  await line.set(guard, '1', 'PX', 1, 'NX')
  await line.exists(guard)
  await line.call('ACL', 'SETUSER', user, 'reset')
  await line.del(guard)
  await line.discard()
  await line.multi({ pipeline: false })
  await line.exec()
  await line.call('ACL', 'DELUSER', user)
  await line.call('ACL', 'GETUSER', user)
  await line.call('ACL', 'USERS')
  return [
    ...(Number.parseInt(version, 10) < OLDEST_VERSION ? [`Redis ${OLDEST_VERSION}.0 or later is needed; this is ${version}`] : []),
    ...(difference > MAX_CLOCK_DIFFERENCE_MS ? [`the clock of Redis is ${difference} ms off the broker's: mints would be late or too late`] : []),
  ]
}

function credentialOf({ url, ...told }: Options, username: string, password: string): Credential {
  const { protocol, hostname, port, pathname } = new URL(url)
  const host = told.host ?? hostname.replace(/^\[|\]$/g, '')
  const place = { host, port: told.port ?? Number(port || 6379), database: Number(pathname.slice(1) || 0), tls: protocol === 'rediss:' }
  const address = `${host.includes(':') ? `[${host}]` : host}:${place.port}/${place.database}`
  const full = `${protocol}//${username}:${password}@${address}`
  const env = { REDIS_URL: full, REDIS_HOST: host, REDIS_PORT: String(place.port), REDIS_USERNAME: username, REDIS_PASSWORD: password }
  return { type: 'redis', fields: { ...place, username, password, url: full }, env }
}
