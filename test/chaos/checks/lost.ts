import type { Evidence, Told } from '../evidence.js'
import type { Operation } from '../history.js'
import type { Violation } from './violation.js'

/** What was acknowledged, or is in the ledger, and the other record does not know: ledger and events tell the same story, and all of it. */
export function findLost(evidence: Evidence): Violation[] {
  const index = indexOf(evidence.events)
  return [
    ...evidence.operations.filter(({ outcome }) => outcome !== 'unknown').flatMap((operation) => lostOf(operation, evidence, index)),
    ...lostInLedger(evidence, index),
    ...lostOnTheWay(evidence),
  ]
}

interface Index {
  has(type: string, id: string | undefined): boolean
  readonly ids: ReadonlySet<string>
}

function indexOf(events: readonly Told[]): Index {
  const seen = new Set<string>()
  for (const { type, task, lease, request, detail } of events) {
    for (const id of [lease, request?.id, type.startsWith('task.') ? task : undefined]) if (id !== undefined) seen.add(`${type} ${id}`)
    const revocation = detail?.revocation
    if (typeof revocation === 'string') seen.add(`${type} ${revocation}`)
  }
  return { has: (type, id) => seen.has(`${type} ${id}`), ids: new Set(events.map(({ id }) => id)) }
}

/** Of one answer: what it said is in the ledger, and told. */
function lostOf(operation: Operation, { ledger }: Evidence, index: Index): Violation[] {
  const { kind, about, answer, request, event, id: number } = operation
  const lost = (what: string, id: string | undefined): Violation => ({ kind: 'lost', what, id: id ?? '', detail: `answer ${number}` })
  const untold = (type: string, id: string | undefined) =>
    index.has(type, request) ? [] : [lost(`an acknowledged ${kind} without its event ${type}`, id)]
  // A refusal points at the event that has the detail.
  if (event !== undefined && !index.ids.has(event)) return [lost(`a refusal (${operation.code}) whose event is nowhere`, event)]
  if (operation.outcome !== 'ok' || !answer) return []
  const task = answer.task ?? about.task
  const found: Violation[] = []
  if (task !== undefined && !ledger.tasks[task]) found.push(lost(`a task of an acknowledged ${kind} that the ledger does not have`, task))
  switch (kind) {
    case 'open':
    case 'child':
      if (operation.status === 201) found.push(...untold('task.opened', task))
      break
    case 'obtain':
    case 'obtain-again':
      if (!answer.lease) break
      if (!ledger.leases[answer.lease.id]) found.push(lost('an issued lease that the ledger does not have', answer.lease.id))
      found.push(...untold('lease.issued', answer.lease.id))
      break
    case 'end':
    case 'end-waiting':
      if (task !== undefined && ledger.tasks[task]?.state === 'active') found.push(lost('an acknowledged end of a task that is active', task))
      if (!index.has('task.ended', task)) found.push(lost('an acknowledged end without its event', task))
      break
    case 'release':
      if (about.lease !== undefined && /[pa]/.test(ledger.leases[about.lease]?.state ?? 'p'))
        found.push(lost('a returned lease that is not closing', about.lease))
      break
    case 'context':
      found.push(...untold('task.changed', task))
      break
    case 'freeze':
    case 'emergency':
      if (answer.freeze !== undefined) found.push(...lostFreeze(answer.freeze, ledger.freezes, lost), ...untold('freeze.set', answer.freeze))
      if (kind === 'emergency') {
        found.push(...untold('revocation.started', answer.revocation))
        if (answer.revocation !== undefined && ledger.revocations[answer.revocation] !== true)
          found.push(lost('an acknowledged emergency that is not finished', answer.revocation))
        if (!index.has('revocation.finished', answer.revocation)) found.push(lost('an emergency whose end was not told', answer.revocation))
      }
      break
  }
  return found
}

function lostFreeze(freeze: string, freezes: Evidence['ledger']['freezes'], lost: (what: string, id: string) => Violation): Violation[] {
  const without = freezes.flatMap((held, partition) => (freeze in held ? [] : [partition]))
  return without.length === 0 ? [] : [lost(`an acknowledged freeze that partitions ${without.join(', ')} do not have`, freeze)]
}

/** What the ledger has and the events do not tell; and what it will never come back to. */
function lostInLedger({ ledger }: Evidence, index: Index): Violation[] {
  const lost = (what: string, id: string, detail?: string): Violation => ({ kind: 'lost', what, id, detail })
  const leases = Object.entries(ledger.leases).flatMap(([id, lease]) => {
    const found: Violation[] = []
    const begun = ['lease.reserved', 'lease.issued'].some((type) => index.has(type, id))
    if (!begun) found.push(lost('a lease whose beginning was not told', id))
    if (lease.state === 'r' && !index.has('lease.revoked', id)) found.push(lost('a revoked lease whose revocation was not told', id))
    if (lease.state === 'e' && !index.has('lease.expired', id)) found.push(lost('an expired lease whose end was not told', id))
    const open = lease.state !== 'r' && lease.state !== 'e'
    if (open && lease.due === undefined) found.push(lost('an unsettled lease with nothing due', id, `${lease.provider}, ${lease.state}`))
    if (open && lease.due !== undefined)
      found.push(
        lost(
          'a lease that did not settle in time',
          id,
          `${lease.provider}, ${lease.state}, ${lease.cause}, due in ${Math.round(lease.due - Date.now())} ms`,
        ),
      )
    return found
  })
  const tasks = Object.entries(ledger.tasks).flatMap(([id, { state }]) => {
    const found: Violation[] = []
    if (!index.has('task.opened', id)) found.push(lost('a task whose opening was not told', id))
    if (state !== 'active' && !index.has('task.ended', id)) found.push(lost('a task whose end was not told', id))
    return found
  })
  return [...leases, ...tasks]
}

/** Between the ledger and the sinks: Redis counts what was ever appended. */
function lostOnTheWay({ ledger, events }: Evidence): Violation[] {
  return ledger.outbox.flatMap(({ added, left }, partition): Violation[] => {
    const written = events.filter((event) => event.partition === partition).length
    if (written + left >= added) return []
    return [
      {
        kind: 'lost',
        what: `${added - left - written} events that no sink has`,
        id: `partition ${partition}`,
        detail: `${added} were appended, ${left} are left`,
      },
    ]
  })
}
