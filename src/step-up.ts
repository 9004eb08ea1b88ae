import { createHash } from 'node:crypto'
import type { Authorized, LeaseAsk } from './authorize.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { inputOf } from './policy-input.js'
import { refusal, undecided } from './refusals.js'
import type { Agent, Approval, ApprovalRequest, Decision, RequestContext, Task } from './types.js'

/** A human has been asked, and has not answered: no refusal, and nothing to go on with. Thrown, so that no path has to carry it. */
export class ApprovalPending extends Error {
  override readonly name = 'ApprovalPending'
  constructor(readonly approval: Approval) {
    super('a human has to agree first')
  }
}

/** What policy would allow with a human's consent. */
interface Waiting extends Omit<Authorized, 'approval'> {
  readonly no: (error: MayflyError, decision?: Decision) => Promise<MayflyError>
  /** The task is as the ledger has it now. */
  readonly fresh: boolean
}

/** More than this nobody can judge, and Redis would have to keep it. */
const MOST_SHOWN = 8_192

/**
 * The consent that the caller presents, or the question to the humans. Nothing is written before somebody asked, nothing exists upstream.
 * @returns undefined where the task that it rests on may be an old one: to be decided again on a fresh one
 * @throws ApprovalPending where the humans have been asked
 */
export async function stepUp(house: House, agent: Agent, ask: LeaseAsk, context: RequestContext, waiting: Waiting): Promise<Authorized | undefined> {
  const digest = digestOf(agent, ask, waiting)
  if (ask.approval !== undefined) return present(house, agent, ask.approval, digest, waiting)
  if (ask.canWait === false) throw await waiting.no(required(waiting.decision), waiting.decision)
  const request = shownOf(agent, ask, waiting)
  if (JSON.stringify([request.scope, request.claimed]).length > MOST_SHOWN) throw await waiting.no(tooMuch())
  return put(house, agent, digest, request, context, waiting)
}

/** Only what is asked for now is granted: an approval for less, for something else or by too few is none. */
async function present(house: House, agent: Agent, id: string, digest: string, waiting: Waiting): Promise<Authorized | undefined> {
  const { decision, request, no, fresh, task, role, upstream, narrowed } = waiting
  const approval = await house.ledger.approval(id)
  const isTheirs = approval?.agent === agent.id && approval.issuer === agent.issuer && approval.instance === agent.instance
  if (!approval || !isTheirs || approval.task !== task.id) throw await no(refusal('approval_invalid', 'there is none'), decision)
  if (approval.digest !== digest) {
    if (!fresh) return undefined
    throw await no(refusal('approval_invalid', 'it is for another request, or the context has changed'), decision)
  }
  if (approval.state === 'denied') throw await no(refused(), decision)
  if (approval.state !== 'granted') throw await no(refusal('approval_invalid', `it is ${approval.state}`), decision)
  const given = (group: string) => approval.consents.filter(({ groups }) => groups.includes(group)).length
  if (!decision.stepUp?.every(({ group, approvals }) => given(group) >= approvals))
    throw await no(refusal('approval_invalid', 'policy asks for more by now'), decision)
  const consent = approval.needs.filter(({ group, approvals }) => given(group) >= approvals).map(({ group }) => group)
  const consented = await house.policy.decide({ ...request, consent })
  if (consented.outcome !== 'allow') throw await no(undecided(consented) ?? refusal('approval_invalid', 'policy refuses it all the same'), consented)
  return { task, role, upstream, request, narrowed, decision: consented, approval: { id, digest } }
}

async function put(
  house: House,
  agent: Agent,
  digest: string,
  request: ApprovalRequest,
  context: RequestContext,
  { decision, no, fresh, task, role, request: asking }: Waiting,
): Promise<undefined> {
  const { ttlSeconds, openPerTask: most, openPerAgent: mostOfAgent } = house.approvals
  const id = house.ledger.newApprovalId(task.id)
  const needs = decision.stepUp ?? []
  const about = { task: task.id, role: role.name, provider: role.provider }
  const told = event('approval.asked', context, agent, { ...about, decision, detail: { digest, needs, ...request, ...inputOf(asking) } })
  const asked = await house.ledger.askApproval(
    { id, task: task.id, agent, role: role.name, digest, contextVersion: task.contextVersion, needs, request, ttlSeconds, most, mostOfAgent },
    told,
  )
  if (asked.ok) {
    if (asked.created) house.approvals.notify('asked', asked.approval)
    throw new ApprovalPending(asked.approval)
  }
  if (asked.refused === 'stale' && !fresh) return undefined
  if (asked.refused === 'approval_denied') throw await no(refused(), decision)
  if (asked.refused === 'quota') throw await no(tooMany(), decision)
  throw await no(refusal(asked.refused, asked.detail), decision)
}

/** Whatever the humans agree to, and the policy may have decided on: another agent, copy, task, role, scope, TTL or context is another request. */
function digestOf(agent: Agent, ask: LeaseAsk, { task, role, narrowed }: Waiting): string {
  const { name, provider, access, sensitivity, params } = role
  const text = canonical({
    agent: [agent.issuer, agent.id, agent.instance ?? null],
    task: task.id,
    facts: task.contextVersion,
    // The team and groups too, which policy reads; not the token, since who presents the consent may have to bring a newer one.
    human: task.human === undefined ? null : [task.human, shownBy(task)],
    role: { name, provider, access, sensitivity, params },
    scope: narrowed.scope,
    ttl: narrowed.ttlSeconds,
    tool: ask.tool ?? null,
    destination: ask.destination ?? null,
    renews: ask.renews?.id ?? null,
  })
  return createHash('sha256').update(text).digest('base64url')
}

function shownBy({ humanProof }: Waiting['task']): readonly unknown[] | null {
  return humanProof ? [humanProof.issuer, humanProof.subject, humanProof.team ?? null, humanProof.groups] : null
}

/** JSON with its keys in order: equal values are equal text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => {
    if (typeof one !== 'object' || one === null || Array.isArray(one)) return one
    return Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

function shownOf(agent: Agent, ask: LeaseAsk, { task, role, upstream, decision, narrowed }: Waiting): ApprovalRequest {
  const { openedBy, classified, classifiedBy, confidence, classification, environment, deadlineAt } = task
  const { revocation, residualSeconds } = upstream.provider
  const intent = intentOf(task)
  return {
    owner: agent.owner,
    autonomy: agent.autonomy,
    provider: role.provider,
    access: role.access,
    sensitivity: role.sensitivity,
    revocation,
    residualSeconds,
    scope: narrowed.scope,
    ttlSeconds: Math.min(narrowed.ttlSeconds, decision.maxTtlSeconds ?? narrowed.ttlSeconds),
    renews: ask.renews?.id,
    human: task.human,
    humanProof: task.humanProof,
    task: { openedBy, ...intent.known, classified, classifiedBy, confidence, classification, environment, deadlineAt },
    policies: decision.policies,
    reasons: decision.reasons,
    claimed: { intent: intent.claimed, reason: ask.reason, tool: ask.tool, destination: ask.destination },
  }
}

/** What an agent that opened the tree for itself says that it is about is its own word: nobody is to take it for what the broker knows. */
function intentOf({ orchestrator, intent, statedIntent, classified }: Task): {
  readonly known: Pick<Task, 'intent' | 'statedIntent'>
  readonly claimed?: string
} {
  if (orchestrator !== undefined) return { known: { intent, statedIntent } }
  return { known: { intent: classified ? intent : 'unclassified' }, claimed: statedIntent ?? intent }
}

function required({ policies, reasons, stepUp }: Decision): MayflyError {
  return new MayflyError('approval_required', reasons[0] ?? 'a human has to agree', { policies, reasons, stepUp })
}

function refused(): MayflyError {
  return new MayflyError('approval_denied', 'a human said no to this very request')
}

function tooMuch(): MayflyError {
  const message = 'this is more than a human can be asked to judge'
  return new MayflyError('request_invalid', message, { issues: [{ path: 'scope', message: 'narrow it, and say less' }] })
}

function tooMany(): MayflyError {
  const next = 'wait until one of the open approvals is decided'
  return new MayflyError('quota_exceeded', 'too many approvals are open for this agent', { next, retryAfterSeconds: 30 })
}
