import type { Evidence } from '../evidence.js'
import { covers } from './covers.js'
import { timeOf, type Violation } from './violation.js'

/** Of an expiry: what sweeps looks once a second, and waits for clocks that are off. */
const EXPIRY_MARGIN_MS = 10_000

type Held = Evidence['held'][number]

export function findLive(evidence: Evidence): Violation[] {
  return [...findSurvivors(evidence), ...findLast(evidence)]
}

/**
 * What still works after everything has ended, was acknowledged and had time to settle. A token that nobody can take back is live once its
 * own expiry has passed.
 */
function findLast({ trials, held, ledger }: Evidence): Violation[] {
  const last = new Map(trials.filter(({ phase }) => phase === 'last').map((trial) => [trial.lease, trial]))
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

/** What worked when nothing was broken any more and what was closing had settled, with other work still open: it had a reason to be dead by then. */
function findSurvivors(evidence: Evidence): Violation[] {
  const held = new Map(evidence.held.map((credential) => [credential.lease, credential]))
  return evidence.trials.flatMap(({ phase, result, lease: id, from }): Violation[] => {
    const credential = held.get(id)
    if (phase !== 'mended' || result !== 'works' || !credential) return []
    const why = reasonOf(evidence, credential, from)
    return why === undefined
      ? []
      : [{ kind: 'live', what: `a credential works after ${why}`, id, detail: `of ${credential.provider}, tried at ${timeOf(from)}` }]
  })
}

function reasonOf({ operations, ledger }: Evidence, { lease: id, agent, role, task, receivedAt }: Held, at: number): string | undefined {
  const lease = ledger.leases[id]
  if (lease && lease.expiresAt + EXPIRY_MARGIN_MS < at) return `its expiry at ${timeOf(lease.expiresAt)}`
  if (lease?.revocation === 'at-expiry') return undefined
  const tasks = [task, ...(ledger.tasks[task]?.ancestors ?? [])]
  const reason = operations.find(({ kind, about, answer, outcome, from, until }) => {
    if (outcome !== 'ok' || until === undefined || until >= at) return false
    if (kind.startsWith('end')) return about.task !== undefined && tasks.includes(about.task)
    if (kind === 'release') return about.lease === id
    return (
      kind === 'emergency' &&
      answer?.revocation !== undefined &&
      about.selector !== undefined &&
      receivedAt < from &&
      covers(about.selector, { agent, role, tasks })
    )
  })
  return reason && `the ${reason.kind} of answer ${reason.id}`
}
