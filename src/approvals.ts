import { notAllowed } from './authorize.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { folded, namesOf, namesOfOperator } from './persons.js'
import { refusal } from './refusals.js'
import { isOpener, refuseOperation } from './task.js'
import type { Approval, EventType, Operator, Principal, RequestContext } from './types.js'

/** One operator's consent to one request, for each of the groups asked that the operator is in. Never by a break-glass key, which shows no person. */
export async function approve(house: House, operator: Operator, id: string, reason: string | undefined, context: RequestContext): Promise<Approval> {
  const approval = await mayDecide(house, operator, id, context)
  const no = (error: MayflyError) => refuseOperation(house, operator, context, error)
  // Whose hands such a key is in, nobody knows: perhaps those of whoever the request is for. A no gives nothing to anybody, so it may say that.
  if (house.breakGlass.has(operator.issuer)) throw await no(faceless())
  if (isOwn(house, approval, operator)) throw await no(own())
  const groups = approval.needs.map(({ group }) => group).filter((group) => operator.groups.includes(group))
  if (groups.length === 0) throw await no(notAsked(approval))
  const grantedMs = house.approvals.grantedSeconds * 1000
  const { id: by, issuer } = operator
  const told = toldOf('approval.given', approval, operator, context, { groups, reason })
  const given = await house.ledger.giveApproval(id, { id: by, issuer, groups, persons: operator.persons?.map(folded), reason, grantedMs }, told)
  if (!given.ok) throw await no(given.refused === 'outbox_full' ? refusal('outbox_full') : undecidable(given.refused, given.detail))
  if (given.approval.state === 'granted') house.approvals.notify('granted', given.approval)
  return given.approval
}

/** One operator's no: final for this request, as long as its context stays. Saying no is open to whoever may decide, also on one's own. */
export async function deny(house: House, operator: Operator, id: string, reason: string | undefined, context: RequestContext): Promise<Approval> {
  const approval = await mayDecide(house, operator, id, context)
  const { id: by, issuer } = operator
  const denied = await house.ledger.denyApproval(id, { id: by, issuer, reason }, toldOf('approval.denied', approval, operator, context, { reason }))
  if (!denied.ok) throw await refuseOperation(house, operator, context, undecidable(denied.refused, denied.detail))
  house.approvals.notify('denied', denied.approval)
  return denied.approval
}

/** Who asked, who opened the task, and operators who may look or decide; to anybody else there is none. */
export async function approvalFor(house: House, principal: Principal, id: string): Promise<Approval> {
  const approval = await house.ledger.approval(id)
  if (!approval) throw noSuch()
  const { agent, issuer, instance, request } = approval
  if (principal.kind === 'agent' && principal.id === agent && principal.issuer === issuer && principal.instance === instance) return approval
  if (isOpener(request.task, principal)) return approval
  if (principal.kind === 'operator' && ((await mayInspect(house, principal)) || (await isAllowed(house, principal, approval)))) return approval
  throw noSuch()
}

export async function mayInspect(house: House, operator: Operator): Promise<boolean> {
  return (await house.policy.decide({ action: 'inspect', principal: operator, resource: { type: 'Broker', id: 'this' } })).outcome === 'allow'
}

export async function isAllowed(house: House, operator: Operator, approval: Approval): Promise<boolean> {
  return (await decisionOn(house, operator, approval)).outcome === 'allow'
}

function decisionOn(house: House, operator: Operator, { id, agent, role, needs }: Approval) {
  return house.policy.decide({ action: 'approve', principal: operator, approval: { id, agent, role, groups: needs.map(({ group }) => group) } })
}

async function mayDecide(house: House, operator: Operator, id: string, context: RequestContext): Promise<Approval> {
  const approval = await house.ledger.approval(id)
  if (!approval) throw noSuch()
  const decision = await decisionOn(house, operator, approval)
  if (decision.outcome !== 'allow') throw await refuseOperation(house, operator, context, notAllowed(decision))
  return approval
}

/** The agent's owner, the human that it acts for, and who opened the task or one above it or owns the agent that did, by whatever name the broker knows the operator. */
function isOwn({ roster }: House, { request, openers }: Approval, operator: Operator): boolean {
  // What their token showed says who they are, whatever they are called.
  const { humanProof: shown } = request
  if (shown?.issuer === operator.issuer && shown.subject === operator.subject) return true
  const names = namesOfOperator(operator)
  const owners = openers.flatMap((one) => (one.kind === 'agent' ? roster(one).map(({ owner }) => owner) : []))
  const interested = [request.owner, request.human, shown?.subject, ...openers.map(({ id: by }) => by), ...owners].filter((one) => one !== undefined)
  return interested.some((one) => namesOf(one).some((name) => names.has(name)))
}

function toldOf(type: EventType, { id, task, role, digest }: Approval, operator: Operator, context: RequestContext, detail: object) {
  return event(type, context, operator, { task, role, approval: id, detail: { digest, ...detail } })
}

function own(): MayflyError {
  const message = 'this request is your own: your agent asks, or it acts for you, or you opened the task'
  return new MayflyError('denied', message, { next: 'have somebody else decide' })
}

function faceless(): MayflyError {
  const message = 'only a person can agree to this, and a break-glass key does not show who uses it'
  return new MayflyError('denied', message, { next: 'agree with an account of your own' })
}

function notAsked({ needs }: Approval): MayflyError {
  return new MayflyError('denied', `only ${needs.map(({ group }) => group).join(', ')} can agree to this, and you are in none of them`)
}

function undecidable(why: 'not_found' | 'decided' | 'over' | 'twice', detail?: string): MayflyError {
  if (why === 'not_found') return noSuch()
  if (why === 'twice') return new MayflyError('conflict', 'you have agreed to this already', { next: 'another operator has to agree too' })
  if (why === 'decided') return new MayflyError('conflict', `this is decided already: it is ${detail}`, { next: 'nothing is left to decide' })
  return new MayflyError('approval_invalid', `this can no longer be decided (${detail})`, { next: 'the agent has to ask again' })
}

function noSuch(): MayflyError {
  return new MayflyError('not_found', 'there is no such approval for you')
}
