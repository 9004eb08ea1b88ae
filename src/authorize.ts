import { ownCaller } from './caller.js'
import { type Narrowed, narrow } from './envelope.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { NewLease } from './ledger/ledger.js'
import { type Behalf, humanTokenLife, humanTold, onBehalf, type Shown } from './on-behalf.js'
import { follow } from './on-deny.js'
import type { PolicyRequest } from './policy/policy.js'
import { inputOf } from './policy-input.js'
import { refusal, undecided } from './refusals.js'
import { cameOf, countAct } from './risk.js'
import { stepUp } from './step-up.js'
import { leaseOutside } from './toolbox.js'
import type { Agent, Decision, Lease, RequestContext, Role, Scope, Task } from './types.js'
import type { Upstream } from './upstream.js'

/** What an agent asks for. */
export interface LeaseAsk {
  readonly task: string
  readonly role: string
  readonly ttlSeconds?: number
  readonly scope?: Scope
  /** The agent's own words: recorded, never decided on. */
  readonly reason?: string
  readonly tool?: string
  readonly destination?: string
  /** SHA-256 of agent and Idempotency-Key. */
  readonly idempotency?: string
  /** A human's consent to this very request. */
  readonly approval?: string
  /** On whose behalf, by a token of theirs that came with it. */
  readonly onBehalfOf?: Shown
  /** False: nobody is to be asked. */
  readonly canWait?: boolean
  /** The lease that this one renews, in place or by taking its place. */
  readonly renews?: Lease
}
export interface Authorized {
  /** On behalf of whom this request is, whoever opened it for whom. */
  readonly task: Task
  readonly role: Role
  readonly upstream: Upstream
  /** What policy was asked. */
  readonly request: Extract<PolicyRequest, { role: unknown }>
  readonly decision: Decision
  readonly narrowed: Narrowed
  /** What a step-up rests on. */
  readonly approval?: NewLease['approval']
}

/**
 * Whether this agent may have this role for this task now: assignment, envelope, policy, in this order.
 * @throws MayflyError what the caller is told, after it was recorded
 * @throws ApprovalPending where a human has been asked
 */
export async function authorize(
  house: House,
  agent: Agent,
  ask: LeaseAsk,
  context: RequestContext,
  options: { fresh: boolean },
): Promise<Authorized> {
  if (house.ledger.quarantined()) throw refusal('quarantined')
  // Neither is asked for where this broker has it.
  const [found, conduct] = await Promise.all([house.ledger.task(ask.task, options), house.risk.of(agent.id)])
  const chain = found && chainTo(found, agent)
  const no = (error: MayflyError) => refuse(house, agent, ask, context, error, { chain, behalf: found })
  // An id that somebody made up names no task, and does not choose whose outbox is filled.
  if (!found) throw await refuse(house, agent, { ...ask, task: undefined }, context, refusal('not_found'), { input: { claimed_task: ask.task } })
  // It has nothing to do with it: neither with those who handed it on, nor with whom it is for.
  if (!isAssigned(found, agent)) throw await refuse(house, agent, ask, context, refusal('not_found'))
  if (found.state !== 'active') throw await no(refusal('ended', found.state))
  const shown = await ask.onBehalfOf?.().catch(async (error: unknown) => {
    throw error instanceof MayflyError && error.status === 403 ? await no(error) : error
  })
  const task = onBehalf(house, found, { shown, renews: ask.renews })
  if ('no' in task) throw await no(task.no)
  const role = house.roles.get(ask.role)
  const entry = task.envelope.find((candidate) => candidate.role === ask.role)
  const upstream = role && house.upstreams.get(role.provider)
  if (!role || !entry || !upstream) throw await no(outside(`role "${ask.role}" is not in the task's envelope`))
  const narrowed = narrow(role, entry, { ttl: ask.ttlSeconds, scope: ask.scope })
  if ('outside' in narrowed) throw await no(outside(narrowed.outside))
  const beyond = leaseOutside(task, ask)
  if (beyond) throw await no(beyond)
  const request = policyRequest({ agent: { ...agent, conduct }, task, role, upstream, narrowed }, ask)
  const decision = await house.policy.decide(request)
  if (decision.outcome === 'allow') return { task, role, upstream, request, decision, narrowed }
  const denied = (error: MayflyError, by?: Decision) => {
    return refuse(house, agent, ask, context, error, { decision: by, chain, behalf: task, input: inputOf(request) })
  }
  // A no may bring things about, and nothing would tell that it was made on facts that have changed.
  if (decision.outcome === 'deny' && !options.fresh) return authorize(house, agent, ask, context, { fresh: true })
  if (decision.outcome === 'deny') throw await denied(notAllowed(decision), decision)
  const waiting = { task, role, upstream, request, decision, narrowed, no: denied, fresh: options.fresh }
  const consented = await stepUp(house, agent, ask, context, waiting)
  return consented ?? authorize(house, agent, ask, context, { fresh: true })
}

/** What policy is asked, here and by whoever wants to know beforehand. */
export function policyRequest(
  { agent, task, role, upstream, narrowed }: Pick<Authorized, 'task' | 'role' | 'upstream' | 'narrowed'> & { readonly agent: Agent },
  ask: Pick<LeaseAsk, 'renews' | 'tool' | 'destination'>,
): Authorized['request'] {
  return {
    action: role.access,
    principal: agent,
    role: { ...role, revocation: upstream.provider.revocation },
    task,
    context: {
      renewal: ask.renews !== undefined,
      ttlSeconds: narrowed.ttlSeconds,
      scope: narrowed.scope,
      tool: ask.tool === undefined ? undefined : { name: ask.tool, access: role.access },
      destination: ask.destination,
      // Only an agent's own word says where it writes to, and that makes nothing inside.
      external: true,
    },
  }
}

/** Where the configuration says so, no credential outlives the token that asked for it, nor that of the human, seconds. */
export function tokenLifeOf(house: House, agent: Agent, behalf: Behalf): number {
  if (!house.limits.withinTokenLife) return Number.POSITIVE_INFINITY
  const own = Math.max(1, Math.floor((agent.tokenExpiresAt - house.ledger.now()) / 1000))
  return Math.min(own, humanTokenLife(house, behalf))
}

/** Does what an agent asked for, and counts it among what the agent does. */
export async function counted<T>(house: House, agent: Agent, ask: LeaseAsk, context: RequestContext, work: () => Promise<T>): Promise<T> {
  const { task, role, scope, ttlSeconds, tool, destination, renews } = ask
  const access = house.roles.get(role)?.access
  const names = [`${access} ${role}`]
  if (tool !== undefined) names.push(`tool ${tool}`)
  if (destination !== undefined) names.push(`to ${destination}`)
  const act = { asked: { task, role, scope, ttlSeconds, tool, destination, renews: renews?.id }, names, access, about: { task, role } }
  try {
    const done = await work()
    countAct(house, agent, { ...act, came: 'granted', obtained: renews ? undefined : access }, context)
    return done
  } catch (error) {
    countAct(house, agent, { ...act, came: cameOf(error) }, context)
    throw error
  }
}

/** Records a refusal, does what follows from it, and answers it, to be thrown. A full outbox turns a refusal into nothing else. */
export async function refuse(
  house: House,
  agent: Agent,
  ask: Omit<LeaseAsk, 'task'> & { readonly task: string | undefined },
  context: RequestContext,
  error: MayflyError,
  about: { decision?: Decision; chain?: readonly string[]; behalf?: Behalf; input?: object } = {},
): Promise<MayflyError> {
  const { decision, chain, behalf = {}, input } = about
  const because = decision ? undefined : error.details.internal
  const words = { claimed_reason: ask.reason, tool: ask.tool, destination: ask.destination, because, ...input }
  const told = event('lease.denied', context, agent, {
    task: ask.task,
    role: ask.role,
    code: error.code,
    human: humanTold(behalf),
    decision,
    chain,
    detail: words,
  })
  const { ok } = await house.ledger.record(told)
  const next = decision && (await follow(house, ownCaller(agent), ask.task, decision, told, context))
  return new MayflyError(error.code, error.message, { ...error.details, event: ok ? told.id : undefined, ...(next && { next }) })
}

/** What an event says of the lease that it is about. */
export function subjectOf({ id, task, role, chain, ...behalf }: Pick<NewLease, 'id' | 'task' | 'role' | 'chain' | 'human' | 'humanProof'>) {
  return { task, lease: id, role: role.name, provider: role.provider, human: humanTold(behalf), chain }
}

/** Of a task that was handed on: the agents through which it came to this one, itself last. */
export function chainTo({ chain }: Task, agent: Agent): readonly string[] | undefined {
  return chain && [...chain, agent.id]
}

export function isAssigned(task: Task, agent: Agent): boolean {
  return task.assignees.some((one) => one.agent === agent.id && (one.instance === undefined || one.instance === agent.instance))
}

function outside(message: string): MayflyError {
  return new MayflyError('outside_envelope', message, { next: 'ask within the envelope that the task was opened with' })
}

/** What a policy's no means to the caller. */
export function notAllowed(decision: Decision): MayflyError {
  const { policies, reasons } = decision
  const none = undecided(decision)
  if (none) return none
  if (decision.outcome === 'deny') return new MayflyError('denied', reasons[0] ?? 'no policy allows this', { policies, reasons })
  const next = 'a human of each group in `step_up` has to agree: ask for less, or change the policy'
  return new MayflyError('approval_required', reasons[0] ?? 'a human has to agree', { policies, reasons, stepUp: decision.stepUp, next })
}
