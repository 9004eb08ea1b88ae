/** From the weakest to the strongest. */
export const LEVELS = ['read', 'write', 'admin'] as const
export type Level = (typeof LEVELS)[number]

const READ = ['read'] as const
const WRITE = ['write'] as const
const BOTH = ['read', 'write'] as const
const ALL = ['read', 'write', 'admin'] as const

/**
 * What an installation token can be given, with its levels: the schema `app-permissions` of GitHub's published description,
 * https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app
 */
const PUBLISHED = {
  actions: BOTH,
  administration: BOTH,
  artifact_metadata: BOTH,
  attestations: BOTH,
  checks: BOTH,
  code_quality: BOTH,
  codespaces: BOTH,
  contents: BOTH,
  custom_properties_for_organizations: BOTH,
  dependabot_secrets: BOTH,
  deployments: BOTH,
  discussions: BOTH,
  email_addresses: BOTH,
  enterprise_custom_properties_for_organizations: ALL,
  environments: BOTH,
  followers: BOTH,
  git_ssh_keys: BOTH,
  gpg_keys: BOTH,
  interaction_limits: BOTH,
  issues: BOTH,
  members: BOTH,
  merge_queues: BOTH,
  metadata: BOTH,
  organization_administration: BOTH,
  organization_announcement_banners: BOTH,
  organization_copilot_agent_settings: BOTH,
  organization_copilot_seat_management: BOTH,
  organization_custom_org_roles: BOTH,
  organization_custom_properties: ALL,
  organization_custom_roles: BOTH,
  organization_events: READ,
  organization_hooks: BOTH,
  organization_packages: BOTH,
  organization_personal_access_token_requests: BOTH,
  organization_personal_access_tokens: BOTH,
  organization_plan: READ,
  organization_projects: ALL,
  organization_secrets: BOTH,
  organization_self_hosted_runners: BOTH,
  organization_user_blocking: BOTH,
  packages: BOTH,
  pages: BOTH,
  profile: WRITE,
  pull_requests: BOTH,
  repository_custom_properties: BOTH,
  repository_hooks: BOTH,
  repository_projects: ALL,
  secret_scanning_alerts: BOTH,
  secrets: BOTH,
  security_events: BOTH,
  single_file: BOTH,
  starring: BOTH,
  statuses: BOTH,
  vulnerability_alerts: BOTH,
  workflows: WRITE,
} as const satisfies Record<string, readonly Level[]>
export type Permission = keyof typeof PUBLISHED
export type Permissions = Readonly<Partial<Record<Permission, Level>>>

export const PERMISSIONS = Object.keys(PUBLISHED) as Permission[]

/**
 * What may be written to by a token that dies in an hour without leaving a way in: all else (deploy keys, collaborators, members, webhooks,
 * workflow files, secrets, runners, …) makes access that outlives it, and a permission that GitHub adds is taken to be of that kind.
 */
const LEAVES_NO_WAY_IN: ReadonlySet<Permission> = new Set([
  'actions',
  'artifact_metadata',
  'attestations',
  'checks',
  'code_quality',
  'contents',
  'deployments',
  'discussions',
  'interaction_limits',
  'issues',
  'merge_queues',
  'metadata',
  'organization_announcement_banners',
  'organization_packages',
  'organization_projects',
  'packages',
  'pages',
  'pull_requests',
  'repository_projects',
  'secret_scanning_alerts',
  'security_events',
  'single_file',
  'starring',
  'statuses',
  'vulnerability_alerts',
])

/** Has GitHub this level for this permission? */
export function isPublished(permission: Permission, level: Level): boolean {
  return (PUBLISHED[permission] as readonly Level[]).includes(level)
}

/** Those of the permissions by which access can be made that outlives the token; whoever is admin of a project also says who else may. */
export function lasting(permissions: Permissions): Permission[] {
  return PERMISSIONS.filter((name) => permissions[name] === 'admin' || (permissions[name] === 'write' && !LEAVES_NO_WAY_IN.has(name)))
}

/** What of the permissions reaches other credentials, in sentences. An alert of secret scanning holds the secret that was found. */
export function escalations(permissions: Permissions): string[] {
  return [
    ...lasting(permissions).map((name) => `permissions.${name}: ${permissions[name]} can make access`),
    ...(permissions.secret_scanning_alerts ? ['permissions.secret_scanning_alerts reads the secrets that were found'] : []),
  ]
}

/** What is given beyond what may be, as `name: level`. Names and levels as an upstream writes them. */
export function beyond(given: Readonly<Record<string, string>>, allowed: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(given)
    .filter(([name, level]) => !(strength(level) <= strength(Object.hasOwn(allowed, name) ? allowed[name] : undefined)))
    .map(([name, level]) => `${name}: ${level}`)
}

/** 0 for none; beyond all levels for a word that is not one, so that it never passes for weaker. */
function strength(level: string | undefined): number {
  if (level === undefined) return 0
  const found = ['', ...LEVELS].indexOf(level)
  return found > 0 ? found : Number.POSITIVE_INFINITY
}
