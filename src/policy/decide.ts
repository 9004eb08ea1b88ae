import type { Decision, OnDeny } from '../types.js'
import type { Answer } from './evaluate.js'
import type { LoadedPolicy } from './load.js'
import { least, type StepUp, unite } from './obligations.js'

/** The engine asked for one principal. */
export interface Ask {
  /** With the consent of these groups. */
  (groups: readonly string[]): Answer
  /** Which limits apply to what is allowed; absent: there are none. */
  readonly limits?: () => Answer
}
/** What makes a decision out of answers. */
export interface Rules {
  readonly policies: ReadonlyMap<string, LoadedPolicy>
  readonly version: string
  readonly readsCounts: boolean
}

/** On behalf of a human, who asks and the human must both be allowed: one no is a no, and needs for consent add up. */
export function decide(asks: readonly Ask[], rules: Rules): Decision {
  return both(
    asks.map((ask) => decideOne(ask, rules)),
    rules,
  )
}

/** No consent is presented yet: step-up is told apart from deny by what a consent would change. */
function decideOne(ask: Ask, rules: Rules): Decision {
  const first = ask([])
  if ('error' in first) return refusal(first.error, rules)
  if (first.decision === 'allow') return allowed(first.policies, ask, rules)

  const needs = stepUps(first.policies, rules)
  if (!needs) return decision('deny', first.policies, rules)

  const consented = ask(needs.map(({ group }) => group))
  if ('error' in consented) return refusal(consented.error, rules)
  if (consented.decision === 'deny') return decision('deny', union([first.policies, consented.policies]), rules)
  const then = allowed(consented.policies, ask, rules)
  if (then.outcome === 'deny') return then
  const { maxTtlSeconds, maxLive } = then
  return decision('step-up', first.policies, rules, { maxTtlSeconds, maxLive, stepUp: needs })
}

/** The second question, after `step-up`: what these groups agreed to is allowed, or it is not. Nobody is asked again. */
export function decideWith(asks: readonly Ask[], groups: readonly string[], rules: Rules): Decision {
  return both(
    asks.map((ask) => {
      const answer = ask(groups)
      if ('error' in answer) return refusal(answer.error, rules)
      return answer.decision === 'allow' ? allowed(answer.policies, ask, rules) : decision('deny', answer.policies, rules)
    }),
    rules,
  )
}

/** What these permits allow, within the limits that apply: those decide as well. */
function allowed(permits: readonly string[], ask: Ask, rules: Rules): Decision {
  const limiting = ask.limits?.()
  if (limiting && 'error' in limiting) return refusal(limiting.error, rules)
  const all = union([permits, limiting?.policies ?? []])
  return decision('allow', all, rules, limits(all, rules))
}

/** Reasons are in the order of who was asked. */
export function both(decisions: readonly Decision[], rules: Pick<Rules, 'version' | 'readsCounts'>): Decision {
  const [only] = decisions
  if (only && decisions.length === 1) return only
  const failed = decisions.find((one) => one.error !== undefined)
  if (failed || decisions.length === 0) return refusal(failed?.error ?? 'nobody asked', rules, failed?.unavailable)
  const denials = decisions.filter(({ outcome }) => outcome === 'deny')
  const waiting = decisions.filter(({ outcome }) => outcome === 'step-up')
  const [deciding = decisions] = [denials, waiting].filter((some) => some.length > 0)
  const policies = union(deciding.map((one) => one.policies))
  const reasons = [...new Set(deciding.flatMap((one) => one.reasons))]
  if (denials.length > 0) {
    const onDeny = each(denials.flatMap((one) => one.onDeny ?? []))
    return made('deny', policies, reasons, rules, onDeny && { onDeny })
  }
  const obliged = { maxTtlSeconds: least(decisions.map((one) => one.maxTtlSeconds)), maxLive: least(decisions.map((one) => one.maxLive)) }
  if (waiting.length === 0) return made('allow', policies, reasons, rules, obliged)
  return made('step-up', policies, reasons, rules, { ...obliged, stepUp: unite(waiting.flatMap((one) => one.stepUp ?? [])) })
}

/** Undefined where consent changes nothing: no policy allows it at all, or a forbid that asks for none is among those deciding. */
function stepUps(forbids: readonly string[], { policies }: Rules): StepUp[] | undefined {
  const needs = forbids.map((id) => policies.get(id)?.obligations.stepUp)
  return needs.length > 0 && needs.every((need) => need !== undefined) ? unite(needs) : undefined
}

function limits(permits: readonly string[], { policies }: Rules): Pick<Decision, 'maxTtlSeconds' | 'maxLive'> {
  const obligations = permits.map((id) => policies.get(id)?.obligations)
  return { maxTtlSeconds: least(obligations.map((one) => one?.maxTtlSeconds)), maxLive: least(obligations.map((one) => one?.maxLive)) }
}

function decision(outcome: Decision['outcome'], ids: readonly string[], rules: Rules, obliged: Partial<Decision> = {}): Decision {
  const reasons = ids.flatMap((id) => rules.policies.get(id)?.obligations.reason ?? [])
  const follows = outcome === 'deny' ? followsFrom(ids, rules) : undefined
  return made(outcome, ids, reasons, rules, { ...obliged, ...(follows && { onDeny: follows }) })
}

/** What the forbids that decided bring about; undefined: nothing but the refusal. */
function followsFrom(ids: readonly string[], { policies }: Rules): OnDeny[] | undefined {
  return each(ids.flatMap((id) => policies.get(id)?.obligations.onDeny ?? []))
}
function each(follows: readonly OnDeny[]): OnDeny[] | undefined {
  return follows.length > 0 ? [...new Set(follows)].sort() : undefined
}

function made(
  outcome: Decision['outcome'],
  policies: readonly string[],
  reasons: readonly string[],
  { version, readsCounts }: Pick<Rules, 'version' | 'readsCounts'>,
  obliged: Partial<Decision> = {},
): Decision {
  // It is remembered and handed to many.
  for (const list of [policies, reasons, obliged.stepUp, obliged.onDeny]) Object.freeze(list)
  return Object.freeze({ outcome, policies, reasons, ...obliged, policyVersion: version, readsCounts })
}

/** Whatever goes wrong is a no. */
export function refusal(error: string, { version, readsCounts }: Pick<Rules, 'version' | 'readsCounts'>, unavailable?: true): Decision {
  return Object.freeze({
    outcome: 'deny',
    policies: [],
    reasons: [],
    policyVersion: version,
    readsCounts,
    error,
    ...(unavailable && { unavailable }),
  })
}

/** A no that nothing went wrong for. */
export function notTheirs(reason: string, { version, readsCounts }: Pick<Rules, 'version' | 'readsCounts'>): Decision {
  return Object.freeze({ outcome: 'deny', policies: [], reasons: [reason], policyVersion: version, readsCounts })
}

function union(lists: readonly (readonly string[])[]): string[] {
  return [...new Set(lists.flat())].sort()
}
