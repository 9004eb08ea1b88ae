import type { Agent, Orchestrator } from '../types.js'
import { audienceOf, checkAudience } from './claims.js'
import type { Issuer } from './issuer.js'
import { isObject } from './json.js'
import type { ParsedJws } from './jws.js'
import type { AgentRule, IdentityOptions, OrchestratorRule } from './options.js'
import { refuse } from './refuse.js'
import { idsOf } from './roster.js'
import { compileTemplate } from './template.js'

/** Who may act for a human with the human's token: somebody who presents it, and whom it names. */
export interface Binding {
  /** Refuses a token that is not for this very caller to act with; answers by what it is. */
  check(jws: ParsedJws, issuer: Issuer, presenter: Agent | Orchestrator): 'audience' | 'may_act'
  /** Refuses a token that is for acting with, where its subject itself should be calling. */
  checkCaller(jws: ParsedJws): void
}

/** Compiles the audiences of all who may act; throws an `Error` that names the path of what is wrong. */
export function compileBinding(options: IdentityOptions, issuers: readonly Issuer[]): Binding {
  const audiences = compileAudiences(options, issuers)
  const ours = new Set(options.ownIssuers)
  const issText = new Map(issuers.map(({ name, iss }) => [name, iss]))
  const domains = new Set(issuers.flatMap(({ name, domain }) => (domain === undefined ? [] : [name])))
  const ofAgents = new Set((options.agents ?? []).map(({ match }) => match.issuer))

  /**
   * RFC 8693 §4.4. With `iss`, the subject of that issuer, or of this broker's, where agents are known by their ids. Without, it is a SPIFFE ID,
   * or a name that the token's own issuer knows: of its agents, or, where it has none, an id of ours.
   */
  const names = (mayAct: unknown, issuer: Issuer, { kind, id, issuer: from, subject }: Agent | Orchestrator): boolean => {
    if (!isObject(mayAct) || typeof mayAct.sub !== 'string') return false
    const { sub, iss } = mayAct
    const byId = kind === 'agent' && sub === id
    if (iss === undefined && domains.has(from) && sub === subject) return true
    if (iss === undefined) return from === issuer.name ? sub === subject : byId && !ofAgents.has(issuer.name)
    return (iss === issText.get(from) && sub === subject) || (typeof iss === 'string' && ours.has(iss) && byId)
  }

  return {
    check(jws, issuer, presenter) {
      const audience = audienceOf(jws)
      const isNamed = Object.hasOwn(jws.claims, 'may_act')
      if (isNamed && !names(jws.claims.may_act, issuer, presenter)) refuse('token_invalid', '"may_act" names somebody else than who presents it')
      const own = presenter.humanAudience
      if (own !== undefined && audience.includes(own)) {
        if (audiences.filter((one) => one.test(own)).length > 1) refuse('token_invalid', 'ambiguous: "aud" could name several who act')
        checkAudience(jws, issuer, own)
        return 'audience'
      }
      if (audiences.some((other) => audience.some((one) => other.test(one))))
        refuse('token_invalid', '"aud" names somebody else than who presents it')
      checkAudience(jws, issuer)
      if (!isNamed) refuse('token_invalid', 'neither its "aud" nor "may_act" names who presents it')
      return 'may_act'
    },
    checkCaller(jws) {
      if (audienceOf(jws).some((one) => audiences.some((other) => other.test(one))))
        refuse('token_invalid', '"aud" says that it is for somebody to act for its subject with')
    },
  }
}

/** Each caller an audience of its own, which is not the broker's: or one could act with what was given to another, or to nobody. */
function compileAudiences({ agents = [], orchestrators = [] }: IdentityOptions, issuers: readonly Issuer[]): RegExp[] {
  const compiled: { path: string; shape: string; matches: RegExp }[] = []
  const rules = Object.entries({ agents, orchestrators }).flatMap(([kind, list]) =>
    list.map((rule: AgentRule | OrchestratorRule, index: number) => ({ path: `${kind}[${index}].on_behalf_of.audience`, rule })),
  )
  for (const { path, rule } of rules) {
    if (rule.onBehalfOf === undefined) continue
    const { audience } = rule.onBehalfOf
    const told = new Set(claimsOf(path, audience))
    const shared = claimsOf(path, rule.id).find((claim) => !told.has(claim))
    if (shared !== undefined) throw new Error(`${path}: needs {${shared}}, as the id has it, or all who match would share one audience`)
    const matches = idsOf({ id: audience })
    const brokers = issuers.find((issuer) => issuer.audience !== undefined && matches.test(issuer.audience))
    if (brokers !== undefined) throw new Error(`${path}: is the audience of issuers.${brokers.name}, which every token for this broker has`)
    const shape = audience.replace(/\{[^{}]*\}/g, '{}')
    const same = compiled.find((other) => other.shape === shape || other.matches.test(audience) || matches.test(other.shape))
    if (same !== undefined) throw new Error(`${path}: ${same.path} can be the same; each who acts has one of its own`)
    compiled.push({ path, shape, matches })
  }
  return compiled.map(({ matches }) => matches)
}

function claimsOf(path: string, template: string): readonly string[] {
  try {
    return compileTemplate(template).claims
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}
