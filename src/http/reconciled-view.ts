import type * as api from '../api.js'
import type { Reconciled, ReconciledProvider } from '../reconcile.js'
import { timeView } from './view.js'

/** Of each list, what an answer names. */
const MOST = 1_000

export function reconciledView({ startedAt, finishedAt, providers }: Reconciled): api.ReconciliationAnswer {
  return { started_at: timeView(startedAt), finished_at: timeView(finishedAt), providers: providers.map(providerView) }
}

function providerView(one: ReconciledProvider): api.ReconciliationAnswer['providers'][number] {
  const { provider, outcome, listed, known, seen, foreign, orphans, missing, held, usableUntil, error } = one
  return {
    ...{ provider, outcome, listed, known, held, error },
    seen: seen.slice(0, MOST),
    orphans: orphans.slice(0, MOST).map(({ lease, expiresAt, outcome: became }) => ({ lease, expires_at: endOf(expiresAt), outcome: became })),
    orphans_total: orphans.length,
    missing: missing?.slice(0, MOST),
    missing_total: missing?.length,
    foreign: [...foreign],
    usable_until: endOf(usableUntil),
  }
}

/** What an upstream says of an end may be no time at all. */
function endOf(at: number | undefined): string | undefined {
  return at === undefined || Number.isNaN(new Date(at).getTime()) ? undefined : timeView(at)
}
