import { offboardingOf, resumeAgent, stopAgent } from '../../agents.js'
import { AGENT_ID, AgentResumeAnswer, AgentStopAnswer, AgentStopRequest, OffboardingAnswer } from '../../api.js'
import type { Freeze } from '../../types.js'
import { notFound, permit } from '../operator.js'
import { type Route, route } from '../route.js'
import { freezeView, holdingView, leaseView, revocationView } from '../view.js'
import { ruleOf } from './agents.js'

const STOPPING = ['denied', 'approval_required', 'ledger_unavailable'] as const
const KINDS = {
  suspend: { kind: 'suspension', action: 'freeze', standing: 'suspended' },
  offboard: { kind: 'offboarding', action: 'offboard', standing: 'offboarded' },
} as const satisfies Record<string, { kind: Freeze['kind']; action: string; standing: string }>

/** Whoever is not configured may be stopped all the same: it may hold what it obtained while it was. */
const stop = (verb: keyof typeof KINDS, summary: string) =>
  route({
    method: 'post',
    path: `/v1/agents/{+id}/${verb}`,
    surfaces: ['operator'],
    who: ['operator'],
    summary,
    id: AGENT_ID,
    body: AgentStopRequest,
    answers: { 202: AgentStopAnswer },
    codes: STOPPING,
  }).handle(async (call) => {
    const { house, principal, id, body, context } = call
    const { kind, action, standing } = KINDS[verb]
    await permit(call, action, { type: 'Agent', id })
    const { freeze, frozen, revocation } = await stopAgent(house, principal, { agent: id, reason: body.reason, kind }, context)
    const configured = ruleOf(call.around.agents(), id) !== undefined
    const told = { ...freezeView(freeze), partitions: await holdingView(frozen) }
    const answer = { agent: id, configured, standing, freeze: told, revocation: revocationView(revocation) }
    return { status: 202, body: answer }
  })

const resume = route({
  method: 'post',
  path: '/v1/agents/{+id}/resume',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Takes the suspensions of an agent back; other freezes that cover it stay. What was revoked stays revoked.',
  id: AGENT_ID,
  body: AgentStopRequest,
  answers: { 200: AgentResumeAnswer },
  codes: [...STOPPING, 'conflict'],
}).handle(async (call) => {
  const { house, principal, id, body, context } = call
  await permit(call, 'thaw', { type: 'Agent', id })
  const { thawed, standing, freezes } = await resumeAgent(house, principal, { agent: id, reason: body.reason }, context)
  return { status: 200, body: { agent: id, standing, thawed: thawed.map(freezeView), freezes: freezes.map(freezeView) } }
})

const offboarding = route({
  method: 'get',
  path: '/v1/agents/{+id}/offboard',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'How far the offboarding of an agent has come: per provider, what is pending, and until when that may still work.',
  id: AGENT_ID,
  answers: { 200: OffboardingAnswer },
  codes: ['denied', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, id } = call
  await permit(call, 'inspect', { type: 'Agent', id })
  const report = await offboardingOf(house, id)
  if (!report) throw notFound('offboarding')
  const { state, freeze, revocation, pending } = report
  const views = {
    freeze: freezeView(freeze),
    revocation: revocation && revocationView(revocation),
    pending: pending.map((one) => leaseView(one, house.ledger)),
  }
  return { status: 200, body: { agent: id, state, ...views } }
})

export const agentStopRoutes: readonly Route[] = [
  stop('suspend', 'Freezes an agent before it answers, then closes its live leases. Its tasks go on: resume lets it work again.'),
  resume,
  stop('offboard', 'Freezes an agent for good before it answers, then revokes whatever it holds, and what it handed on, everywhere.'),
  offboarding,
]
