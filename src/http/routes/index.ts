import { ANYONE, type Route, type Surface } from '../route.js'
import { agentRiskRoutes } from './agent-risk.js'
import { agentStopRoutes } from './agent-stops.js'
import { agentRoutes } from './agents.js'
import { approvalRoutes } from './approvals.js'
import { documentRoutes } from './documents.js'
import { drillRoutes } from './drills.js'
import { emergencyRoutes } from './emergency.js'
import { freezeRoutes } from './freezes.js'
import { introspectRoutes } from './introspect.js'
import { leaseRoutes } from './leases.js'
import { operationRoutes } from './operations.js'
import { policyRoutes } from './policy.js'
import { quarantineRoutes } from './quarantine.js'
import { reconciliationRoutes } from './reconciliations.js'
import { taskRoutes } from './tasks.js'
import { toolCallRoutes } from './tool-calls.js'
import { wellKnownRoutes } from './well-known.js'
import { whoamiRoutes } from './whoami.js'

/** Every route there is; the app, OpenAPI and the documentation are made of this list. The busiest comes first: it is matched in order. */
export const ROUTES: readonly Route[] = [
  ...leaseRoutes,
  ...toolCallRoutes,
  ...approvalRoutes,
  ...taskRoutes,
  ...whoamiRoutes,
  ...introspectRoutes,
  ...emergencyRoutes,
  ...freezeRoutes,
  ...quarantineRoutes,
  ...agentStopRoutes,
  ...agentRiskRoutes,
  ...agentRoutes,
  ...policyRoutes,
  ...drillRoutes,
  ...reconciliationRoutes,
  ...documentRoutes,
  ...wellKnownRoutes,
  ...operationRoutes,
]

/**
 * What one listener offers. With a listener of their own, operators are served there and agents elsewhere, also by the routes that serve
 * both.
 */
export function routesOn(surface: Surface | 'all'): Route[] {
  if (surface === 'all') return ROUTES.filter(({ surfaces }) => surfaces.some((one) => one !== 'metrics'))
  return ROUTES.filter(({ surfaces }) => surfaces.includes(surface)).map((route) => {
    if (!route.who || ANYONE.every((kind) => route.who?.includes(kind))) return route
    return { ...route, who: route.who.filter((kind) => (kind === 'operator') === (surface === 'operator')) }
  })
}
