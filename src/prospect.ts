import { isAssigned, notAllowed, policyRequest } from './authorize.js'
import { narrow } from './envelope.js'
import { ERRORS, MayflyError } from './errors.js'
import type { House } from './house.js'
import { onBehalf } from './on-behalf.js'
import { refusal } from './refusals.js'
import { leaseOutside } from './toolbox.js'
import type { Agent, Decision, EnvelopeEntry, Task } from './types.js'

/** What asking for a role of a task's envelope would be answered now. */
export interface Prospect {
  readonly role: string
  readonly decision: Decision['outcome']
  /** The code of the refusal that it would be; absent where nothing stands in the way. */
  readonly code?: string
  readonly policies: readonly string[]
  readonly reasons: readonly string[]
  /** What can be done about it. */
  readonly next?: string
  readonly stepUp?: Decision['stepUp']
  /** The longest that it would be given for, before clamps that depend on the clock. */
  readonly ttlSeconds?: number
}

const ASK = 'ask for it: the humans in `step_up` are asked then, and the answer is an approval to poll'

/**
 * For each role of the envelope the decision on the widest request that it allows. Nothing is written down, because nothing is asked for;
 * limits of how many leases may live, and what the upstream says, are not foretold.
 */
export async function prospects(house: House, agent: Agent, task: Task): Promise<Prospect[]> {
  const about = task.envelope.map(({ role }) => ({ agent, role, provider: house.roles.get(role)?.provider ?? '' }))
  const frozen = task.state === 'active' ? await house.ledger.frozenAmong(task.id, about) : []
  return Promise.all(task.envelope.map((entry, index) => prospect(house, agent, task, entry, frozen[index] ?? false)))
}

async function prospect(house: House, agent: Agent, task: Task, entry: EnvelopeEntry, isFrozen: boolean): Promise<Prospect> {
  const no = (error: MayflyError) => deny(entry.role, error)
  if (!isAssigned(task, agent)) return no(refusal('not_found'))
  if (task.state !== 'active') return no(refusal('ended', task.state))
  const role = house.roles.get(entry.role)
  const upstream = role && house.upstreams.get(role.provider)
  if (!role || !upstream) return no(new MayflyError('outside_envelope', 'the role is not configured any more'))
  const narrowed = narrow(role, entry, {})
  if ('outside' in narrowed) return no(new MayflyError('outside_envelope', narrowed.outside))
  const beyond = leaseOutside(task, { role: role.name })
  if (beyond) return no(beyond)
  const behalf = onBehalf(house, task, {})
  if ('no' in behalf) return no(behalf.no)
  const decision = await house.policy.decide(policyRequest({ agent, role, upstream, task: behalf, narrowed }, {}))
  if (decision.outcome === 'deny') return no(notAllowed(decision))
  if (isFrozen) return no(refusal('frozen'))
  const ttlSeconds = Math.min(narrowed.ttlSeconds, decision.maxTtlSeconds ?? narrowed.ttlSeconds)
  const { outcome, policies, reasons, stepUp } = decision
  if (outcome === 'allow') return { role: role.name, decision: outcome, policies, reasons, ttlSeconds }
  return { ...deny(role.name, notAllowed(decision)), decision: outcome, next: ASK, stepUp, ttlSeconds }
}

function deny(role: string, { code, message, details }: MayflyError): Prospect {
  const { policies = [], reasons = [], next = ERRORS[code].next } = details
  return { role, decision: 'deny', code, policies, reasons: reasons.length > 0 ? reasons : [message], next }
}
