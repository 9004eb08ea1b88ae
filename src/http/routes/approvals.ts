import { APPROVAL_ID, ApprovalAnswer, ApprovalsAnswer, ApprovalsQuery, DecideRequest } from '../../api.js'
import { approvalFor, approve, deny, isAllowed, mayInspect } from '../../approvals.js'
import { BROKER, permit } from '../operator.js'
import { type Route, route } from '../route.js'
import { approvalView } from '../view.js'

/** Between two looks at an approval that is open. */
export const POLL_SECONDS = 3

const list = route({
  method: 'get',
  path: '/v1/approvals',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'What waits for humans or for its use: all of it for who may inspect, else what the caller may decide on.',
  query: ApprovalsQuery,
  answers: { 200: ApprovalsAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, query } = call
  const { approvals, cursor } = await house.ledger.approvals(query)
  const seesAll = await mayInspect(house, principal)
  const mine = seesAll ? approvals : await Promise.all(approvals.map(async (one) => ((await isAllowed(house, principal, one)) ? [one] : [])))
  const seen = mine.flat()
  const isAll = cursor === undefined && query.cursor === undefined
  if (!seesAll && seen.length === 0 && isAll) await permit(call, 'inspect', BROKER)
  return { status: 200, body: { approvals: seen.map((one) => approvalView(one, true)), next_cursor: cursor } }
})

const read = route({
  method: 'get',
  path: '/v1/approvals/{id}',
  surfaces: ['public', 'operator'],
  who: ['agent', 'orchestrator', 'operator'],
  summary: 'What became of a question to humans: for who asked, who opened the task, and operators. With Retry-After while it is open.',
  id: APPROVAL_ID,
  answers: { 200: ApprovalAnswer },
  codes: ['not_found', 'ledger_unavailable'],
}).handle(async ({ house, principal, id }) => {
  const approval = await approvalFor(house, principal, id)
  const body = { approval: approvalView(approval, principal.kind === 'operator') }
  return { status: 200, body, headers: approval.state === 'open' ? { 'retry-after': String(POLL_SECONDS) } : undefined }
})

const decide = (verb: 'approve' | 'deny', summary: string, decideOn: typeof approve) =>
  route({
    method: 'post',
    path: `/v1/approvals/{id}/${verb}`,
    surfaces: ['operator'],
    who: ['operator'],
    summary,
    id: APPROVAL_ID,
    body: DecideRequest,
    bodyOptional: true,
    answers: { 200: ApprovalAnswer },
    codes: ['not_found', 'denied', 'conflict', 'approval_invalid', 'ledger_unavailable', 'audit_unavailable'],
  }).handle(async ({ house, principal, id, body, context }) => {
    const approval = await decideOn(house, principal, id, body.reason, context)
    return { status: 200, body: { approval: approvalView(approval, true) } }
  })

export const approvalRoutes: readonly Route[] = [
  list,
  decide('approve', 'Agrees, once and for each group asked that the caller is in. Nobody agrees to what is their own.', approve),
  decide('deny', 'Says no: final for this request until the context of its task changes.', deny),
  read,
]
