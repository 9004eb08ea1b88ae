import type { Evidence } from '../evidence.js'
import { timeOf, type Violation } from './violation.js'

/**
 * What still works after everything has ended, was acknowledged and had time to settle. A token that nobody can take back is live once its
 * own expiry has passed.
 */
export function findLive({ trials, held, ledger }: Evidence): Violation[] {
  const last = new Map(trials.filter((trial) => trial.last).map((trial) => [trial.lease, trial]))
  return held.flatMap((credential): Violation[] => {
    const { lease: id, provider, task } = credential
    const trial = last.get(id)
    const lease = ledger.leases[id]
    const about = `of ${provider}, task ${task}, lease ${lease?.state ?? 'unknown'}, closed ${timeOf(lease?.closedAt)} because ${lease?.cause}`
    if (!trial || trial.result === 'unknown') return [{ kind: 'live', what: 'a credential could not be tried at the end', id, detail: about }]
    if (trial.result === 'refused') return []
    if (lease?.revocation === 'at-expiry' && lease.expiresAt > trial.from) return []
    return [{ kind: 'live', what: 'a credential works after its task has ended', id, detail: about }]
  })
}
