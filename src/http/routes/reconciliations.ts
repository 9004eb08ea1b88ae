import { ReconciliationAnswer, ReconciliationRequest } from '../../api.js'
import { MayflyError } from '../../errors.js'
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
  codes: ['denied', 'approval_required', 'not_found', 'quarantined', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, body, principal, context } = call
  await permit(call, 'reconcile', BROKER)
  const { providers, revoke, wait, deadline } = body
  if (providers?.some((name) => !house.upstreams.has(name))) throw notFound('provider')
  if (revoke && house.ledger.quarantined()) throw tooEarly()
  const reconciled = await reconcile(house, { providers, revoke, wait, deadlineMs: deadline * 1000 }, { principal, context })
  return { status: 200, body: reconciledView(reconciled) }
})

/** What the ledger has forgotten may be in use: who knows better lifts the quarantine first. */
function tooEarly(): MayflyError {
  const next = 'see what would be revoked with `mayfly reconcile`; then `mayfly quarantine lift`, and ask again'
  return new MayflyError('quarantined', 'nothing is revoked as an orphan while the ledger is in quarantine', { next })
}

export const reconciliationRoutes: readonly Route[] = [run]
