import { event } from '../event.js'
import type { House } from '../house.js'
import type { Principal, RequestContext } from '../types.js'
import type { Route } from './route.js'

const LONGEST_REASON = 200

/**
 * Somebody has broken the glass: told in the log, counted, and as an event, whatever comes of the request. Nothing waits for it: it may be the stop
 * that is asked for, and the outbox that is full.
 */
export function tellBreakGlass(
  house: House,
  principal: Principal,
  context: RequestContext,
  { method, path }: Pick<Route, 'method' | 'path'>,
  authorization: string | undefined,
): void {
  const { id, issuer } = principal
  const detail = { method, path, reason: reasonIn(authorization) }
  house.metrics.breakGlass.inc({ issuer })
  house.log.warn({ operator: id, issuer, request: context.requestId, ...detail }, 'the glass is broken: a break-glass key was used')
  const told = event('break_glass.used', context, principal, { detail })
  const kept = house.ledger.record(told).then(async (recorded) => {
    if (!recorded.ok) await house.ledger.refuse(told)
  })
  // What cannot be recorded now is in the log.
  house.background.run(
    'break-glass',
    kept.catch(() => undefined),
  )
}

/** Why, as its token says, which was verified before. */
function reasonIn(authorization: string | undefined): string | undefined {
  try {
    const payload = authorization?.split('.')[1] ?? ''
    const { reason } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { reason?: unknown }
    return typeof reason === 'string' ? reason.slice(0, LONGEST_REASON) : undefined
  } catch {
    return undefined
  }
}
