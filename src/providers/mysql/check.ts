import { z } from 'zod'
import { ProviderError } from '../provider.js'
import { narrow, type Params } from './grants.js'
import type { Send } from './lines.js'
import type { Server } from './servers.js'
import type { Account, Statements } from './statements.js'

const MAX_CLOCK_DIFFERENCE_MS = 2000

/** What is wrong with the broker's own access, in sentences. */
export async function selfProblems(send: Send, sql: Statements, server: Server, ours: () => number): Promise<string[]> {
  const [self] = await send(() => sql.SELF)
  const { version, now } = selfShape.parse(self)
  if (!server.is(version)) return [`this is not ${server.title}, which "server" says, but ${version}`]
  const own = (await send(() => sql.OWN_PRIVILEGES)).map(({ privilege }) => privilege)
  const missing = server.privileges.filter((one) => !own.includes(one))
  const unreadable = await send(() => sql.page(server, 'mf-', '', 1)).then(() => false, isRefused)
  const difference = Math.round(Math.abs(now - ours()))
  return [
    ...(isOlder(version, server.oldest) ? [`${server.title} ${server.oldest} or later is needed; this is ${version}`] : []),
    ...(missing.length > 0 ? [`the broker lacks ${missing.join(', ')}: GRANT ${missing.join(', ')} ON *.* to it, not through a role`] : []),
    ...(unreadable ? [`the broker cannot see accounts: GRANT SELECT (${server.columns.join(', ')}) ON mysql.user to it`] : []),
    ...(difference > MAX_CLOCK_DIFFERENCE_MS ? [`the database's clock is ${difference} ms off the broker's: mints would be late or too late`] : []),
  ]
}

/** Grants what the roles would, to an account that nobody can use and that is dropped again. */
export async function grantProblems(
  send: Send,
  sql: Statements,
  account: Account,
  roles: readonly { readonly name: string; readonly params: Params }[],
): Promise<string[]> {
  const wrong: string[] = []
  const partial = (await send(() => sql.PARTIAL_REVOKES)).length > 0
  if (partial && roles.some(({ params }) => params.grants.some(({ database, tables }) => tables === undefined && database.includes('_'))))
    wrong.push('partial_revokes is ON, under which a database with "_" in its name can only be granted by its tables')
  await send((left) => sql.tryAccount(account, left))
  for (const { name, params } of roles)
    for (const grant of narrow(params, {}))
      await send(() => sql.tryGrant(account, grant)).catch((error: unknown) => {
        if (!isRefused(error)) throw error
        const place = grant.table === undefined ? `all of ${grant.database}` : `${grant.database}.${grant.table}`
        wrong.push(`role "${name}": the broker cannot grant ${grant.privileges.join(', ')} on ${place}: ${error.message}`)
      })
  await send(() => [...sql.dropAccount(account), ...sql.release(account.user)])
  return wrong
}

const selfShape = z.object({ version: z.string(), now: z.coerce.number() })

function isRefused(error: unknown): error is ProviderError {
  return error instanceof ProviderError && (error.kind === 'refused' || error.kind === 'invalid')
}

function isOlder(version: string, than: string): boolean {
  const parts = (text: string) => (text.match(/\d+/g) ?? []).slice(0, 3).map(Number)
  const [found, needed] = [parts(version), parts(than)]
  const at = needed.findIndex((part, index) => part !== found[index])
  return at >= 0 && (found[at] ?? 0) < (needed[at] ?? 0)
}
