import type { Agent, Human, Orchestrator, Principal } from '../types.js'
import type { Issuer } from './issuer.js'
import { allMatch, at, compileMatch, type Patterns } from './match.js'
import type { AgentRule, GatewayRule, HumanRule, IdentityOptions, OperatorRule, OrchestratorRule } from './options.js'
import type { Claims } from './presets.js'
import { refuse } from './refuse.js'
import { canBe } from './roster.js'
import { compileTemplate, idValue, type Template } from './template.js'

/** What a rule doesn't say of a principal, because the token does. */
export type TokenFacts = Pick<Principal, 'issuer' | 'subject' | 'tokenFingerprint' | 'tokenIssuedAt' | 'tokenExpiresAt'>

/** Claims -> exactly one of those who are meant; none or several is a refusal. */
export interface Mapping {
  caller(claims: Claims, facts: TokenFacts): Principal
  /** On whose behalf somebody acts. */
  human(claims: Claims, facts: TokenFacts): Human
}

interface CompiledRule<Who> {
  /** For example `agents[0]`. */
  readonly path: string
  readonly kind: Kind
  readonly template: Template
  readonly patterns: Patterns
  who(id: string, claims: Claims, facts: TokenFacts): Who
}
type Kind = Principal['kind'] | 'human'
type AnyRule = AgentRule | OrchestratorRule | OperatorRule | GatewayRule | HumanRule
type Build<Who> = CompiledRule<Who>['who']

/** Compiles all rules once; throws an `Error` that names the path of what is wrong. */
export function compileMapping(options: IdentityOptions, issuers: readonly Issuer[]): Mapping {
  const compile = <R extends AnyRule, Who>(kind: Kind, list: readonly R[] | undefined, build: (rule: R, path: string) => Build<Who>) =>
    (list ?? []).map((rule, index): [string, CompiledRule<Who>] => {
      const path = `${kind}s[${index}]`
      const issuer = issuers.find((candidate) => candidate.name === rule.match.issuer)
      if (issuer === undefined) throw new Error(`${path}.match.issuer: there is no such issuer`)
      if (issuer.only !== undefined && !issuer.only.includes(kind)) throw new Error(`${path}.match.issuer: it is only for ${issuer.only.join(', ')}`)
      const template = at(`${path}.id`, () => compileTemplate(rule.id))
      const patterns = compileMatch(`${path}.match`, rule.match.claims)
      return [issuer.name, { path, kind, template, patterns, who: build(rule, path) }]
    })
  const callers = byIssuer<Principal>([
    ...compile('agent', options.agents, buildAgent),
    ...compile('orchestrator', options.orchestrators, buildOrchestrator),
    ...compile('operator', options.operators, buildOperator),
    ...compile('gateway', options.gateways, (rule: GatewayRule, path: string): Build<Principal> => {
      const { audiences, tools = [], agents } = rule
      const nobody = agents?.find((pattern) => !options.agents?.some((agent) => canBe(agent, pattern)))
      if (nobody !== undefined) throw new Error(`${path}.agents: no rule makes an agent "${nobody}"`)
      return (id, _claims, facts) => ({ kind: 'gateway', id, ...facts, ...common(rule), audiences, tools, agents })
    }),
  ])
  const humans = byIssuer<Human>(compile('human', options.humans, buildHuman))

  return {
    caller(claims, facts) {
      const human = matching(humans, claims, facts)[0]
      if (human !== undefined && matching(callers, claims, facts).length === 0)
        refuse('token_invalid', `${human.path} matches its claims: a human calls nothing, an agent presents it as "on_behalf_of"`)
      const rule = only(callers, claims, facts, 'agent, orchestrator, operator or gateway')
      // An operator is a person too. Anything else is not, and nobody could tell which of the two this is.
      if (human !== undefined && rule.kind !== 'operator') refuse('token_invalid', `ambiguous: ${rule.path} and ${human.path} both match its claims`)
      return rule.who(filled(rule, claims), claims, facts)
    },
    human(claims, facts) {
      const rule = only(humans, claims, facts, 'human')
      const caller = matching(callers, claims, facts).find(({ kind }) => kind !== 'operator')
      if (caller !== undefined) refuse('token_invalid', `ambiguous: ${rule.path} and ${caller.path} both match its claims`)
      return rule.who(filled(rule, namesFolded(claims)), claims, facts)
    },
  }
}

type ByIssuer<Who> = ReadonlyMap<string, readonly CompiledRule<Who>[]>

function byIssuer<Who>(rules: readonly [string, CompiledRule<Who>][]): ByIssuer<Who> {
  const grouped = new Map<string, CompiledRule<Who>[]>()
  for (const [issuer, rule] of rules) grouped.set(issuer, [...(grouped.get(issuer) ?? []), rule])
  return grouped
}

function matching<Who>(rules: ByIssuer<Who>, claims: Claims, { issuer }: TokenFacts): CompiledRule<Who>[] {
  return (rules.get(issuer) ?? []).filter(({ patterns }) => allMatch(patterns, claims))
}

function only<Who>(rules: ByIssuer<Who>, claims: Claims, facts: TokenFacts, whom: string): CompiledRule<Who> {
  const [rule, another] = matching(rules, claims, facts)
  if (rule === undefined) refuse('token_invalid', `no ${whom} of issuer ${facts.issuer} matches its claims`)
  if (another !== undefined) refuse('token_invalid', `ambiguous: ${rule.path} and ${another.path} both match its claims`)
  return rule
}

function filled({ path, template }: Pick<CompiledRule<unknown>, 'path' | 'template'>, claims: Claims): string {
  const id = template.fill(claims)
  if (!id.ok) refuse('token_invalid', `${path}.id cannot be filled: ${id.reason}`)
  return id.text
}

function buildAgent(rule: AgentRule, path: string): Build<Agent> {
  const { owner, autonomy, openTasks, openTools } = rule
  const audience = audienceOf(rule, path)
  return (id, claims, facts) => {
    const agent = { kind: 'agent', id, ...facts, ...common(rule), owner, autonomy, openTasks, openTools, ...audience(claims) } as const
    if (rule.instance === undefined) return agent
    const instance = idValue(rule.instance, claims)
    if (!instance.ok) refuse('token_invalid', `the instance cannot be told: ${instance.reason}`)
    return { ...agent, instance: instance.text }
  }
}

function buildOrchestrator(rule: OrchestratorRule, path: string): Build<Orchestrator> {
  const audience = audienceOf(rule, path)
  return (id, claims, facts) => ({ kind: 'orchestrator', id, ...facts, ...common(rule), ...audience(claims) })
}

/** Whose names the token does not show decides nothing: nobody could tell what is their own. */
function buildOperator(rule: OperatorRule, path: string): Build<Principal> {
  const templates = (rule.persons ?? []).map((person) => at(`${path}.person`, () => compileTemplate(person)))
  return (id, claims, facts) => {
    const operator = { kind: 'operator', id, ...facts, ...common(rule), groups: rule.groups } as const
    if (templates.length === 0) return operator
    const persons = templates.map((template) => {
      const person = template.fill(claims)
      if (!person.ok) refuse('token_invalid', `${path}.person cannot be filled: ${person.reason}`)
      return person.text
    })
    return { ...operator, persons }
  }
}

/** What its token cannot fill is an audience that nobody has: it calls all the same. */
function audienceOf({ onBehalfOf }: AgentRule | OrchestratorRule, path: string): (claims: Claims) => { humanAudience?: string } {
  if (onBehalfOf === undefined) return () => ({})
  const template = at(`${path}.on_behalf_of.audience`, () => compileTemplate(onBehalfOf.audience))
  return (claims) => {
    const audience = template.fill(claims)
    return audience.ok ? { humanAudience: audience.text } : {}
  }
}

function buildHuman({ team, groups = [] }: HumanRule, path: string): Build<Human> {
  const all = Array.isArray(groups) ? groups.map((name): [string, Patterns] => [name, []]) : undefined
  const shown = all ?? Object.entries(groups).map(([name, claims]): [string, Patterns] => [name, compileMatch(`${path}.groups.${name}`, claims)])
  return (id, claims, facts) => {
    return { id, ...facts, team, groups: shown.filter(([, patterns]) => allMatch(patterns, claims)).map(([name]) => name) }
  }
}

/** Names that people are given or take, and that are the same in whatever case: a person who writes it in another is no other person. */
const NAMES = ['email', 'preferred_username', 'upn', 'unique_name']

function namesFolded(claims: Claims): Claims {
  const folded = new Map(claims)
  for (const name of NAMES) {
    const value = claims.get(name)
    if (typeof value !== 'string') continue
    // What only looks like another's name must not become it.
    if (value !== value.normalize('NFKC')) refuse('token_invalid', `"${name}" is not written in its plain characters`)
    folded.set(name, value.toLowerCase())
  }
  return folded
}

function common({ labels, team }: { readonly labels?: readonly string[]; readonly team?: string }): Pick<Principal, 'labels' | 'team'> {
  return { labels: labels ?? [], team }
}
