import { notAllowed } from '../authorize.js'
import { MayflyError } from '../errors.js'
import type { House } from '../house.js'
import type { OperatorAction, OperatorResource } from '../policy/policy.js'
import { refuseOperation } from '../task.js'
import type { Principal, RequestContext, Selector } from '../types.js'

export interface Resource {
  readonly type: OperatorResource
  readonly id: string
}
/** The whole installation. */
export const BROKER: Resource = { type: 'Broker', id: 'this' }

const RESOURCES: Partial<Record<keyof Selector, OperatorResource>> = {
  agent: 'Agent',
  task: 'Task',
  role: 'Role',
  provider: 'Provider',
  issuer: 'Issuer',
  owner: 'Human',
  human: 'Human',
  orchestrator: 'Orchestrator',
}

/** What a selector is about, for policy: one thing by its name, and whatever is more than one thing is the whole installation. */
export function resourceOf(selector: Selector): Resource {
  const named = Object.entries(selector).filter(([, value]) => value !== undefined)
  const [key, value] = named[0] ?? []
  const type = Object.entries(RESOURCES).find(([name]) => name === key)?.[1]
  if (named.length !== 1 || !type || !Array.isArray(value) || value.length !== 1) return BROKER
  return { type, id: String(value[0]) }
}

/**
 * Whether policy lets this caller act on that resource. No call of an operator's has a rule of its own beyond this one.
 * @throws MayflyError `denied`, after it was recorded
 */
export async function permit(
  { house, principal, context }: { house: House; principal: Principal; context: RequestContext },
  action: OperatorAction,
  resource: Resource,
): Promise<void> {
  const decision = await house.policy.decide({ action, principal, resource })
  if (decision.outcome !== 'allow') throw await refuseOperation(house, principal, context, notAllowed(decision))
}

/** Whether it may, without a word about it. */
export async function isPermitted(house: House, principal: Principal, action: OperatorAction, resource: Resource): Promise<boolean> {
  return (await house.policy.decide({ action, principal, resource })).outcome === 'allow'
}

export function notFound(what: string): MayflyError {
  return new MayflyError('not_found', `there is no such ${what} for you`)
}
