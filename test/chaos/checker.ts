import { findFalselyReported } from './checks/falsely-reported.js'
import { findLive } from './checks/live.js'
import { findLost } from './checks/lost.js'
import { findOrphans } from './checks/orphans.js'
import { KINDS, type Violation } from './checks/violation.js'
import type { Evidence } from './evidence.js'

export interface Totals {
  /** Leases known: those that somebody received, and those that the ledger has. */
  readonly issued: number
  readonly live: number
  readonly orphans: number
  readonly lost: number
  readonly falsely_reported: number
}
export interface Verdict {
  readonly totals: Totals
  readonly violations: readonly Violation[]
  /** What is worth a look and breaks no promise. */
  readonly notes: readonly string[]
}

/** Compares what everybody was told, what the ledger and the events say, and what works. Reads nothing but its argument. */
export function check(evidence: Evidence): Verdict {
  const violations = [
    ...findLive(evidence),
    ...findOrphans(evidence),
    ...findLost(evidence),
    ...findFalselyReported(evidence),
    ...evidence.crashes.map((what): Violation => ({ kind: 'crashed', what, id: '' })),
  ]
  const issued = new Set([...evidence.held.map(({ lease }) => lease), ...Object.keys(evidence.ledger.leases)]).size
  const [live = 0, orphans = 0, lost = 0, falsely_reported = 0] = KINDS.map((kind) => violations.filter((one) => one.kind === kind).length)
  return { totals: { issued, live, orphans, lost, falsely_reported }, violations, notes: notesOf(evidence) }
}

/** Tokens tell their expiry in whole seconds. */
const SECOND_MS = 1_000

/** Credentials that died before anybody closed them: the upstream forgot them, or somebody else took them back. */
function notesOf({ trials, ledger, operations }: Evidence): string[] {
  const early = trials.flatMap(({ lease: id, until, result }) => {
    const lease = ledger.leases[id]
    const over = Math.min(lease?.closedAt ?? Number.POSITIVE_INFINITY, lease?.expiresAt ?? Number.POSITIVE_INFINITY)
    return result === 'refused' && lease && over > until + SECOND_MS ? [`${id} of ${lease.provider} was refused before it was closed`] : []
  })
  const partly = operations.flatMap(({ answer }) =>
    answer?.unreachable ? [`${answer.freeze} held nowhere in ${answer.unreachable} partitions at first`] : [],
  )
  return [...early, ...partly]
}
