import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { RiskRules } from './ledger/ledger.js'
import type { AgentRisk, Operator, RequestContext, RiskFloor } from './types.js'

/** What an operator says of an agent's risk. */
export interface RiskAsk {
  /** Forgets what was counted. */
  readonly reset: boolean
  /** At least this, 0 for no floor. */
  readonly floor?: { readonly value: number; readonly ttlSeconds?: number }
  readonly reason: string
}

/** Raising a floor stops, and takes what stopping takes; anything else lets the agent do more again. */
export type RiskAction = 'freeze' | 'thaw'

/** A floor that changes between a look at it and the change is looked at again, this often at most. */
const MOST_ROUNDS = 3

/** Why an agent's risk is what it is; undefined where nothing is counted. */
export async function riskOf({ ledger, risk: { rules } }: House, agent: string): Promise<AgentRisk | undefined> {
  return rules && ledger.risk(agent, rules)
}

/**
 * Sets a floor under an agent's risk, takes it away, or forgets what was counted. A risk that is higher by it has what the agent holds decided
 * anew.
 * @param permit whether the operator may; throws where not
 */
export async function setRisk(
  house: House,
  operator: Operator,
  agent: string,
  { reset, floor, reason }: RiskAsk,
  context: RequestContext,
  permit: (action: RiskAction) => Promise<void>,
): Promise<AgentRisk> {
  const rules = countedBy(house)
  for (let round = 1; ; round++) {
    const { floor: stands } = await house.ledger.risk(agent, rules)
    const until = floor?.ttlSeconds === undefined ? undefined : house.ledger.now() + floor.ttlSeconds * 1000
    const next = floor && { value: floor.value, until: floor.value === 0 ? undefined : until }
    for (const action of actionsOf(reset, next, stands)) await permit(action)
    const told = event('agent.risk', context, operator, { detail: { agent, reason, reset, floor: next } })
    const set = await house.ledger.setRisk(agent, { floor: next, expected: stands, reset, reason, by: operator.id }, rules, told)
    if (set.ok) {
      const risk = await house.ledger.risk(agent, rules)
      house.risk.learn(agent, risk, set.before)
      return risk
    }
    if (round === MOST_ROUNDS) throw new MayflyError('conflict', "somebody else changes this agent's risk", { retryAfterSeconds: 1 })
  }
}

/** Forgets what was counted of an agent that may work again: else its first request would stop it again. */
export async function forgetRisk(house: House, operator: Operator, agent: string, reason: string, context: RequestContext): Promise<void> {
  if (house.risk.rules) await setRisk(house, operator, agent, { reset: true, reason }, context, async () => undefined)
}

function actionsOf(reset: boolean, next: Pick<RiskFloor, 'value' | 'until'> | undefined, stands: RiskFloor | undefined): RiskAction[] {
  const ends = (until: number | undefined) => until ?? Number.POSITIVE_INFINITY
  const lowers = next && stands && (next.value < stands.value || ends(next.until) < ends(stands.until))
  const actions = new Set<RiskAction>()
  if (reset || lowers || next?.value === 0) actions.add('thaw')
  if (next && next.value > (stands?.value ?? 0)) actions.add('freeze')
  return actions.size > 0 ? [...actions] : ['freeze']
}

function countedBy({ risk: { rules } }: House): RiskRules {
  if (rules) return rules
  throw new MayflyError('conflict', 'the risk of agents is not counted here', { next: 'switch it on: risk.enabled in the configuration' })
}
