import type { Decision } from '../../types.js'
import { isTask } from '../actions.js'
import { own } from '../attributes.js'
import type { PolicyRequest } from '../policy.js'

const STOPS = ['freeze', 'emergencyRevoke']

/**
 * What is decided where the OPA has no answer: whoever opened a task ends it, and operators of some groups freeze and revoke. All of it only
 * takes away, and none of it may wait. Undefined: no.
 */
export function stopAllowed(request: PolicyRequest, groups: readonly string[], { version }: { readonly version: string }): Decision | undefined {
  const { action, principal } = request
  const ends = action === 'endTask' && isTask(request) && own(request)
  const stops = STOPS.includes(action) && principal.kind === 'operator' && principal.groups.some((group) => groups.includes(group))
  if (!ends && !stops) return undefined
  return Object.freeze({ outcome: 'allow', policies: ['stop-without-opa'], reasons: [], policyVersion: version, readsCounts: true })
}
