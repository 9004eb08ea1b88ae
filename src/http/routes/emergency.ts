import { DryRunAnswer, EmergencyAnswer, EmergencyRequest, REVOCATION_ID, RevocationAnswer } from '../../api.js'
import { emergencyRevoke } from '../../emergency.js'
import { revocationReport } from '../../revocation-report.js'
import { BROKER, notFound, permit, resourceOf } from '../operator.js'
import { type Route, route, TEXT_STREAM } from '../route.js'
import { freezeView, holdingView, revocationView, timeView } from '../view.js'

const revoke = route({
  method: 'post',
  path: '/v1/emergency/revoke',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'The stop: freezes what the selector matches before it answers, then closes every live lease of it. dry_run only counts.',
  body: EmergencyRequest,
  answers: { 202: EmergencyAnswer, 200: DryRunAnswer },
  codes: ['denied', 'approval_required', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, body, context } = call
  const { selector, reason, freeze, verify } = body
  await permit(call, 'emergencyRevoke', resourceOf(selector))
  if (body.dry_run) {
    const matched = await house.ledger.match(selector)
    const providers = matched.map(({ provider, live, residualUntil }) => ({
      provider,
      live,
      revocation: house.upstreams.get(provider)?.provider.revocation ?? 'not configured',
      residual_until: residualUntil === undefined ? undefined : timeView(residualUntil),
    }))
    return { status: 200, body: { dry_run: true, matched: matched.reduce((sum, { live }) => sum + live, 0), providers } }
  }
  const { revocation, freeze: frozen } = await emergencyRevoke(house, principal, { selector, reason, freeze, verify }, context)
  const told = frozen && { ...freezeView(frozen.freeze), partitions: await holdingView(frozen) }
  const answer = { revocation: revocationView(revocation), freeze: told }
  return { status: 202, body: answer }
})

const progress = route({
  method: 'get',
  path: '/v1/emergency/revocations/{id}',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'How far a revocation has come, and until when what is pending may still work.',
  id: REVOCATION_ID,
  answers: { 200: RevocationAnswer },
  codes: ['denied', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  const revocation = await call.house.ledger.revocation(call.id)
  if (!revocation) throw notFound('revocation')
  return { status: 200, body: { revocation: revocationView(revocation) } }
})

const report = route({
  method: 'get',
  path: '/v1/emergency/revocations/{id}/report',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'What became of every lease of a revocation, one a line; the last line is a JWS over their sum and their digest.',
  id: REVOCATION_ID,
  answers: { 200: TEXT_STREAM },
  contentType: 'application/x-ndjson',
  codes: ['denied', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  const revocation = await call.house.ledger.revocation(call.id)
  if (!revocation) throw notFound('revocation')
  return { status: 200, body: revocationReport(call.house, call.around.signer(), revocation) }
})

export const emergencyRoutes: readonly Route[] = [revoke, progress, report]
