import { FREEZE_ID, FreezeAnswer, FreezeRequest, FreezesAnswer, ThawAnswer, ThawRequest } from '../../api.js'
import { MayflyError } from '../../errors.js'
import { event } from '../../event.js'
import { thawFreeze } from '../../thaw.js'
import { BROKER, isPermitted, notFound, permit, resourceOf } from '../operator.js'
import { type Route, route } from '../route.js'
import { freezeView, holdingView, thawView } from '../view.js'

const list = route({
  method: 'get',
  path: '/v1/freezes',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'The freezes in force.',
  answers: { 200: FreezesAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  const freezes = await call.house.ledger.freezes()
  return { status: 200, body: { freezes: freezes.map((one) => ({ ...freezeView(one), partitions: one.partitions })) } }
})

const freeze = route({
  method: 'post',
  path: '/v1/freezes',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Blocks issuing for what the selector matches; it holds before the answer leaves. Live leases stay.',
  body: FreezeRequest,
  answers: { 201: FreezeAnswer },
  codes: ['denied', 'approval_required', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, context } = call
  const { selector, reason } = call.body
  await permit(call, 'freeze', resourceOf(selector))
  const told = event('freeze.set', context, principal, { detail: { selector, reason } })
  const frozen = await house.ledger.freeze({ selector, reason, by: principal.id }, told)
  return { status: 201, body: { freeze: freezeView(frozen.freeze), partitions: await holdingView(frozen) } }
})

const thaw = route({
  method: 'post',
  path: '/v1/freezes/{id}/thaw',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Lifts one freeze: an action of its own in policy. 202: policy says that others have to ask for it too, and not all have.',
  id: FREEZE_ID,
  body: ThawRequest,
  answers: { 200: ThawAnswer, 202: ThawAnswer },
  codes: ['denied', 'approval_required', 'not_found', 'conflict', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, id, context } = call
  const { reason } = call.body
  const known = (await house.ledger.freezes()).find((one) => one.id === id)
  if (!known) {
    // That there is none is no secret to whoever may look.
    await permit(call, (await isPermitted(house, principal, 'inspect', BROKER)) ? 'inspect' : 'thaw', BROKER)
    throw notFound('freeze')
  }
  if (known.kind === 'quarantine') throw new MayflyError('conflict', 'a quarantine is lifted, not thawed', { next: 'mayfly quarantine lift' })
  // Offboarding is for good: who takes it back must be able to do it, too.
  if (known.kind === 'offboarding') await permit(call, 'offboard', resourceOf(known.selector))
  const { freeze, asked } = await thawFreeze(house, principal, { freeze: known, resource: resourceOf(known.selector), reason }, context)
  if (!asked) return { status: 200, body: { freeze: freezeView(freeze) } }
  return { status: 202, body: { freeze: freezeView(freeze), asked: thawView(asked) } }
})

export const freezeRoutes: readonly Route[] = [list, freeze, thaw]
