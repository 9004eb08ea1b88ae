import { notAllowed } from './authorize.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { namesOfOperator } from './persons.js'
import type { PolicyRequest } from './policy/policy.js'
import { refuseOperation } from './task.js'
import type { Decision, Freeze, Operator, RequestContext, ThawAsk } from './types.js'

type Resource = Extract<PolicyRequest, { resource: unknown }>['resource']

/** A thaw that takes more people than have asked for it. */
export interface ThawAsked {
  readonly needs: readonly { readonly group: string; readonly approvals: number; readonly given: number }[]
  readonly asks: readonly ThawAsk[]
  readonly expiresAt: number
}

/**
 * Takes one freeze back, or notes that this operator wants it to be: where policy says that others have to agree (`@stepUp`), they do so by asking
 * for the same. Each counts once, as the person that their names show, and never for themselves.
 * @throws MayflyError `denied`, after it was recorded
 */
export async function thawFreeze(
  house: House,
  operator: Operator,
  { freeze, resource, reason }: { freeze: Freeze; resource: Resource; reason: string },
  context: RequestContext,
): Promise<{ freeze: Freeze; asked?: ThawAsked }> {
  const no = (error: MayflyError) => refuseOperation(house, operator, context, error)
  const request = { action: 'thaw', principal: operator, resource } as const
  const decision = await house.policy.decide(request)
  if (decision.outcome === 'allow') return { freeze: await thawed(house, operator, freeze, reason, [], context) }
  if (decision.outcome !== 'step-up' || !decision.stepUp) throw await no(notAllowed(decision))
  // Whose hands such a key is in, nobody knows: perhaps those of whoever has asked already.
  if (house.breakGlass.has(operator.issuer)) throw await no(faceless(decision))

  const asked = await ask(house, operator, freeze, reason, decision.stepUp, context)
  if (asked.needs.some(({ approvals, given }) => given < approvals)) return { freeze, asked }
  const consented = await house.policy.decide({ ...request, consent: asked.needs.map(({ group }) => group) })
  if (consented.outcome !== 'allow') throw await no(notAllowed(consented))
  return { freeze: await thawed(house, operator, freeze, reason, asked.asks, context) }
}

/** Written down before it is counted: of two who ask at the same time, the later sees the other. */
async function ask(
  house: House,
  operator: Operator,
  freeze: Freeze,
  reason: string,
  stepUp: NonNullable<Decision['stepUp']>,
  context: RequestContext,
): Promise<ThawAsked> {
  const { id: by, issuer, groups: all } = operator
  const groups = stepUp.map(({ group }) => group).filter((group) => all.includes(group))
  const own = { by, issuer, groups, names: [...namesOfOperator(operator)], reason, at: house.ledger.now() }
  const told = event('freeze.thaw_asked', context, operator, { detail: { freeze: freeze.id, selector: freeze.selector, groups, reason } })
  const ttlMs = house.approvals.ttlSeconds * 1000
  const asks = (await house.ledger.askThaw(freeze.id, own, ttlMs, told)).filter(({ at }) => at > own.at - ttlMs)
  const others = differentPersons(asks.filter((one) => !isSamePerson(one, own)))
  const given = (group: string) => others.filter((one) => one.groups.includes(group)).length
  const needs = stepUp.map(({ group, approvals }) => ({ group, approvals, given: given(group) }))
  return { needs, asks: [...others, own], expiresAt: Math.min(...[...others, own].map(({ at }) => at)) + ttlMs }
}

function differentPersons(asks: readonly ThawAsk[]): ThawAsk[] {
  const persons: ThawAsk[] = []
  for (const one of asks) if (!persons.some((other) => isSamePerson(one, other))) persons.push(one)
  return persons
}

function isSamePerson(one: ThawAsk, other: ThawAsk): boolean {
  return one.names.some((name) => other.names.includes(name))
}

async function thawed(
  house: House,
  operator: Operator,
  { id, selector, kind }: Freeze,
  reason: string,
  asks: readonly ThawAsk[],
  context: RequestContext,
): Promise<Freeze> {
  const agreed = asks.length > 0 ? asks.map(({ by, issuer, reason: why, at }) => ({ by, issuer, reason: why, at })) : undefined
  const told = event('freeze.thawed', context, operator, { detail: { freeze: id, selector, reason, kind, agreed } })
  const answer = await house.ledger.thaw(id, { reason, by: operator.id }, told)
  if (!answer.ok) throw new MayflyError('not_found', 'there is no such freeze for you')
  return answer.freeze
}

function faceless({ policies }: Decision): MayflyError {
  const message = 'this takes several people, and a break-glass key does not show who uses it'
  return new MayflyError('denied', message, { policies, next: 'thaw it with accounts of your own' })
}
