import { z } from 'zod'
import type { Scope } from '../../types.js'
import { ProviderError } from '../provider.js'

/** At most 64 characters; without what is a wildcard or an escape in a GRANT on a database, and without the "/" of a scope's path. */
const name = z.string().regex(/^[^\s\p{C}/\\%*?`'"]{1,64}$/u, 'must be the name of a database or table: at most 64 characters, no wildcards')
const database = name.refine((text) => !SYSTEM.has(text.toLowerCase()), 'is a database of the server itself')
const SYSTEM = new Set(['mysql', 'information_schema', 'performance_schema', 'sys'])

/**
 * Privileges on data, and no other: nothing global, no GRANT OPTION, and none that leaves something behind which runs as its maker after
 * the maker is gone (views, routines, triggers, events). https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html
 */
const ON_TABLES = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'ALTER', 'INDEX', 'REFERENCES', 'SHOW VIEW'] as const
const ON_DATABASES = ['EXECUTE', 'LOCK TABLES', 'CREATE TEMPORARY TABLES'] as const
const privilege = z.enum([...ON_TABLES, ...ON_DATABASES])
type Privilege = z.infer<typeof privilege>

export const params = z.strictObject({
  grants: z
    .array(
      z.strictObject({
        database,
        /** Absent: all tables of the database. */
        tables: z.array(name).min(1).max(64).optional(),
        privileges: z.array(privilege).min(1),
      }),
    )
    .min(1)
    .max(32),
  /** Database that the agent is told; default: the first that is granted. */
  database: database.optional(),
  max_connections: z.int().min(1).max(1000).default(10),
  /** Limits of the server on the account; absent: none. */
  max_queries_per_hour: z.int().min(1).max(1_000_000_000).optional(),
  max_updates_per_hour: z.int().min(1).max(1_000_000_000).optional(),
})
export type Params = z.infer<typeof params>

/** One GRANT: on a table, or on a whole database. */
export interface Grant {
  readonly database: string
  readonly table?: string
  readonly privileges: readonly Privilege[]
}

export function problemsOf({ grants, database }: Params): string[] {
  return [
    ...grants.flatMap(({ tables, privileges }) =>
      tables === undefined ? [] : privileges.filter(isForDatabases).map((one) => `params: ${one} is a privilege on whole databases, not on tables`),
    ),
    ...(database === undefined || grants.some((one) => one.database === database) ? [] : ['params: "database" is none of those in "grants"']),
  ]
}

/**
 * What a scope leaves of the role's grants. `tables` is a path, or a list of them: a database, or `database/table`; `privileges` is a list.
 * What is left is the part that both the role and the request name.
 */
export function narrow({ grants }: Params, scope: Scope): Grant[] {
  const { tables, privileges: wanted, ...unknown } = scope
  if (Object.keys(unknown).length > 0) throw new ProviderError('invalid', 'a mysql role can be narrowed by "tables" and "privileges" only')
  if (typeof wanted === 'string') throw new ProviderError('invalid', 'scope "privileges" must be a list')
  const all = grants.flatMap(({ database, tables, privileges }): Grant[] =>
    tables === undefined ? [{ database, privileges }] : tables.map((table) => ({ database, table, privileges })),
  )
  if (wanted?.some((one) => !all.some(({ privileges }) => privileges.some((granted) => granted === one))))
    throw new ProviderError('invalid', 'scope "privileges" names one that the role does not have')
  const paths = tables === undefined ? undefined : [tables].flat().map(partsOf)
  const left = (paths === undefined ? all : paths.flatMap((path) => below(all, path)))
    .map((grant) => ({ ...grant, privileges: grant.privileges.filter((one) => wanted === undefined || wanted.includes(one)) }))
    .filter(({ privileges }) => privileges.length > 0)
  if (left.length === 0) throw new ProviderError('invalid', 'the scope leaves no privilege of the role')
  return left
}

interface Path {
  readonly database: string
  readonly table?: string
}
function partsOf(path: string): Path {
  const parts = z.array(name).min(1).max(2).safeParse(path.replace(/\/$/, '').split('/'))
  const [database, table] = parts.data ?? []
  if (database === undefined) throw new ProviderError('invalid', 'scope "tables" must be "database" or "database/table", without wildcards')
  return table === undefined ? { database } : { database, table }
}

function below(grants: readonly Grant[], { database, table }: Path): Grant[] {
  const left = grants
    .filter((grant) => grant.database === database && (table === undefined || grant.table === undefined || grant.table === table))
    .map((grant) => (table === undefined ? grant : { ...grant, table, privileges: grant.privileges.filter((one) => !isForDatabases(one)) }))
  if (left.length === 0) throw new ProviderError('invalid', 'scope "tables" lies outside the grants of the role')
  return left
}

function isForDatabases(one: Privilege): boolean {
  return ON_DATABASES.some((other) => other === one)
}
