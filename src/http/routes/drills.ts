import { DrillRequest, DrillsAnswer } from '../../api.js'
import { type Drilled, drill } from '../../drill.js'
import { BROKER, notFound, permit } from '../operator.js'
import { type Route, route } from '../route.js'

const run = route({
  method: 'post',
  path: '/v1/drills',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Runs configured drills now: mints a credential of each, ends its task and answers once the upstream refuses it, or does not.',
  widens: true,
  body: DrillRequest,
  bodyOptional: true,
  answers: { 200: DrillsAnswer },
  codes: ['denied', 'approval_required', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, body } = call
  await permit(call, 'drill', BROKER)
  const asked = house.drills.filter(
    ({ role }) => (body.provider === undefined || role.provider === body.provider) && (body.role === undefined || role.name === body.role),
  )
  if (asked.length === 0) throw notFound('drill')
  // One after the other: together they would measure each other.
  const drilled: Drilled[] = []
  for (const one of asked) drilled.push(await drill(house, one))
  return {
    status: 200,
    body: { drills: drilled.map(({ confirmedMs, deadMs, ...rest }) => ({ ...rest, confirmed_ms: confirmedMs, dead_ms: deadMs })) },
  }
})

export const drillRoutes: readonly Route[] = [run]
