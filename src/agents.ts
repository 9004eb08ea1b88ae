import { forgetRisk } from './agent-risk.js'
import { emergencyRevoke } from './emergency.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { Frozen } from './ledger/ledger.js'
import type { EmergencyRevocation, Freeze, Lease, Operator, RequestContext } from './types.js'

/** Whether an agent may obtain anything now, by what stands in its way. */
export type Standing = 'active' | 'frozen' | 'suspended' | 'offboarded'

/** Leases that a report names one by one. */
const MOST_NAMED = 200

export interface Stopped {
  readonly freeze: Freeze
  readonly frozen: Frozen
  readonly revocation: EmergencyRevocation
}

/**
 * The stop for one agent, as the emergency does it: a freeze that holds before this answers, then every live lease closed, its own and what
 * it handed on. Its tasks go on, so that it can after `resume`; of what was offboarded nothing goes on.
 */
export async function stopAgent(
  house: House,
  operator: Operator,
  ask: { agent: string; reason: string; kind: NonNullable<Freeze['kind']> },
  context: RequestContext,
): Promise<Stopped> {
  const { agent, reason, kind } = ask
  const { revocation, freeze: frozen } = await emergencyRevoke(house, operator, { selector: { agent: [agent] }, reason, kind, freeze: true }, context)
  if (!frozen) throw new MayflyError('internal', 'an agent was stopped without a freeze')
  return { freeze: frozen.freeze, frozen, revocation }
}

/**
 * Takes every suspension of this agent back, and forgets what was counted of it. Other freezes that cover it stay, and are answered.
 * @throws MayflyError `conflict` for an agent that was offboarded
 */
export async function resumeAgent(
  house: House,
  operator: Operator,
  { agent, reason }: { agent: string; reason: string },
  context: RequestContext,
): Promise<{ thawed: Freeze[]; standing: Standing; freezes: Freeze[] }> {
  const covering = freezesOf(await house.ledger.freezes(), agent)
  if (standingOf(covering) === 'offboarded') {
    const next = 'thaw the freeze of its offboarding: that takes the right to offboard too'
    throw new MayflyError('conflict', 'this agent was offboarded, which is for good', { next })
  }
  const thawed: Freeze[] = []
  for (const { id, selector, kind } of covering) {
    if (kind !== 'suspension') continue
    const told = event('freeze.thawed', context, operator, { detail: { freeze: id, selector, reason, kind } })
    const answer = await house.ledger.thaw(id, { reason, by: operator.id }, told)
    if (answer.ok) thawed.push(answer.freeze)
  }
  if (thawed.length > 0) await forgetRisk(house, operator, agent, reason, context)
  const freezes = freezesOf(await house.ledger.freezes(), agent)
  return { thawed, standing: standingOf(freezes), freezes }
}

/** Freezes that cover whatever this agent asks for; those of some role or provider alone are left out. */
export function freezesOf(freezes: readonly Freeze[], agent: string): Freeze[] {
  return freezes.filter(({ selector: { all, agent: agents, ...others } }) => {
    if (Object.values(others).some((values) => values !== undefined)) return false
    return all === true || agents?.includes(agent) === true
  })
}

export function standingOf(freezes: readonly Freeze[]): Standing {
  if (freezes.some(({ kind }) => kind === 'offboarding')) return 'offboarded'
  if (freezes.some(({ kind }) => kind === 'suspension')) return 'suspended'
  return freezes.length > 0 ? 'frozen' : 'active'
}

/** What became of an offboarding. `revocation`: absent when its report is gone by now, or it was never begun. */
export interface Offboarding {
  readonly freeze: Freeze
  readonly revocation?: EmergencyRevocation
  /** `interrupted`: frozen, but not revoked; it has to be asked for again. */
  readonly state: 'running' | 'finished' | 'interrupted'
  /** What is not settled yet, and why; at most 200. */
  readonly pending: readonly Lease[]
}

/** The report on the last offboarding of an agent; undefined where there was none. */
export async function offboardingOf(house: House, agent: string): Promise<Offboarding | undefined> {
  const all = freezesOf(await house.ledger.freezes(), agent).filter(({ kind }) => kind === 'offboarding')
  const freeze = all.sort((a, b) => b.generation - a.generation)[0]
  if (!freeze) return undefined
  const revocation = await house.ledger.revocation(freeze.id)
  if (revocation?.state === 'finished') return { freeze, revocation, state: 'finished', pending: [] }
  const { leases } = await house.ledger.reach(agent, MOST_NAMED)
  const state = revocation ? 'running' : leases.length > 0 ? 'interrupted' : 'finished'
  return { freeze, revocation, state, pending: leases }
}
