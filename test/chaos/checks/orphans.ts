import type { Evidence } from '../evidence.js'
import type { Violation } from './violation.js'

/** What exists upstream and no unsettled lease accounts for, whether anybody ever saw the credential or not. */
export function findOrphans({ upstream, ledger }: Evidence): Violation[] {
  return upstream.flatMap(({ provider, lease: id }): Violation[] => {
    const lease = ledger.leases[id]
    if (lease && lease.state !== 'r' && lease.state !== 'e') return []
    return [
      {
        kind: 'orphans',
        what: `an object at ${provider} without a lease`,
        id,
        detail: lease ? `its lease is settled (${lease.state})` : 'no such lease',
      },
    ]
  })
}
