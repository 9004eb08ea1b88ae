import { createHash } from 'node:crypto'
import {
  ApprovalAnswer,
  IssuedAnswer,
  LEASE_ID,
  LeaseAnswer,
  LeaseRequest,
  LeasesAnswer,
  LeasesQuery,
  RenewedAnswer,
  RenewRequest,
  WaitQuery,
} from '../../api.js'
import { MayflyError } from '../../errors.js'
import { event } from '../../event.js'
import type { House } from '../../house.js'
import { issue } from '../../issue.js'
import { humanShown } from '../../on-behalf.js'
import { isOf, renew } from '../../renew.js'
import { closeLease } from '../../revoke.js'
import { ApprovalPending } from '../../step-up.js'
import type { Agent, Lease, LeaseRecord, RequestContext } from '../../types.js'
import { BROKER, notFound, permit, resourceOf } from '../operator.js'
import { type Route, route } from '../route.js'
import { approvalView, credentialView, leaseView } from '../view.js'
import { patienceOf, untilSettled } from '../wait.js'
import { POLL_SECONDS } from './approvals.js'

const CONSENT = ['approval_required', 'approval_denied', 'approval_invalid'] as const
const HUMAN = ['on_behalf_of_required', 'on_behalf_of_invalid', 'on_behalf_of_expired'] as const
const ISSUING = [
  'task_ended',
  'frozen',
  'quarantined',
  'conflict',
  'quota_exceeded',
  'denied',
  ...CONSENT,
  ...HUMAN,
  'outside_envelope',
  'outside_tools',
  'outside_plan',
  'not_found',
] as const
const MINTING = ['provider_failed', 'provider_timeout', 'overloaded', 'ledger_unavailable', 'audit_unavailable', 'draining'] as const

/** Anything that a header may hold and a person may read. */
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/

const obtain = route({
  method: 'post',
  path: '/v1/leases',
  surfaces: ['public'],
  who: ['agent'],
  summary: 'Obtain a credential for a task. With Idempotency-Key, a repeat closes the first lease and mints anew.',
  widens: true,
  body: LeaseRequest,
  answers: { 201: IssuedAnswer, 202: ApprovalAnswer },
  codes: [...ISSUING, ...MINTING],
}).handle(async ({ house, principal, body, headers, context, callerGone }) => {
  const started = performance.now()
  const { task, role, ttl: ttlSeconds, scope, reason, tool, destination, approval, can_wait: canWait, on_behalf_of: humanToken } = body
  const idempotency = idempotencyOf(principal, headers['idempotency-key'])
  const ask = {
    task,
    role,
    ttlSeconds,
    scope,
    reason,
    tool,
    destination,
    idempotency,
    approval,
    canWait,
    onBehalfOf: humanShown(house, principal, humanToken),
  }
  const issued = await issue(house, principal, ask, context, callerGone).catch(pending)
  if (issued instanceof ApprovalPending) return asked(issued)
  const { lease, credential } = issued
  house.metrics.issueSeconds.observe({ provider: lease.provider }, (performance.now() - started) / 1000)
  const view = leaseView(lease, house.ledger)
  const answer = { lease: view, credential: credentialView(credential, view) }
  return { status: 201, body: answer, unsent: takeBack(house, principal, lease, context) }
})

const extend = route({
  method: 'post',
  path: '/v1/leases/{id}/renew',
  surfaces: ['public'],
  who: ['agent'],
  summary: 'A longer life, decided anew. Where the upstream cannot extend, the answer holds a new lease and credential.',
  widens: true,
  id: LEASE_ID,
  body: RenewRequest,
  bodyOptional: true,
  answers: { 200: RenewedAnswer, 202: ApprovalAnswer },
  codes: [...ISSUING, ...MINTING, 'lease_ended', 'renewal_limit', 'renewals_used', 'token_not_fresh'],
}).handle(async ({ house, principal, id, body, context, callerGone }) => {
  const wanted = {
    ttlSeconds: body.ttl,
    approval: body.approval,
    canWait: body.can_wait,
    onBehalfOf: humanShown(house, principal, body.on_behalf_of),
  }
  const renewed = await renew(house, principal, id, wanted, context, callerGone).catch(pending)
  if (renewed instanceof ApprovalPending) return asked(renewed)
  const { lease, credential } = renewed
  if (!credential) return { status: 200, body: { lease: leaseView(lease, house.ledger) } }
  const view = leaseView(lease, house.ledger)
  const answer = { lease: view, credential: credentialView(credential, view) }
  return { status: 200, body: answer, unsent: takeBack(house, principal, lease, context) }
})

const read = route({
  method: 'get',
  path: '/v1/leases/{id}',
  surfaces: ['public', 'operator'],
  who: ['agent', 'operator'],
  summary: 'The record of one lease, never its secret.',
  id: LEASE_ID,
  answers: { 200: LeaseAnswer },
  codes: ['not_found', 'denied', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, id } = call
  if (principal.kind === 'agent') return { status: 200, body: { lease: leaseView(await leaseOfCaller(house, principal, id), house.ledger) } }
  await permit(call, 'inspect', BROKER)
  const lease = await house.ledger.lease(id)
  if (!lease) throw notFound('lease')
  return { status: 200, body: { lease: leaseView(lease, house.ledger) } }
})

const giveBack = route({
  method: 'delete',
  path: '/v1/leases/{id}',
  surfaces: ['public'],
  who: ['agent'],
  summary: 'Returns a lease. Answers once it is closed; with ?wait, once the upstream has confirmed or the time is over.',
  id: LEASE_ID,
  query: WaitQuery,
  answers: { 200: LeaseAnswer },
  codes: ['not_found', 'ledger_unavailable'],
}).handle(async ({ house, around, principal, id, query, context, callerGone }) => {
  const { task, role, provider } = await leaseOfCaller(house, principal, id)
  const cause = 'released'
  const closed = await closeLease(house, id, cause, event('lease.closing', context, principal, { task, lease: id, role, provider, cause }))
  if (!closed) throw notFound('lease')
  if (!query.wait) return { status: 200, body: { lease: leaseView(closed.lease, house.ledger) } }
  const [settled] = await untilSettled(house, [{ lease: id, state: closed.outcome }], patienceOf(query.wait, { callerGone, around }))
  return { status: 200, body: { lease: leaseView(settled ?? closed.lease, house.ledger) } }
})

const list = route({
  method: 'get',
  path: '/v1/leases',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Leases by filter, a page at a time.',
  query: LeasesQuery,
  answers: { 200: LeasesAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  const { limit, cursor, ...filter } = call.query
  const { task, agent, role, provider } = filter
  await permit(call, 'inspect', resourceOf({ task: one(task), agent: one(agent), role: one(role), provider: one(provider) }))
  const page = await call.house.ledger.leases(filter, { limit, cursor })
  return { status: 200, body: { leases: page.leases.map((one) => leaseView(one, call.house.ledger)), next_cursor: page.cursor } }
})

export const leaseRoutes: readonly Route[] = [obtain, list, extend, read, giveBack]

function pending(thrown: unknown): ApprovalPending {
  if (thrown instanceof ApprovalPending) return thrown
  throw thrown
}

/** RFC 9110 §15.3.3: accepted, and where to look for what becomes of it. */
function asked({ approval }: ApprovalPending) {
  const headers = { 'retry-after': String(POLL_SECONDS), location: `/v1/approvals/${approval.id}` }
  return { status: 202 as const, body: { approval: approvalView(approval, false) }, headers }
}

/** A lease of this very copy of the agent; anybody else's looks like none. */
async function leaseOfCaller(house: House, agent: Agent, id: string): Promise<Lease> {
  const lease = await house.ledger.lease(id)
  if (!lease || !isOf(lease, agent)) throw notFound('lease')
  return lease
}

/** Two copies of an agent, or two agents, may choose the same key without ending each other's leases. */
function idempotencyOf({ id, instance, issuer }: Agent, key: string | string[] | undefined): string | undefined {
  if (key === undefined) return undefined
  if (typeof key !== 'string' || !IDEMPOTENCY_KEY.test(key))
    throw new MayflyError('malformed', 'Idempotency-Key must be 1 to 255 visible ASCII characters')
  return createHash('sha256')
    .update(JSON.stringify([issuer, id, instance ?? null, key]))
    .digest('base64url')
}

/** For a credential whose answer never left: nobody knows it, so nobody may be able to use it. */
function takeBack(house: House, agent: Agent, { id, task, role, provider }: LeaseRecord, context: RequestContext): () => void {
  const cause = 'caller_gone'
  return () => {
    const told = event('lease.closing', context, agent, { task, lease: id, role, provider, cause })
    house.background.run('take back', closeLease(house, id, cause, told))
  }
}

function one(value: string | undefined): readonly string[] | undefined {
  return value === undefined ? undefined : [value]
}
