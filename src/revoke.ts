import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { SettleOutcome } from './ledger/ledger.js'
import type { Cause, Claim, Event, EventType, Lease, LeaseState, Verified } from './types.js'
import type { Upstream } from './upstream.js'

/** What must be left of a claim, beyond one call's timeout, for it to be carried out. */
const CLAIM_MARGIN_MS = 1_000
/** After so many attempts without an answer to whether it is dead, a confirmed revoke is taken as what it is: confirmed, and not verified. */
const MOST_QUESTIONS = 5

/**
 * Closes one lease and starts to take it back. Answers once the ledger holds the close; `outcome` is for who wants to wait. `nothingMade`: the
 * upstream said that it made nothing, which is all there is to know where only the mint knows the handle.
 */
export async function closeLease(
  house: House,
  id: string,
  cause: Cause,
  told: Event,
  nothingMade = false,
): Promise<{ lease: Lease; outcome: Promise<LeaseState> } | undefined> {
  const closed = await house.ledger.close(id, cause, told)
  if (!closed.ok) return undefined
  const { lease, claim } = closed
  return { lease, outcome: claim ? drive(house, claim, nothingMade) : Promise.resolve(lease.state) }
}

/** Takes back, in the background, what this broker holds the claim of. What does not end here comes due again for the sweeper. */
export function drive(house: House, claim: Claim, nothingMade = false): Promise<LeaseState> {
  const outcome = revoke(house, claim, nothingMade)
  house.background.run('revoke', outcome)
  return outcome
}

/**
 * The mirrored path, for one closing lease: revoke upstream, settle. What the upstream does is never thrown: a failure is written down
 * with the lease, which stays `closing` and comes due again.
 * @returns the state that the lease is in now
 * @throws MayflyError only when the ledger cannot be reached
 */
export async function revoke(house: House, { lease, attempt, until }: Claim, nothingMade = false): Promise<LeaseState> {
  const settle = async (outcome: SettleOutcome, type: EventType): Promise<LeaseState> => {
    // Of what was found upstream nobody may know more than the provider.
    const about = { task: lease.task || undefined, lease: lease.id, role: lease.role || undefined, provider: lease.provider, cause: lease.cause }
    const { state, here } = await house.ledger.settle({ lease: lease.id, attempt }, outcome, event(type, undefined, undefined, about))
    if (here && state === 'revoked') countRevoked(house, lease)
    return state
  }
  const upstream = house.upstreams.get(lease.provider)
  if (!upstream) return settle({ result: 'failed', error: `provider "${lease.provider}" is not configured` }, 'lease.stuck')
  const unverifiable = lease.toBeVerified ? 'unverifiable' : undefined
  if (nothingMade && upstream.provider.handle === 'returned') return settle({ result: 'revoked', verified: unverifiable }, 'lease.revoked')
  if (upstream.provider.revocation === 'at-expiry') return settle({ result: 'awaits_expiry' }, 'lease.closing')

  const stillMine = () => house.ledger.now() + upstream.timeoutMs + CLAIM_MARGIN_MS < until
  const started = performance.now()
  const result = await upstream.revoke(lease, stillMine).catch((error: unknown) => messageOf(house, lease, attempt, error))
  const outcome = typeof result === 'string' ? result : 'failed'
  house.metrics.revokeSeconds.observe({ provider: upstream.name, outcome }, (performance.now() - started) / 1000)

  if (typeof result !== 'string') return settle({ result: 'failed', error: result.failed }, 'lease.stuck')
  if (result === 'unknown') return settle({ result: 'awaits_expiry' }, 'lease.closing')
  if (result === 'lost') return 'closing'
  if (!lease.toBeVerified) return settle({ result }, 'lease.revoked')

  const found = await verified(house, upstream, { lease, attempt, until }, stillMine)
  if (found === 'lost') return 'closing'
  if (found === 'alive') return settle({ result: 'alive', error: 'the revoke was confirmed, and the upstream still takes it' }, 'lease.alive')
  return found === 'unknown'
    ? settle({ result: 'failed', error: 'the revoke was confirmed, and the upstream did not say whether it is dead' }, 'lease.stuck')
    : settle({ result, verified: found }, 'lease.revoked')
}

/** What the upstream says of a credential that it says it took back. `unknown`: it did not answer, and is asked again. */
async function verified(
  house: House,
  upstream: Upstream,
  { lease, attempt }: Claim,
  stillMine: () => boolean,
): Promise<Verified | 'alive' | 'lost' | 'unknown'> {
  const asked = await upstream.confirm(lease, stillMine).catch((error: unknown) => messageOf(house, lease, attempt, error))
  const unanswered = attempt >= MOST_QUESTIONS ? 'unanswered' : 'unknown'
  const found = typeof asked === 'object' ? unanswered : (asked ?? 'unverifiable')
  if (found === 'lost') return found
  const mayStill = found === 'alive' && house.ledger.now() < (lease.closedAt ?? 0) + lease.residualSeconds * 1000
  house.metrics.verified.inc({ provider: upstream.name, outcome: mayStill ? 'not_yet' : found })
  if (found === 'alive' && !mayStill)
    house.log.error({ lease: lease.id, provider: upstream.name, attempt }, 'a credential is alive after its confirmed revoke')
  return found
}

function countRevoked(house: House, lease: Lease): void {
  house.metrics.revoked.inc({ provider: lease.provider, outcome: 'revoked', cause: lease.cause ?? 'expired' })
  if (lease.cause === 'orphan') house.metrics.orphans.inc({ provider: lease.provider, outcome: 'revoked' })
  if (lease.closedAt === undefined) return
  house.metrics.timeToDead.observe({ provider: lease.provider }, (house.ledger.now() - lease.closedAt) / 1000)
}

/** A provider's own words hold no secret, by its contract; a stranger's are not repeated. */
function messageOf(house: House, lease: Lease, attempt: number, error: unknown): { failed: string } {
  const failed = error instanceof Error && (error.name === 'ProviderError' || error instanceof MayflyError) ? error.message : 'unexpected failure'
  house.metrics.revokeFailures.inc({ provider: lease.provider })
  house.log.warn({ lease: lease.id, provider: lease.provider, attempt, error: failed }, 'a revoke failed and will be repeated')
  return { failed }
}
