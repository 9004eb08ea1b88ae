import type {
  AgentRule,
  GatewayRule,
  HumanRule,
  IdentityOptions,
  IssuerOptions,
  OperatorRule,
  OrchestratorRule,
  Preset,
  SpiffeIssuerOptions,
} from './options.js'
import { compileTemplate } from './template.js'

type AnyRule = AgentRule | OrchestratorRule | OperatorRule | GatewayRule | HumanRule

/** Any of these sets of claims tells who the subject is. */
const BINDINGS: Readonly<Record<Preset | 'other', readonly (readonly string[])[]>> = {
  kubernetes: [['namespace', 'service_account'], ['service_account_uid'], ['sub']],
  'github-actions': [['repository_id', 'job_workflow_ref'], ['repository_id', 'environment'], ['repository_owner_id', 'job_workflow_ref'], ['sub']],
  spiffe: [['path'], ['sub'], ['spiffe_id']],
  other: [['sub'], ['client_id'], ['azp'], ['oid'], ['groups'], ['roles']],
}
/** Names that their holder can give up, and another take, beside the claim that stays. */
const MUTABLE: Readonly<Record<Preset | 'other', Readonly<Record<string, string>>>> = {
  kubernetes: { pod: 'pod_uid', node: 'node_uid' },
  'github-actions': {
    repository: 'repository_id',
    repository_owner: 'repository_owner_id',
    actor: 'actor_id',
    sub: 'repository_id, repository_owner_id, job_workflow_ref and environment',
  },
  spiffe: {},
  other: { email: 'sub', preferred_username: 'sub', upn: 'sub', name: 'sub', nickname: 'sub' },
}
/** Claims whose first part names who owns the rest: `org/repo`, `repo:org/repo:…`. */
const OWNED = new Set(['sub', 'repository', 'repository_owner', 'job_workflow_ref', 'workflow_ref', 'project_path', 'namespace_path'])
/** `repo:org*`, `org*`: a star right behind a character that is no delimiter, in a part that names an owner. */
const OPEN_OWNER = /^(?:[a-z_]+:)?[^/:]*\*/

/** Repositories made or renamed after 15 July 2026 have subjects with ids in them, which no other can take over. */
const IMMUTABLE_GITHUB_SUBJECT = /^repo:[^/:@*]+@\d+\/[^/:@*]+@\d+:/

/** What is allowed and yet not wise: each finding names its path and what to write instead. Empty when there is none. */
export function lintIdentity(options: IdentityOptions): string[] {
  const findings: string[] = []
  for (const [path, rule] of rulesOf(options)) {
    const issuer = options.issuers[rule.match.issuer]
    if (issuer === undefined) continue
    findings.push(...lintPatterns(path, rule, issuer), ...lintBinding(path, rule, issuer), ...lintNames(path, rule, issuer))
    if (issuer.kind === 'spiffe') findings.push(...lintSpiffe(path, rule, issuer))
  }
  return [...findings, ...lintPeople(options), ...lintSameIds(options)]
}

function lintPatterns(path: string, { match }: AnyRule, issuer: IssuerOptions): string[] {
  return Object.entries(match.claims)
    .filter(([claim, pattern]) => OWNED.has(claim) && OPEN_OWNER.test(pattern) && !(claim === 'sub' && presetOf(issuer) === 'kubernetes'))
    .map(
      ([claim, pattern]) =>
        `${path}.match.${claim}: "${pattern}" also matches owners that others can register; write the owner in full, or bind its id`,
    )
}

function lintBinding(path: string, rule: AnyRule, issuer: IssuerOptions): string[] {
  const bindings = BINDINGS[presetOf(issuer)]
  const matched = Object.entries(rule.match.claims).flatMap(([claim, pattern]) => (/^(?:spiffe:\/\/[^/]*)?[/*]+$/.test(pattern) ? [] : [claim]))
  // Two paths that differ fill a part of them alike: an id does not bind a workload.
  const bound = new Set([...matched, ...(issuer.kind === 'spiffe' ? [] : placeholders(rule))])
  if (bindings.some((claims) => claims.every((claim) => bound.has(claim)))) return []
  const ways = bindings.map((claims) => claims.join(' with ')).join(', or ')
  return [`${path}.match: no subject is bound, so others of the same issuer match too; bind ${ways}`]
}

function lintNames(path: string, rule: AnyRule, issuer: IssuerOptions): string[] {
  const mutable = MUTABLE[presetOf(issuer)]
  const instance = 'instance' in rule && rule.instance !== undefined ? [rule.instance] : []
  const used = [
    ...Object.entries(rule.match.claims)
      .filter(([claim, pattern]) => !(claim === 'sub' && IMMUTABLE_GITHUB_SUBJECT.test(pattern)))
      .map(([claim]) => ({ at: `match.${claim}`, claim })),
    ...placeholders(rule).map((claim) => ({ at: 'id', claim })),
    ...instance.map((claim) => ({ at: 'instance', claim })),
  ]
  return used
    .filter(({ claim }) => Object.hasOwn(mutable, claim))
    .map(({ at, claim }) => `${path}.${at}: "${claim}" is a name that can pass to another; use ${mutable[claim]}`)
}

/** A pattern that no workload of the trust domain can match is a slip, and the agent would be told only that nothing matches. */
function lintSpiffe(path: string, { match }: AnyRule, { trustDomain }: SpiffeIssuerOptions): string[] {
  const beginnings: Readonly<Record<string, string>> = { path: '/', sub: `spiffe://${trustDomain}/`, spiffe_id: `spiffe://${trustDomain}/` }
  return Object.entries(match.claims).flatMap(([claim, pattern]) => {
    const beginning = beginnings[claim]
    return beginning === undefined || pattern.startsWith(beginning)
      ? []
      : [`${path}.match.${claim}: "${pattern}" matches no workload of ${trustDomain}; begin it with "${beginning}"`]
  })
}

function presetOf(issuer: IssuerOptions): Preset | 'other' {
  return issuer.kind === 'spiffe' ? 'spiffe' : (issuer.preset ?? 'other')
}

/** Two people behind one id could approve their own request, or use what only one of them may; and no event would tell them apart. */
function lintPeople({ operators = [], humans = [] }: IdentityOptions): string[] {
  return Object.entries({ operators, humans }).flatMap(([kind, rules]) =>
    rules.flatMap((rule: OperatorRule | HumanRule, index: number) => {
      const isShared = placeholders(rule).length === 0 && !Object.values(rule.match.claims).some((pattern) => !pattern.includes('*'))
      const isGroup = placeholders(rule).length === 0 && Object.keys(rule.match.claims).every((claim) => claim === 'groups' || claim === 'roles')
      return isShared || isGroup ? [`${kind}[${index}].id: all who match share one id; put a claim into it, for example "sso/{sub}"`] : []
    }),
  )
}

/** Two rules of one kind that can give the same id make one principal of two subjects. */
function lintSameIds(options: IdentityOptions): string[] {
  const seen = new Map<string, string>()
  const findings: string[] = []
  for (const [path, rule] of rulesOf(options)) {
    const shape = `${path.replace(/\[.*$/, '')} ${rule.id.replace(/\{[^{}]*\}/g, '{}')}`
    const earlier = seen.get(shape)
    if (earlier !== undefined) findings.push(`${path}.id: ${earlier} can give the same id, and the two would be one to policies and freezes`)
    seen.set(shape, earlier ?? path)
  }
  return findings
}

function rulesOf(options: IdentityOptions): [string, AnyRule][] {
  const { agents = [], orchestrators = [], operators = [], gateways = [], humans = [] } = options
  return Object.entries({ agents, orchestrators, operators, gateways, humans }).flatMap(([kind, rules]) =>
    rules.map((rule: AnyRule, index): [string, AnyRule] => [`${kind}[${index}]`, rule]),
  )
}

function placeholders({ id }: AnyRule): readonly string[] {
  try {
    return compileTemplate(id).claims
  } catch {
    // `createIdentity` says what is wrong with it.
    return []
  }
}
