import { SimulateRequest, SimulationAnswer } from '../../api.js'
import { MayflyError } from '../../errors.js'
import { BROKER, permit } from '../operator.js'
import { type Route, route } from '../route.js'

/** Candidates are whole sets of policies. */
const MOST_BYTES = 1024 * 1024
const DEADLINE_MS = 10_000

const simulate = route({
  method: 'post',
  path: '/v1/policy/simulate',
  surfaces: ['operator'],
  who: ['operator'],
  summary:
    'What candidate policies would change: for the requests that are given, or for those that this broker recorded. Changes nothing; asks for at most ten seconds.',
  body: SimulateRequest,
  bodyBytes: MOST_BYTES,
  answers: { 200: SimulationAnswer },
  codes: ['denied', 'approval_required', 'rate_limited'],
}).handle(async (call) => {
  const { around, body } = call
  await permit(call, 'simulate', BROKER)
  const sinceMs = body.since === undefined ? undefined : Date.parse(body.since)
  const answer = await around.simulate({ ...body, sinceMs, deadlineMs: DEADLINE_MS }).catch((error: unknown) => {
    // What cannot be used are the caller's policies, and not those that decide.
    if (!(error instanceof MayflyError) || error.code !== 'policy_unavailable') throw error
    throw new MayflyError('request_invalid', 'the candidate cannot be used', { issues: error.details.issues })
  })
  return { status: 200, body: answer }
})

export const policyRoutes: readonly Route[] = [simulate]
