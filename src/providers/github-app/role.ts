import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { ProviderError } from '../provider.js'
import { isPublished, LEVELS, lasting, PERMISSIONS, type Permission, type Permissions } from './permissions.js'

/** GitHub's own limit for one token. */
const MAX_REPOSITORIES = 500
const repositoryName = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,100}$/, 'must be the name of a repository, without its owner')
  .refine((name) => !/^\.{1,2}$/.test(name), 'must be the name of a repository')
const distinct = (all: readonly unknown[]) => new Set(all.map((one) => String(one).toLowerCase())).size === all.length

const permissions = z.partialRecord(z.enum(PERMISSIONS), z.enum(LEVELS)).superRefine((given, context) => {
  if (Object.keys(given).length === 0) context.addIssue('name the permissions that its tokens have: a token without is given all of the app')
  for (const [name, level] of Object.entries(given) as [Permission, Permissions[Permission]][])
    if (level !== undefined && !isPublished(name, level)) context.addIssue(`GitHub has no level "${level}" of ${name}`)
})

export const params = z
  .strictObject({
    /** Number of the installation; or the account that it is for, by which it is looked up. */
    installation: z.int().positive().optional(),
    owner: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/, 'must be the login of an organization or a user')
      .optional(),
    /** Names without the owner, or numbers. */
    repositories: z
      .union([
        z.array(repositoryName).min(1).max(MAX_REPOSITORIES).refine(distinct, 'names one twice'),
        z.array(z.int().positive()).min(1).max(MAX_REPOSITORIES).refine(distinct, 'names one twice'),
      ])
      .describe('a token without is given all repositories of the installation'),
    permissions,
    /** True: its tokens may make access that outlives them. */
    allow_lasting_access: z.boolean().default(false),
  })
  .refine(({ installation, owner }) => (installation === undefined) !== (owner === undefined), 'name either the installation or its owner')
  .superRefine(({ permissions: given, allow_lasting_access: allowed }, context) => {
    if (allowed) return
    for (const name of lasting(given))
      context.addIssue(
        `permissions.${name}: ${given[name]} can make access that outlives the token; leave it out, or set allow_lasting_access if that is meant`,
      )
  })
export type Params = z.infer<typeof params>

/** The narrowing half of a request for a token: the same names as in GitHub's. */
export interface Asked {
  readonly repositories?: readonly string[]
  readonly repository_ids?: readonly number[]
  readonly permissions: Permissions
}

export function checkScope(scope: Readonly<Record<string, ScopeKind>>): string[] {
  return Object.entries(scope)
    .filter(([key, kind]) => !['repositories', 'permissions'].includes(key) || kind === 'path')
    .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a github-app role may have scope {repositories: set, permissions: set}`)
}

/** @throws ProviderError `invalid` for what the role does not have */
export function narrow({ repositories, permissions: may }: Params, scope: Scope): Asked {
  for (const key of Object.keys(scope))
    if (key !== 'repositories' && key !== 'permissions')
      throw new ProviderError('invalid', 'this role is narrowed by repositories and permissions alone')
  const named = chosen(scope.repositories)
  const kept = repositories.filter((one) => named === undefined || named.has(String(one)))
  if (named !== undefined && kept.length !== named.size)
    throw new ProviderError('invalid', 'the scope names repositories that the role does not have')
  const left = narrowPermissions(may, chosen(scope.permissions))
  const [names, ids] = [kept.filter((one) => typeof one === 'string'), kept.filter((one) => typeof one === 'number')]
  return { ...(ids.length > 0 ? { repository_ids: ids } : { repositories: names }), permissions: left }
}

/** `name:level` of each that is wanted, at the role's level or a weaker one. */
function narrowPermissions(may: Permissions, wanted: ReadonlySet<string> | undefined): Permissions {
  if (wanted === undefined) return may
  const left: Partial<Record<Permission, Permissions[Permission]>> = {}
  for (const text of wanted) {
    const [name, level, ...rest] = text.split(':')
    const permission = PERMISSIONS.find((known) => known === name)
    const asked = LEVELS.find((known) => known === level)
    const most = permission && may[permission]
    if (!permission || !asked || !most || rest.length > 0 || LEVELS.indexOf(asked) > LEVELS.indexOf(most) || !isPublished(permission, asked))
      throw new ProviderError('invalid', 'the scope names permissions, as "contents:read", that the role does not have at that level')
    if (left[permission] !== undefined) throw new ProviderError('invalid', 'the scope names a permission at two levels')
    left[permission] = asked
  }
  return left
}

function chosen(value: string | readonly string[] | undefined): ReadonlySet<string> | undefined {
  if (value === undefined) return undefined
  const set = new Set([value].flat())
  // An empty list would ask GitHub for everything.
  if (set.size === 0) throw new ProviderError('invalid', 'the scope names nothing; leave the key out to have all that the role has')
  return set
}
