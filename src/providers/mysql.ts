import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { z } from 'zod'
import { type Deadline, deadline } from './deadline.js'
import { grantProblems, selfProblems } from './mysql/check.js'
import { isBusy, isGone, leftAccount } from './mysql/error.js'
import { type Grant, narrow, type Params, params, problemsOf } from './mysql/grants.js'
import type { Lines, Send } from './mysql/lines.js'
import { SERVERS } from './mysql/servers.js'
import type { Account, Statements } from './mysql/statements.js'
import { type Credential, type MintRequest, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const options = z
  .strictObject({
    /** Names differ, as do passwords: MySQL's user names are shorter. */
    server: z.enum(['mariadb', 'mysql']),
    /** User, password, host and port of the broker's own login. */
    url: z.string().refine(isComplete, 'must be a url as mysql://user:password@host:3306'),
    /** `off` must be written down: then neither the broker's nor the agents' connections are encrypted. */
    tls: z.enum(['verify', 'off']).default('verify'),
    /** PEM of the authority that signed the server's certificate, if it is none that the system knows. */
    ca: z.string().includes('-----BEGIN CERTIFICATE-----', { message: 'must be a PEM certificate' }).optional(),
    /** Where agents reach the database, if not where the broker does. */
    host: z.string().min(1).optional(),
    port: z.int().min(1).max(65535).optional(),
    /** Where agents may connect from: the host part of account names. */
    account_host: z
      .string()
      .regex(/^[A-Za-z0-9.:_%/-]{1,60}$/, 'must be the host part of an account, as "%", "10.1.%" or "app.internal"')
      .default('%'),
  })
  .refine(({ url, tls }) => tls === 'off' || !isComplete(url) || isIP(addressOf(url).host) === 0, {
    path: ['url'],
    message: 'with tls the host must be a name: the driver compares no addresses with certificates',
  })
type Options = z.infer<typeof options>

const handleShape = z.object({ user: z.string().min(1).max(80), host: z.string().min(1).max(60) })

const PAGE = 500
const PASSWORD_BYTES = 32
const MAX_NOTE_FIELD = 256
const DAY_MS = 86_400_000
const DOCS = 'see docs/providers/mysql.md'

/** An account with the role's grants for one lease. `docs/providers/mysql.md`. */
export const mysql: ProviderModule<Options, Params> = {
  type: 'mysql',
  options,
  params,
  secrets: ['url'],
  checkRole: (params, scope) => [
    ...problemsOf(params),
    ...Object.entries(scope)
      .filter(([key, kind]) => !(key === 'tables' && kind !== 'equal') && !(key === 'privileges' && kind === 'set'))
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a mysql role may have scope {tables: path or set, privileges: set}`),
  ],
  target: ({ server, url }) => JSON.stringify([server, addressOf(url)]),

  async open(options, context) {
    const { username, password } = new URL(options.url)
    const ssl = options.tls === 'off' ? undefined : { ca: options.ca, minVersion: 'TLSv1.2', rejectUnauthorized: true, verifyIdentity: true }
    const login = { ...addressOf(options.url), user: decodeURIComponent(username), password: decodeURIComponent(password), ssl }
    // These two load the driver.
    const [{ openLines }, statements] = await Promise.all([import('./mysql/lines.js'), import('./mysql/statements.js')])
    // Apart, so that revoking never waits for minting.
    const lines = () => openLines(login, SERVERS[options.server], context.concurrency)
    return provider(options, context, { minting: lines(), revoking: lines() }, statements)
  },
}

function provider(
  options: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
  { minting, revoking }: Record<'minting' | 'revoking', Lines>,
  sql: Statements,
): Provider<Params> {
  const server = SERVERS[options.server]
  const ask = (time: Deadline, batch: string[]) => revoking.use(time, (send) => send(() => batch))
  return {
    type: 'mysql',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'planned',
    cutsSessions: true,
    sensitiveHandle: false,
    // PASSWORD EXPIRE counts in days, and whoever can log in can set a new password.
    expiryEndsUse: false,

    plan: (lease) => ({ user: server.userOf(instance, lease.id), host: options.account_host }),

    async mint(request) {
      const time = deadline(request.deadlineMs)
      const account = handleShape.parse(request.handle)
      const { params, lease, until } = request
      const grants = narrow(params, lease.scope)
      const password = randomBytes(PASSWORD_BYTES).toString('base64url')
      const made = {
        ...account,
        hash: server.hash(password),
        note: server.noteOf(noteOf(instance, request)),
        grants,
        requireTls: options.tls !== 'off',
        limits: limitsOf(params),
        days: Math.max(1, Math.ceil((request.expiresAt - request.issuedAt) / DAY_MS)),
        until,
      }
      await minting.use(time, async (send) => {
        try {
          await send((left) => sql.createAccount(server, made, left))
        } catch (error) {
          // It is locked; and if it cannot be dropped here, then by the revoke. One that was there before is not this mint's to drop.
          if (leftAccount(error)) await send(() => sql.dropAccount(account)).catch(() => undefined)
          throw error
        }
      })
      return { credential: credentialOf(options, { username: account.user, password, database: databaseOf(params, grants) }) }
    },

    async revoke(handle, deadlineMs) {
      const time = deadline(deadlineMs)
      const account = handleShape.parse(handle)
      return revoking.use(time, async (send) => {
        const found = await lockedOut(send, account)
        await endSessions(send, account.user)
        await send(() => sql.dropAccount(account))
        // The last look is for one whose login was under way when the account was locked, or that a broker left behind that died here.
        await endSessions(send, account.user)
        await send(() => sql.release(account.user))
        return found ? 'revoked' : 'absent'
      })
    },

    async verify(handle, deadlineMs) {
      const time = deadline(deadlineMs)
      const account = handleShape.parse(handle)
      const found = [...(await ask(time, sql.lookFor(account))), ...(await ask(time, sql.sessionsOf(account.user)))]
      return found.length === 0 ? 'dead' : 'alive'
    },

    async *list() {
      for (let after = ''; ; ) {
        const found = await ask(deadline(timeoutMs), sql.page(server, server.prefixOf(instance), after, PAGE))
        for (const row of found) {
          const { User: user, Host: host } = pageShape.parse(row)
          const lease = server.leaseOf(instance, row)
          if (lease !== undefined) yield { lease, handle: { user, host } }
          after = user
        }
        if (found.length < PAGE) return
      }
    },

    async check(roles = []) {
      const time = deadline(timeoutMs)
      const account = { user: `mf-${instance}-check`, host: options.account_host }
      const wrong = await revoking.use(time, async (send) => {
        const own = await selfProblems(send, sql, server, now)
        return own.length > 0 ? own : grantProblems(send, sql, account, roles)
      })
      if (wrong.length > 0) throw new ProviderError('refused', `${wrong.join('; ')}; ${DOCS}`)
    },

    async close() {
      minting.close()
      revoking.close()
    },
  }

  /** Answers whether there is such an account. What ends its use waits for no lock; what is left waits for a mint that is under way. */
  async function lockedOut(send: Send, account: Account): Promise<boolean> {
    for (let seconds = 0; ; seconds = 1) {
      try {
        return (await send(() => sql.lockOutInTurn(account, seconds))).length > 0
      } catch (error) {
        if (!isBusy(error)) throw error
        await send(() => sql.lockOut(account))
        await endSessions(send, account.user)
      }
    }
  }

  async function endSessions(send: Send, user: string): Promise<void> {
    for (let found = await send(() => sql.sessionsOf(user)); found.length > 0; found = await send(() => sql.sessionsAgain(user)))
      for (const { id } of found)
        await send(() => sql.endSession(z.int().parse(id))).catch((error: unknown) => {
          if (!isGone(error)) throw error
        })
  }
}

const pageShape = z.object({ User: z.string(), Host: z.string() })

function limitsOf({ max_connections, max_queries_per_hour, max_updates_per_hour }: Params): Readonly<Record<string, number | undefined>> {
  return { MAX_USER_CONNECTIONS: max_connections, MAX_QUERIES_PER_HOUR: max_queries_per_hour, MAX_UPDATES_PER_HOUR: max_updates_per_hour }
}

function databaseOf(params: Params, grants: readonly Grant[]): string | undefined {
  return (grants.find(({ database }) => database === params.database) ?? grants[0])?.database
}

/** What a person sees in MySQL's `information_schema.user_attributes`, and what `list` reads back. */
function noteOf(instance: string, { lease, expiresAt }: MintRequest<Params>): Readonly<Record<string, unknown>> {
  // Half a character is no JSON for MySQL.
  const cut = (value: string | undefined) => value?.slice(0, MAX_NOTE_FIELD).replace(/\p{Surrogate}/gu, '\ufffd')
  const who = { agent: cut(lease.agent), task: cut(lease.task), human: cut(lease.human), role: cut(lease.role) }
  return { mayfly: instance, lease: lease.id, expires_at: new Date(expiresAt).toISOString(), ...who }
}

function credentialOf(options: Options, login: { username: string; password: string; database?: string }): Credential {
  const address = addressOf(options.url)
  const { host = address.host, port = address.port } = options
  const { username, password, database = '' } = login
  const tls = options.tls !== 'off'
  const url = `mysql://${username}:${password}@${host.includes(':') ? `[${host}]` : host}:${port}/${encodeURIComponent(database)}`
  return {
    type: 'mysql',
    fields: { host, port, database, username, password, tls, url },
    env: {
      MYSQL_HOST: host,
      MYSQL_TCP_PORT: String(port),
      MYSQL_DATABASE: database,
      MYSQL_USER: username,
      MYSQL_PASSWORD: password,
      // What the command-line clients read.
      MYSQL_PWD: password,
      MYSQL_URL: url,
    },
  }
}

function addressOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 3306) }
}

/** Options of the driver are not the url's to set. */
function isComplete(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, pathname, search, hash } = new URL(text)
  return /^(mysql|mariadb):$/.test(protocol) && hostname !== '' && username !== '' && pathname.length <= 1 && search === '' && hash === ''
}
