import type { Agent, HumanProof } from '../types.js'
import type { AgentRule, HumanRule } from './options.js'

/**
 * Who an agent is by the configuration alone, for decisions about what it holds while it does not ask: nothing that only its token says.
 * Several where the ids that rules fill overlap, or no issuer is named; none where it is not configured any more.
 */
export type Roster = (agent: { readonly id: string; readonly issuer?: string; readonly instance?: string }) => readonly Agent[]

const PLACEHOLDER = /\{[^{}]*\}/
const ALL_PLACEHOLDERS = /\{[^{}]*\}/g
/** What `{claim}` may be filled with: see `template.ts`. */
const VALUE = '[^/:*{}"\'`\\\\\\p{C}\\p{Z}]+'

export function createRoster(rules: readonly AgentRule[] = []): Roster {
  const known = rules.map((rule) => ({ rule, matches: idsOf(rule) }))
  return ({ id, issuer, instance }) =>
    known
      .filter(({ rule, matches }) => (issuer === undefined || rule.match.issuer === issuer) && matches.test(id))
      .filter(({ rule }) => (rule.instance === undefined) === (instance === undefined))
      .map(({ rule }) => agentOf(rule, id, instance))
}

/**
 * What a human's token would show today of team and groups, by the configuration alone. Undefined where that cannot be told: no rule knows the
 * human any more, or several might.
 */
export type Standing = (id: string, proof: HumanProof) => HumanProof | undefined

export function createStanding(rules: readonly HumanRule[] = []): Standing {
  const known = rules.map((rule) => ({ rule, matches: idsOf(rule) }))
  return (id, proof) => {
    const found = known
      .filter(({ rule, matches }) => rule.match.issuer === proof.issuer && matches.test(id))
      .map(({ rule: { team, groups = [] } }) => ({
        ...proof,
        team,
        groups: Array.isArray(groups) ? groups : Object.keys(groups).filter((name) => proof.groups.includes(name)),
      }))
    return found.find((now) => isLike(now, proof)) ?? (found.length === 1 ? found[0] : undefined)
  }
}

function isLike(one: HumanProof, other: HumanProof): boolean {
  return one.team === other.team && one.groups.length === other.groups.length && one.groups.every((group) => other.groups.includes(group))
}

/** The ids that a rule can make. */
export function idsOf({ id }: Pick<AgentRule, 'id'>): RegExp {
  return new RegExp(`^${id.split(PLACEHOLDER).map(escaped).join(VALUE)}$`, 'u')
}

/** Whether a rule can make an id that a pattern means: an id, `prefix/*` or `*`. A claim fills no more than a part between two slashes. */
export function canBe({ id }: Pick<AgentRule, 'id'>, pattern: string): boolean {
  if (pattern === '*') return true
  if (!pattern.endsWith('/*')) return idsOf({ id }).test(pattern)
  const parts = id.replace(ALL_PLACEHOLDERS, '{}').split('/')
  const wanted = pattern.slice(0, -2).split('/')
  return parts.length > wanted.length && wanted.every((text, index) => idsOf({ id: parts[index] ?? '' }).test(text))
}

function agentOf({ match, labels, team, owner, autonomy, openTasks, openTools }: AgentRule, id: string, instance: string | undefined): Agent {
  const noToken = { subject: '', tokenFingerprint: '', tokenIssuedAt: 0, tokenExpiresAt: 0 }
  return { kind: 'agent', id, instance, issuer: match.issuer, ...noToken, labels: labels ?? [], team, owner, autonomy, openTasks, openTools }
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
