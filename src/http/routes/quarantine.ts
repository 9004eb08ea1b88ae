import { LiftRequest, QuarantineAnswer } from '../../api.js'
import { MayflyError } from '../../errors.js'
import { event } from '../../event.js'
import type { House } from '../../house.js'
import { BROKER, permit } from '../operator.js'
import { quarantineView } from '../quarantine-view.js'
import { type Route, route } from '../route.js'

const look = route({
  method: 'get',
  path: '/v1/quarantine',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Whether Redis went backwards, what it has forgotten, and what was done again from the audit logs.',
  answers: { 200: QuarantineAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  return { status: 200, body: { quarantine: await seen(call.house) } }
})

const lift = route({
  method: 'post',
  path: '/v1/quarantine/lift',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Lets issuing go on: an action of its own in policy. What the ledger does not know is for a reconciliation.',
  body: LiftRequest,
  answers: { 200: QuarantineAnswer },
  codes: ['denied', 'approval_required', 'not_found', 'quarantined', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, context, body } = call
  await permit(call, 'liftQuarantine', BROKER)
  const { reason } = body
  if (house.ledger.quarantined() === 'lost') throw noLedger()
  const lifted = await house.ledger.liftQuarantine(
    { by: principal.id, reason },
    event('quarantine.lifted', context, principal, { detail: { reason } }),
  )
  if (!lifted.ok) throw new MayflyError('not_found', 'there is no quarantine')
  house.log.warn({ by: principal.id, reason }, 'the quarantine was lifted')
  return { status: 200, body: { quarantine: quarantineView(lifted.quarantine) } }
})

async function seen({ ledger }: House) {
  return ledger.quarantined() === 'lost' ? quarantineView('lost') : quarantineView(await ledger.quarantine())
}

function noLedger(): MayflyError {
  const next = 'restore Redis; or, where there is nothing to restore, `mayfly ledger init --after-loss`, and lift the quarantine that follows'
  return new MayflyError('quarantined', 'Redis holds no ledger any more', { next })
}

export const quarantineRoutes: readonly Route[] = [look, lift]
