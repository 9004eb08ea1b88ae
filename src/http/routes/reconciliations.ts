import { ReconciliationAnswer, ReconciliationRequest } from '../../api.js'
import { reconcile } from '../../reconcile.js'
import { BROKER, notFound, permit } from '../operator.js'
import { reconciledView } from '../reconciled-view.js'
import { type Route, route } from '../route.js'

const run = route({
  method: 'post',
  path: '/v1/reconciliations',
  surfaces: ['operator'],
  who: ['operator'],
  summary:
    'Holds what exists upstream against the ledger now: finds, and revokes if asked, what this installation made and nothing tells of any more.',
  body: ReconciliationRequest,
  bodyOptional: true,
  answers: { 200: ReconciliationAnswer },
  codes: ['denied', 'approval_required', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, body, principal, context } = call
  await permit(call, 'reconcile', BROKER)
  const { providers, revoke, wait, deadline } = body
  if (providers?.some((name) => !house.upstreams.has(name))) throw notFound('provider')
  const reconciled = await reconcile(house, { providers, revoke, wait, deadlineMs: deadline * 1000 }, { principal, context })
  return { status: 200, body: reconciledView(reconciled) }
})

export const reconciliationRoutes: readonly Route[] = [run]
