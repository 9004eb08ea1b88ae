import { setTimeout as pause } from 'node:timers/promises'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { Frozen } from './ledger/ledger.js'
import { drive } from './revoke.js'
import {
  type Claim,
  type EmergencyRevocation,
  type Freeze,
  namesTasksAlone,
  type Principal,
  type RequestContext,
  type Selector,
  type Verify,
} from './types.js'

/** Revokes that one revocation keeps waiting in this broker. */
const MOST_UNDER_WAY = 256
/** For so long what is found at once comes before everything else. */
const NEAREST_FIRST_MS = 250

export interface Emergency {
  readonly revocation: EmergencyRevocation
  readonly freeze?: Frozen
}

/**
 * The stop. The freeze holds in every partition that can be reached before anything else is done, and before this answers; with it goes a
 * record that any replica can go on from, and the leases are closed: those that are found at once first, and the others page by page. Never
 * waits for the outbox. `by`: whose decision it is, where that is not the principal's, whose request brought it about.
 */
export async function emergencyRevoke(
  house: House,
  principal: Principal,
  ask: { selector: Selector; reason: string; freeze: boolean; kind?: Freeze['kind']; by?: string; verify?: Verify },
  context: RequestContext,
): Promise<Emergency> {
  const { selector, reason, kind, verify } = ask
  const by = ask.by ?? principal.id
  if (!ask.freeze) return { revocation: await revokeAll(house, principal, { selector, reason, by, verify }, context) }
  // Should this broker die before it is opened, the trail still says what was meant: a stop that was never started.
  const setting = event('freeze.set', context, principal, { detail: { selector, reason, emergency: true, kind } })
  const revoke = opening({ selector, reason, verify }, principal, context)
  const frozen = await house.ledger.freeze({ selector, reason, by, kind, revoke }, setting)
  if (frozen.revocation) return { revocation: begin(house, frozen.revocation), freeze: frozen }
  return { revocation: await revokeAll(house, principal, { selector, reason, by, verify, freeze: frozen.freeze.id }, context), freeze: frozen }
}

/** A stop without its freeze, or of a freeze that was set before: begun once for each, however often this is asked. */
export async function revokeAll(
  house: House,
  principal: Principal,
  ask: { selector: Selector; reason: string; by: string; freeze?: string; verify?: Verify },
  context: RequestContext,
): Promise<EmergencyRevocation> {
  const { freeze } = ask
  const { verify, event: started } = opening(ask, principal, context)
  const revocation = await house.ledger.openRevocation({ ...ask, verify }, started).catch((error: unknown) => {
    throw freeze === undefined ? error : onlyFrozen(freeze, error)
  })
  return begin(house, revocation)
}

function opening(
  { selector, reason, verify = 'sample' }: Pick<EmergencyRevocation, 'selector' | 'reason'> & { verify?: Verify },
  principal: Principal,
  context: RequestContext,
) {
  return { verify, event: event('revocation.started', context, principal, { detail: { selector, reason, verify } }) }
}

function begin(house: House, revocation: EmergencyRevocation): EmergencyRevocation {
  house.metrics.emergency.inc()
  house.log.warn({ revocation: revocation.id, by: revocation.by, selector: revocation.selector }, 'emergency revoke started')
  house.background.run('emergency', carryOn(house, revocation.id, { isNew: true }))
  return revocation
}

/**
 * Goes on with one revocation until all of its leases are closing, one that is new with those that are found at once; what is closing is the
 * ledger's to repeat. No page waits for the revokes of the one before it: what finds no place here is due at once, for whoever sweeps. A task
 * that was named ends after that: what its end takes back first would not be matched, and be missing in the report.
 */
export async function carryOn(house: House, id: string, { isNew = false } = {}): Promise<void> {
  let underWay = 0
  const go = (claims: readonly Claim[]): void => {
    underWay += claims.length
    for (const claim of claims) void drive(house, claim).then(ended, ended)
  }
  const nearest = isNew ? house.ledger.takeNearest(id, MOST_UNDER_WAY).then(go, () => undefined) : undefined
  // A partition that does not answer keeps nobody else's leases.
  await Promise.race([nearest, pause(NEAREST_FIRST_MS, undefined, { ref: false })])
  for (;;) {
    const { claims, done } = await house.ledger.advanceRevocation(id, Math.max(0, MOST_UNDER_WAY - underWay), ({ selector, reason, by }) =>
      endNamedTasks(house, id, selector, reason, by),
    )
    go(claims)
    if (done) return nearest
  }
  function ended(): void {
    underWay--
  }
}

function onlyFrozen(freeze: string, cause: unknown): MayflyError {
  const message = `issuing is frozen (${freeze}), but what is live could not be revoked`
  return new MayflyError('ledger_unavailable', message, { next: 'ask again, until a revocation is answered', retryAfterSeconds: 1, cause })
}

/** A task that is named alone is over: its end also takes what descends from it. */
async function endNamedTasks(house: House, revocation: string, selector: Selector, reason: string, by: string): Promise<void> {
  if (!namesTasksAlone(selector)) return
  for (const task of selector.task ?? []) {
    const told = event('task.ended', undefined, undefined, { task, cause: 'task_revoked', detail: { revocation, by } })
    const ended = await house.ledger.endTask(task, { state: 'revoked', cause: 'task_revoked', reason }, told)
    if (ended.ok) for (const claim of ended.claims) void drive(house, claim)
  }
}
