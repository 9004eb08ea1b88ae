import { createHash } from 'node:crypto'
import type { House } from './house.js'
import type { EmergencyRevocation, RevocationLease } from './types.js'

/** Explicit typing (RFC 8725 §3.11): it is no token, and nobody takes it for one. */
export const REPORT_TYPE = 'mayfly-revocation+jwt'
export const NOT_SIGNED = 'this broker has no "signing" configured: nobody vouches for these lines'

/** What signs, as far as a report needs it. */
export interface ReportSigner {
  sign(claims: Readonly<Record<string, unknown>>, header: { typ: string }): Promise<string>
}

/**
 * What became of every lease that a revocation matched, line by line (NDJSON): one for each lease, in an order that stays, and a last one with the
 * JWS over the totals and the SHA-256 of all lines before it, line breaks included. However many leases there are, no more than a page of them is
 * held. A text without its last line was cut off, and is no report.
 * @param revocation as it was before the first lease is read: what was finished then does not change any more
 */
export async function* revocationReport(
  house: Pick<House, 'ledger' | 'instance'>,
  signer: ReportSigner | undefined,
  revocation: EmergencyRevocation,
): AsyncGenerator<string> {
  const digest = createHash('sha256')
  const totals = new Totals()
  for (let from: string | undefined, more = true; more; more = from !== undefined) {
    const page = await house.ledger.revocationLeases(revocation.id, from)
    from = page.next
    if (page.leases.length === 0) continue
    for (const lease of page.leases) totals.add(lease)
    const lines = page.leases.map(lineOf).join('')
    digest.update(lines)
    yield lines
  }
  const claims = {
    iat: Math.floor(house.ledger.now() / 1000),
    revocation: revocation.id,
    instance: house.instance,
    state: revocation.state,
    selector: revocation.selector,
    reason: revocation.reason,
    by: revocation.by,
    freeze: revocation.freeze,
    verify: revocation.verify,
    started_at: time(revocation.startedAt),
    finished_at: revocation.finishedAt === undefined ? undefined : time(revocation.finishedAt),
    ...totals.claims(),
    lines_sha256: digest.digest('hex'),
  }
  yield `${JSON.stringify(signer ? { jws: await signer.sign(claims, { typ: REPORT_TYPE }) } : { unsigned: NOT_SIGNED, report: claims })}\n`
}

type Outcome = RevocationLease['outcome']
type Word = NonNullable<RevocationLease['verified']> | 'not_asked'

/** State: what the lines so far add up to. */
class Totals {
  private readonly outcomes: Record<Outcome, number> = { revoked: 0, expired: 0, awaits_expiry: 0, pending: 0 }
  private readonly verified: Record<Word, number> = { dead: 0, unverifiable: 0, unanswered: 0, alive: 0, not_asked: 0 }
  private usableUntil = 0
  private endless = false

  add({ outcome, verified, usableUntil }: RevocationLease): void {
    this.outcomes[outcome]++
    this.verified[verified ?? 'not_asked']++
    if (outcome === 'revoked' || outcome === 'expired') return
    this.usableUntil = Math.max(this.usableUntil, usableUntil ?? 0)
    this.endless ||= usableUntil === undefined
  }

  /** `usable_until`: of what has not ended; null where some of it does not end by itself. */
  claims() {
    const leases = Object.values(this.outcomes).reduce((sum, count) => sum + count, 0)
    const until = this.endless ? null : this.usableUntil > 0 ? time(this.usableUntil) : undefined
    return { leases, outcomes: this.outcomes, verified: this.verified, usable_until: until }
  }
}

function lineOf({ lease, task, agent, role, provider, outcome, at, usableUntil, attempts, lastError, verified }: RevocationLease): string {
  const end = { outcome, at: at === undefined ? undefined : time(at), usable_until: usableUntil === undefined ? undefined : time(usableUntil) }
  return `${JSON.stringify({ lease, task, agent, role, provider, ...end, verified: verified ?? 'not_asked', attempts, last_error: lastError })}\n`
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}
