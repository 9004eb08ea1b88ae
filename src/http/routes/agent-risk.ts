import { setRisk } from '../../agent-risk.js'
import { AGENT_ID, AgentRiskAnswer, AgentRiskRequest } from '../../api.js'
import { permit } from '../operator.js'
import { type Route, route } from '../route.js'
import { riskView } from '../view.js'

const set = route({
  method: 'post',
  path: '/v1/agents/{+id}/risk',
  surfaces: ['operator'],
  who: ['operator'],
  summary:
    "Sets a floor under an agent's risk (what something outside knows of it), or forgets what was counted. Raising takes the right to freeze, lowering the right to thaw.",
  id: AGENT_ID,
  body: AgentRiskRequest,
  answers: { 200: AgentRiskAnswer },
  codes: ['denied', 'approval_required', 'conflict', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, id, body, context } = call
  const { reset, floor: value, ttl: ttlSeconds, reason } = body
  const floor = value === undefined ? undefined : { value, ttlSeconds }
  const risk = await setRisk(house, principal, id, { reset, floor, reason }, context, (action) => permit(call, action, { type: 'Agent', id }))
  return { status: 200, body: { agent: id, risk: riskView(risk) } }
})

export const agentRiskRoutes: readonly Route[] = [set]
