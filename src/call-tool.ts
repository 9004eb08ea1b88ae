import { chainTo, isAssigned, notAllowed } from './authorize.js'
import type { Caller } from './caller.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { CallRefusal } from './ledger/ledger.js'
import { behalfOf, humanTold, onBehalf } from './on-behalf.js'
import { follow } from './on-deny.js'
import type { PolicyRequest } from './policy/policy.js'
import { inputOf } from './policy-input.js'
import { refusal } from './refusals.js'
import { cameOf, countAct } from './risk.js'
import { entryOf, isPlanned, outside, unplanned } from './toolbox.js'
import type { Decision, Event, RequestContext, Task, Tool, ToolCheck } from './types.js'

/** One call of a tool that somebody is about to make. */
export interface CallAsk {
  readonly tool: string
  readonly action: string
  /** What it touches. */
  readonly target: string
  /** That it is made with. */
  readonly lease?: string
  readonly destination?: string
  /** SHA-256 of the arguments: recorded, so that what was done can be compared with what was allowed. */
  readonly argumentsDigest?: string
}
export interface Called {
  /** Of the event that records it. */
  readonly id: string
  readonly check: ToolCheck
  /** Whether each further call of this tool must be asked about too. */
  readonly mustAsk: boolean
  readonly decision: Decision
}

/** Decisions on facts that changed meanwhile are made again, this often at most. */
const MOST_DECISIONS = 3

/**
 * Whether this agent may call this tool for this task now: assignment, the catalogue, the task's tools and plan, policy, in this order; then the
 * call is recorded in the step that finds its task active, nothing frozen and the facts unchanged. Nothing else happens: whoever asked makes the
 * call. Denied by a policy with `@onDeny`, what that brings about has happened before this throws.
 * @throws MayflyError with the codes of `docs/errors.md`
 */
export async function callTool(house: House, caller: Caller, task: string, ask: CallAsk, context: RequestContext): Promise<Called> {
  const { tool, action, target, destination, argumentsDigest } = ask
  const access = house.tools.get(tool)?.access
  const names = destination === undefined ? [`call ${tool}`] : [`call ${tool}`, `to ${destination}`]
  const act = { asked: { task, tool, action, target, destination, argumentsDigest }, names, access, by: caller.principal, about: { task } }
  try {
    const called = await decideCall(house, caller, task, ask, context)
    countAct(house, caller.agent, { ...act, came: 'granted' }, context)
    return called
  } catch (error) {
    countAct(house, caller.agent, { ...act, came: cameOf(error) }, context)
    throw error
  }
}

async function decideCall(house: House, caller: Caller, taskId: string, ask: CallAsk, context: RequestContext): Promise<Called> {
  const { agent } = caller
  for (let round = 1; ; round++) {
    const { task, tool, maxCalls, decision, request } = await authorizeCall(house, caller, taskId, ask, context, { fresh: round > 1 })
    const facts = { contextVersion: task.contextVersion, obtained: task.obtained, counts: decision.readsCounts ? task.counts : undefined }
    const told = toldOf('tool.called', caller, task, ask, context, { lease: ask.lease, decision }, inputOf(request))
    const { id, human, humanProof } = task
    const called = await house.ledger.callTool({ task: id, agent, tool, lease: ask.lease, human, humanProof, maxCalls, facts }, told)
    if (called.ok) {
      house.metrics.toolCalls.inc({ decision: 'allow' })
      return { id: told.id, check: task.check ?? 'every_call', mustAsk: mustAsk(task, tool), decision }
    }
    if (called.refused === 'stale' && round < MOST_DECISIONS) continue
    throw await deny(house, caller, task, ask, context, refusalOf(called.refused, called.detail), { decision })
  }
}

interface Authorized {
  readonly task: Task
  readonly tool: Tool
  readonly maxCalls: number | undefined
  readonly decision: Decision
  readonly request: Extract<PolicyRequest, { call: unknown }>
}

async function authorizeCall(
  house: House,
  caller: Caller,
  id: string,
  ask: CallAsk,
  context: RequestContext,
  options: { fresh: boolean },
): Promise<Authorized> {
  const { agent } = caller
  if (house.ledger.quarantined()) throw refusal('quarantined')
  // Neither of the first two is asked for where this broker has it.
  const [found, conduct, lease] = await Promise.all([
    house.ledger.task(id, options),
    house.risk.of(agent.id),
    ask.lease === undefined ? undefined : house.ledger.lease(ask.lease),
  ])
  // An id that somebody made up names no task, and does not choose whose outbox is filled.
  const no = (error: MayflyError) => deny(house, caller, found, ask, context, error, found ? {} : { input: { claimed_task: id } })
  if (!found || !isAssigned(found, agent)) throw await no(refusal('not_found'))
  if (found.state !== 'active') throw await no(refusal('ended', found.state))
  // What is done with a credential is done on behalf of whom it was obtained for.
  const task = onBehalf(house, lease?.task === id && lease.agent === agent.id ? { ...found, ...behalfOf(lease, found) } : found, {})
  if ('no' in task) throw await no(task.no)
  const tool = house.tools.get(ask.tool)
  if (!tool) throw await no(unknown(ask.tool))
  const entry = entryOf(task.tools ?? [], ask)
  if ('outside' in entry) throw await no(outside(task, entry.outside))
  if (!isPlanned(task, ask)) throw await no(unplanned(`calling "${ask.tool}" so`))
  const { action, target, destination } = ask
  const call = { action, target, destination, enforced: caller.enforced }
  const request = { action: 'callTool', principal: { ...agent, conduct }, tool, task, call } as const
  const decision = await house.policy.decide(request)
  if (decision.outcome === 'allow') return { task, tool, maxCalls: entry.maxCalls, decision, request }
  // A no brings things about, and nothing would tell that it was made on facts that have changed.
  if (!options.fresh) return authorizeCall(house, caller, id, ask, context, { fresh: true })
  const error = decision.outcome === 'step-up' ? unasked(notAllowed(decision)) : notAllowed(decision)
  throw await deny(house, caller, task, ask, context, error, { decision, input: inputOf(request) })
}

/** Records a refusal, and does what follows from it. An outbox or a Redis that is full turns it into nothing else that is allowed, and keeps nothing from following. */
async function deny(
  house: House,
  caller: Caller,
  task: Task | undefined,
  ask: CallAsk,
  context: RequestContext,
  error: MayflyError,
  { decision, input }: { decision?: Decision; input?: object } = {},
): Promise<MayflyError> {
  house.metrics.toolCalls.inc({ decision: 'deny' })
  const told = toldOf('tool.denied', caller, task, ask, context, { code: error.code, decision }, input)
  const following = decision && task && follow(house, caller, task.id, decision, told, context)
  const [recorded, followed] = await Promise.allSettled([house.ledger.record(told), following])
  for (const one of [followed, recorded]) if (one.status === 'rejected') throw one.reason
  const next = followed.status === 'fulfilled' ? followed.value : undefined
  const ok = recorded.status === 'fulfilled' && recorded.value.ok
  return new MayflyError(error.code, error.message, { ...error.details, event: ok ? told.id : undefined, ...(next && { next }) })
}

function toldOf(
  type: 'tool.called' | 'tool.denied',
  { principal, agent, enforced }: Caller,
  task: Task | undefined,
  ask: CallAsk,
  context: RequestContext,
  facts: Pick<Event, 'lease' | 'code'> & { decision?: Decision },
  input: object | undefined,
): Event {
  const { tool, action, target, lease, destination, argumentsDigest } = ask
  // Who asks in its stead is the principal.
  const of = principal === agent ? undefined : { id: agent.id, instance: agent.instance, owner: agent.owner, issuer: agent.issuer }
  const call = { tool, action, target, lease, destination, arguments_digest: argumentsDigest }
  const detail = { call, agent: of, enforced, check: task && (task.check ?? 'every_call'), confidence: task?.confidence, ...input }
  // Who does not work on it has nothing to do with those who handed it on, nor with whom it is for.
  const about = task && isAssigned(task, agent) ? { human: humanTold(task), chain: chainTo(task, agent) } : {}
  return event(type, context, principal, { ...facts, task: task?.id, ...about, detail })
}

const CONFIDENTIAL = ['confidential', 'restricted']

/** With `sensitive_only`, tools that only read what is public or internal need not be asked about; asked, they are decided like any other. */
export function mustAsk({ check }: Pick<Task, 'check'>, { access, sensitivity }: Tool): boolean {
  return check !== 'sensitive_only' || access !== 'read' || CONFIDENTIAL.includes(sensitivity)
}

function refusalOf(refused: CallRefusal, detail?: string): MayflyError {
  if (refused === 'lease') {
    const next = 'call with a live lease of this agent and this task, or without one'
    return new MayflyError('lease_ended', 'the lease is none of this agent in this task that is live', { next })
  }
  if (refused === 'calls') {
    const next = 'have a task opened that lets it be called more often'
    return new MayflyError('outside_tools', 'the tool was called as often as the task allows', { next })
  }
  return refusal(refused, detail)
}

function unknown(tool: string): MayflyError {
  return new MayflyError('tool_unknown', `no tool "${tool}" is configured, and what is not known is not called`)
}

/** Nobody can be asked about a call yet: it is a no, which says what it would take. */
function unasked({ code, message, details }: MayflyError): MayflyError {
  const next = 'a human of each group in `step_up` would have to agree, which a tool call cannot wait for: call something else, or change the policy'
  return new MayflyError(code, message, { ...details, next })
}
