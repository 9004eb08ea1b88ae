import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { Handle, Scope } from '../types.js'
import { type Deadline, deadline } from './deadline.js'
import { leaseOfName, namePrefix, upstreamName } from './name.js'
import { run, surviveBreaks } from './postgres/connection.js'
import { openEnding } from './postgres/ending.js'
import { scramVerifier } from './postgres/scram.js'
import type * as statements from './postgres/statements.js'
import { type Credential, type MintRequest, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

/** 63 bytes: NAMEDATALEN - 1. A NUL ends a string of PostgreSQL's protocol. */
const identifier = z
  .string()
  .min(1)
  .refine((name) => Buffer.byteLength(name) <= 63 && !name.includes('\0'), 'must be a PostgreSQL name: at most 63 bytes')

const options = z.strictObject({
  /** libpq url with user, host and database. */
  url: z.string().refine(isComplete, 'must be a url as postgres://user:password@host:port/database'),
  /** Where agents reach the database, if not where the broker does. */
  host: z.string().min(1).optional(),
  port: z.int().min(1).max(65535).optional(),
  /** Set at the start of each transaction: keeps leases manageable when the login in the url is itself rotated. */
  admin_role: identifier.optional(),
})
const params = z.strictObject({
  /** NOLOGIN roles that hold the privileges. */
  member_of: z.array(identifier).min(1).max(32),
  /** Database that the agent is told; default: the url's. */
  database: identifier.optional(),
  connection_limit: z.int().min(1).max(1000).default(10),
  /** What becomes of what the agent made: given to the first of `member_of`, or dropped. */
  owned: z.enum(['reassign', 'drop']).default('reassign'),
  /** Names in `member_of`, or above them, that may be predefined, able to log in, or have attributes such as CREATEDB. */
  allow: z.array(identifier).max(32).default([]),
})
type Options = z.infer<typeof options>
type Params = z.infer<typeof params>

/** https://www.postgresql.org/docs/current/predefined-roles.html */
const REACHES_THE_SERVER = new Set(['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'])
const handleShape = z.object({ role: identifier, heir: identifier.optional(), drop_owned: z.literal(true).optional() })

const OLDEST_VERSION = 140000
/** Up to here a login may lend its own role to others, and is in the broker's way by that. */
const OWN_ADMIN_BEFORE = 150000
const MAX_CLOCK_DIFFERENCE_MS = 2000
const PAGE = 500
const PASSWORD_BYTES = 32
const MAX_COMMENT_FIELD = 256
const IDLE_MS = 30_000
const DOCS = 'see docs/providers/postgres.md'

/** A login role for one lease, member of the role's group roles. `docs/providers/postgres.md`. */
export const postgres: ProviderModule<Options, Params> = {
  type: 'postgres',
  options,
  params,
  checkRole: (_params, scope) =>
    Object.entries(scope)
      .filter(([key, kind]) => key !== 'member_of' || kind !== 'set')
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a postgres role may have scope {member_of: set}`),
  escalates: ({ member_of }) =>
    member_of.filter((one) => REACHES_THE_SERVER.has(one)).map((one) => `params.member_of: ${one} reaches the server's files, with the keys in them`),
  target({ url, admin_role }) {
    const { host, port, database } = addressOf(url)
    return JSON.stringify([host, port, database, admin_role ?? null])
  },

  async open(options, context) {
    const { default: pg } = await import('pg')
    const sql = await import('./postgres/statements.js')
    const pool = () => {
      const { concurrency: max, timeoutMs: connectionTimeoutMillis, instance } = context
      const shared = { connectionString: options.url, application_name: `mayfly/${instance}`, keepAlive: true, idleTimeoutMillis: IDLE_MS }
      return surviveBreaks(new pg.Pool({ ...shared, max, connectionTimeoutMillis }))
    }
    // Apart, so that revoking never waits for minting.
    return provider(sql, options, context, pool(), pool())
  },
}

type Pool = Parameters<typeof run>[0]

function provider(
  sql: typeof statements,
  options: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
  minting: Pool,
  revoking: Pool,
): Provider<Params> {
  const begin = (leftMs: number) => sql.begin(leftMs, options.admin_role)
  const execute = (pool: Pool, time: Deadline, text: string) => run(pool, time, (left) => `${begin(left)} ${text}`)
  const rows = async (time: Deadline, text: string): Promise<Record<string, unknown>[]> => (await execute(revoking, time, text)).at(-1)?.rows ?? []
  const ending = openEnding(sql, { url: options.url, begin, execute: (time, text) => execute(revoking, time, text) })
  return {
    type: 'postgres',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'planned',
    cutsSessions: true,
    sensitiveHandle: false,
    // VALID UNTIL is looked at when a session starts, never again.
    expiryEndsUse: false,

    plan(lease, { member_of, owned }) {
      const role = upstreamName(instance, lease.id)
      const heir = narrowed(member_of, lease.scope)[0] ?? member_of[0]
      return owned === 'drop' ? { role, drop_owned: true } : { role, heir }
    },

    async mint(request) {
      const time = deadline(request.deadlineMs)
      const { role } = handleShape.parse(request.handle)
      const groups = groupsOf(request)
      const { connection_limit: connectionLimit, allow: allowed, database } = request.params
      const password = randomBytes(PASSWORD_BYTES).toString('base64url')
      const verifier = await scramVerifier(password)
      const { expiresAt, until } = request
      const login = { role, verifier, groups, connectionLimit, allowed, expiresAt, until, comment: commentOf(instance, request) }
      await execute(minting, time, sql.createLogin(login))
      return { credential: credentialOf(options, { role, password, database }) }
    },

    revoke: (handle, deadlineMs) => ending.end(handleShape.parse(handle), deadline(deadlineMs)),

    async renew(handle, expiresAt, deadlineMs) {
      await execute(minting, deadline(deadlineMs), sql.extendLogin(handleShape.parse(handle).role, expiresAt))
    },

    async verify(handle, deadlineMs) {
      const [seen] = await rows(deadline(deadlineMs), sql.lookFor(handleShape.parse(handle).role))
      return seen?.alive === false ? 'dead' : 'alive'
    },

    async *list() {
      for (let after = ''; ; ) {
        const found = z.array(listed).parse(await rows(deadline(timeoutMs), sql.page(namePrefix(instance), after, PAGE)))
        for (const { role, comment, expires } of found) {
          const lease = leaseOfName(instance, role)
          if (lease !== undefined) yield { lease, handle: { ...ownedIn(comment), role }, ...(expires === null ? {} : { expiresAt: Number(expires) }) }
          after = role
        }
        if (found.length < PAGE) return
      }
    },

    async check(roles = []) {
      const time = deadline(timeoutMs)
      const [self] = z.array(selfShape).parse(await rows(time, sql.SELF))
      const wrong = self === undefined ? ['its own role is not in pg_roles'] : selfProblems(self, options, now())
      for (const { name, params } of roles) wrong.push(...(await groupProblems(time, params)).map((problem) => `role "${name}": ${problem}`))
      if (wrong.length > 0) throw new ProviderError('refused', `${wrong.join('; ')}; ${DOCS}`)
    },

    async close() {
      await Promise.all([minting.end(), revoking.end()])
    },
  }

  async function groupProblems(time: Deadline, { member_of, allow }: Params): Promise<string[]> {
    const unfit = await rows(time, sql.groupsUnfit(member_of))
    const powerful = await rows(time, sql.powerfulGroups(member_of, allow))
    return [
      ...unfit.map(({ group, missing }) =>
        missing === true
          ? `there is no database role ${JSON.stringify(group)}`
          : `the broker cannot grant ${JSON.stringify(group)}: GRANT it to the broker's role WITH ADMIN OPTION`,
      ),
      ...powerful.map(({ rolname }) => `${JSON.stringify(rolname)} is more than a group of privileges: name it in "allow" if that is meant`),
    ]
  }
}

const listed = z.object({ role: z.string(), comment: z.string().nullable(), expires: z.union([z.string(), z.number()]).nullable() })
const selfShape = z.object({
  version: z.int(),
  super: z.boolean(),
  creates: z.boolean(),
  inherits: z.boolean(),
  signals: z.boolean(),
  now: z.coerce.number(),
})

function selfProblems(self: z.infer<typeof selfShape>, { admin_role }: Options, now: number): string[] {
  const who = admin_role === undefined ? "the url's role" : `admin_role ${JSON.stringify(admin_role)}`
  const difference = Math.round(Math.abs(self.now - now))
  return [
    ...(self.version < OLDEST_VERSION ? ['PostgreSQL 14 or later is needed'] : []),
    ...(self.super || self.creates ? [] : [`${who} may not create roles: ALTER ROLE … CREATEROLE`]),
    ...(self.super || self.inherits ? [] : [`${who} is NOINHERIT and could not end sessions: ALTER ROLE … INHERIT`]),
    ...(self.super || self.signals || self.version >= OWN_ADMIN_BEFORE
      ? []
      : [`before PostgreSQL 15, ${who} needs pg_signal_backend to end sessions: GRANT pg_signal_backend`]),
    ...(difference > MAX_CLOCK_DIFFERENCE_MS ? [`the database's clock is ${difference} ms off the broker's: mints would be late or too late`] : []),
  ]
}

/** The role's groups, or fewer of them. */
function narrowed(groups: readonly string[], scope: Scope): string[] {
  const wanted = scope.member_of === undefined ? groups : [scope.member_of].flat()
  return groups.filter((group) => wanted.includes(group))
}

function groupsOf({ params: { member_of }, lease: { scope } }: Pick<MintRequest<Params>, 'params' | 'lease'>): string[] {
  const unknown = Object.keys(scope).filter((key) => key !== 'member_of')
  if (unknown.length > 0) throw new ProviderError('invalid', 'a postgres role can be narrowed by "member_of" only')
  const wanted = scope.member_of === undefined ? member_of : [scope.member_of].flat()
  if (wanted.some((group) => !member_of.includes(group)))
    throw new ProviderError('invalid', 'scope "member_of" names a group that the role does not have')
  const groups = narrowed(member_of, scope)
  if (groups.length === 0) throw new ProviderError('invalid', 'scope "member_of" leaves no group')
  return groups
}

/** What a person sees with `\du+`, and what `list` reads back. JSON, so that no name from outside breaks out of it. */
function commentOf(instance: string, { lease, handle, expiresAt }: MintRequest<Params>): string {
  const cut = (value: string | undefined) => value?.slice(0, MAX_COMMENT_FIELD)
  const { heir, drop_owned } = handleShape.parse(handle)
  const who = { agent: cut(lease.agent), task: cut(lease.task), human: cut(lease.human), role: cut(lease.role) }
  return JSON.stringify({ mayfly: instance, lease: lease.id, expires_at: new Date(expiresAt).toISOString(), ...who, heir, drop_owned })
}

function ownedIn(comment: string | null): Handle {
  try {
    const { heir, drop_owned } = handleShape.omit({ role: true }).parse(JSON.parse(comment ?? '{}'))
    return { ...(heir === undefined ? {} : { heir }), ...(drop_owned === undefined ? {} : { drop_owned }) }
  } catch {
    // Somebody wrote a comment of their own: the name still says whose it is; what it owns then needs a person.
    return {}
  }
}

function credentialOf(options: Options, login: { role: string; password: string; database?: string }): Credential {
  const address = addressOf(options.url)
  const { host = address.host, port = address.port } = options
  const { role: username, password, database = address.database } = login
  const { sslmode } = address
  const place = `${host.includes(':') ? `[${host}]` : host}:${port}/${encodeURIComponent(database)}${sslmode === undefined ? '' : `?sslmode=${sslmode}`}`
  const env = { PGHOST: host, PGPORT: String(port), PGDATABASE: database, PGUSER: username, PGPASSWORD: password }
  return {
    type: 'postgres',
    fields: {
      host,
      port,
      database,
      username,
      password,
      url: `postgres://${username}:${password}@${place}`,
      ...(sslmode === undefined ? {} : { sslmode }),
    },
    env: sslmode === undefined ? env : { ...env, PGSSLMODE: sslmode },
  }
}

function addressOf(url: string): { host: string; port: number; database: string; sslmode?: string } {
  const { hostname, port, pathname, searchParams } = new URL(url)
  const sslmode = searchParams.get('sslmode') ?? undefined
  const host = searchParams.get('host') ?? hostname.replace(/^\[|\]$/g, '')
  return { host, port: Number(port || (searchParams.get('port') ?? 5432)), database: decodeURIComponent(pathname.slice(1)), sslmode }
}

/** The driver fills what is missing from its environment; a configuration says it all. */
function isComplete(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, pathname, searchParams } = new URL(text)
  return /^postgres(ql)?:$/.test(protocol) && username !== '' && pathname.length > 1 && (hostname !== '' || searchParams.has('host'))
}
