import type { Principal } from '../types.js'
import type { Issuer } from './issuer.js'
import type { AgentRule, GatewayRule, IdentityOptions, Match, OperatorRule, OrchestratorRule } from './options.js'
import { compilePattern, type Matcher } from './pattern.js'
import type { Claims } from './presets.js'
import { refuse } from './refuse.js'
import { compileTemplate, idValue, type Template } from './template.js'

/** What a rule doesn't say of a principal, because the token does. */
export type TokenFacts = Pick<Principal, 'issuer' | 'subject' | 'tokenFingerprint' | 'tokenIssuedAt' | 'tokenExpiresAt'>

/** Claims -> exactly one principal; none or several is a refusal. */
export type Mapping = (claims: Claims, facts: TokenFacts) => Principal

interface CompiledRule {
  /** For example `agents[0]`. */
  readonly path: string
  readonly template: Template
  readonly patterns: readonly { readonly claim: string; readonly matches: Matcher }[]
  principal(id: string, claims: Claims, facts: TokenFacts): Principal
}
type AnyRule = AgentRule | OrchestratorRule | OperatorRule | GatewayRule

/** Compiles all rules once; throws an `Error` that names the path of what is wrong. */
export function compileMapping(options: IdentityOptions, issuers: readonly Issuer[]): Mapping {
  const rules = new Map<string, CompiledRule[]>(issuers.map((issuer) => [issuer.name, []]))
  const add = <R extends AnyRule>(kind: Principal['kind'], list: readonly R[] | undefined, build: (rule: R) => CompiledRule['principal']) => {
    for (const [index, rule] of (list ?? []).entries()) {
      const path = `${kind}s[${index}]`
      const issuer = issuers.find((candidate) => candidate.name === rule.match.issuer)
      const ofIssuer = rules.get(rule.match.issuer)
      if (issuer === undefined || ofIssuer === undefined) throw new Error(`${path}.match.issuer: there is no such issuer`)
      if (issuer.only !== undefined && !issuer.only.includes(kind)) throw new Error(`${path}.match.issuer: it is only for ${issuer.only.join(', ')}`)
      const template = at(`${path}.id`, () => compileTemplate(rule.id))
      ofIssuer.push({ path, template, patterns: compileMatch(`${path}.match`, rule.match), principal: build(rule) })
    }
  }
  add('agent', options.agents, buildAgent)
  add('orchestrator', options.orchestrators, (rule) => (id, _claims, facts) => ({ kind: 'orchestrator', id, ...facts, ...common(rule) }))
  add('operator', options.operators, (rule) => (id, _claims, facts) => ({ kind: 'operator', id, ...facts, ...common(rule), groups: rule.groups }))
  add('gateway', options.gateways, (rule) => (id, _claims, facts) => ({ kind: 'gateway', id, ...facts, ...common(rule), audiences: rule.audiences }))

  return (claims, facts) => {
    const [rule, another] = (rules.get(facts.issuer) ?? []).filter(({ patterns }) => patterns.every((pattern) => claimMatches(pattern, claims)))
    if (rule === undefined) refuse('token_invalid', `no agent, orchestrator, operator or gateway of issuer ${facts.issuer} matches its claims`)
    if (another !== undefined) refuse('token_invalid', `ambiguous: ${rule.path} and ${another.path} both match its claims`)
    const id = rule.template.fill(claims)
    if (!id.ok) refuse('token_invalid', `${rule.path}.id cannot be filled: ${id.reason}`)
    return rule.principal(id.text, claims, facts)
  }
}

function buildAgent(rule: AgentRule): CompiledRule['principal'] {
  const { owner, autonomy, openTasks } = rule
  return (id, claims, facts) => {
    const agent = { kind: 'agent', id, ...facts, ...common(rule), owner, autonomy, openTasks } as const
    if (rule.instance === undefined) return agent
    const instance = idValue(rule.instance, claims)
    if (!instance.ok) refuse('token_invalid', `the instance cannot be told: ${instance.reason}`)
    return { ...agent, instance: instance.text }
  }
}

function common({ labels, team }: AnyRule): Pick<Principal, 'labels' | 'team'> {
  return { labels: labels ?? [], team }
}

function compileMatch(path: string, match: Match): CompiledRule['patterns'] {
  return Object.entries(match.claims).map(([claim, pattern]) => ({ claim, matches: at(`${path}.${claim}`, () => compilePattern(pattern)) }))
}

function claimMatches({ claim, matches }: CompiledRule['patterns'][number], claims: Claims): boolean {
  const value = claims.get(claim)
  if (value === undefined) return false
  return typeof value === 'string' ? matches(value) : value.some(matches)
}

function at<T>(path: string, compile: () => T): T {
  try {
    return compile()
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}
