import type { Evidence } from '../evidence.js'
import type { Operation } from '../history.js'
import { covers } from './covers.js'
import { timeOf, type Violation } from './violation.js'

/** Two clocks of one machine, read one after the other. */
const TOLERANCE_MS = 20

/** What was said and is not so: dead what works, over what goes on. */
export function findFalselyReported(evidence: Evidence): Violation[] {
  return [...toldDead(evidence), ...afterTheEnd(evidence), ...whileFrozen(evidence), ...outOfOrder(evidence)]
}

/** "Revoked" of what works, by whichever word of it came first: an answer, an event. */
function toldDead({ operations, events, trials }: Evidence): Violation[] {
  const told = new Map<string, { at: number; by: string }>()
  const say = (lease: string | undefined, at: number, by: string) => {
    if (lease !== undefined && at < (told.get(lease)?.at ?? Number.POSITIVE_INFINITY)) told.set(lease, { at, by })
  }
  for (const { type, lease, stream_id } of events)
    if (type === 'lease.revoked' || type === 'lease.expired') say(lease, Number(stream_id.split('-')[0]), type)
  for (const { answer, until, id } of operations)
    for (const { id: lease, state } of [...(answer?.leases ?? []), ...(answer?.lease ? [answer.lease] : [])])
      if (until !== undefined && (state === 'revoked' || state === 'expired')) say(lease, until, `answer ${id}`)
  return trials.flatMap(({ lease, from, result }): Violation[] => {
    const word = told.get(lease)
    if (result !== 'works' || !word || from <= word.at + TOLERANCE_MS) return []
    const detail = `told by ${word.by} at ${timeOf(word.at)}, worked at ${timeOf(from)}`
    return [{ kind: 'falsely_reported', what: 'a credential that was told as dead works', id: lease, detail }]
  })
}

const GIVES: readonly Operation['kind'][] = ['obtain', 'obtain-again', 'renew', 'child']

/** What began after the answer that said it could not any more. */
function afterTheEnd({ operations, ledger }: Evidence): Violation[] {
  const ended = new Map<string, Operation>()
  for (const operation of operations) {
    const { kind, about, outcome, until } = operation
    if (!kind.startsWith('end') || outcome !== 'ok' || about.task === undefined || until === undefined) continue
    if (until < (ended.get(about.task)?.until ?? Number.POSITIVE_INFINITY)) ended.set(about.task, operation)
  }
  const endOf = (task: string) => [task, ...(ledger.tasks[task]?.ancestors ?? [])].flatMap((one) => ended.get(one) ?? [])
  return operations.flatMap(({ kind, about, from, outcome, answer, id }): Violation[] => {
    const end = about.task === undefined ? undefined : endOf(about.task).find(({ until }) => until !== undefined && until < from)
    if (!end || outcome !== 'ok') return []
    const gave = GIVES.includes(kind) && (kind !== 'obtain' || answer?.lease !== undefined)
    const active = (kind === 'heartbeat' && answer?.state === 'active') || (kind === 'read' && answer?.lease?.state === 'active')
    if (!gave && !active) return []
    const detail = `answer ${id}, begun at ${timeOf(from)}; its task ended with answer ${end.id} at ${timeOf(end.until)}`
    return [
      { kind: 'falsely_reported', what: `${kind} after the end was acknowledged`, id: about.lease ?? answer?.lease?.id ?? about.task ?? '', detail },
    ]
  })
}

/** Issued although a freeze that covers it held everywhere, and nobody had asked to thaw it. */
function whileFrozen({ operations, ledger }: Evidence): Violation[] {
  const freezes = operations.flatMap(({ about, answer, until, outcome }) => {
    if (outcome !== 'ok' || answer?.freeze === undefined || answer.unreachable !== 0 || until === undefined || !about.selector) return []
    const thaws = operations.filter(({ kind, about }) => kind === 'thaw' && about.freeze === answer.freeze)
    return [{ id: answer.freeze, selector: about.selector, from: until, until: Math.min(Number.POSITIVE_INFINITY, ...thaws.map(({ from }) => from)) }]
  })
  return operations.flatMap(({ kind, about, from, until, outcome, answer, id }): Violation[] => {
    if (!kind.startsWith('obtain') || outcome !== 'ok' || !answer?.lease || until === undefined) return []
    const { agent, role, task } = about
    const tasks = task === undefined ? [] : [task, ...(ledger.tasks[task]?.ancestors ?? [])]
    const freeze = freezes.find((one) => one.from < from && until < one.until && covers(one.selector, { agent, role, tasks }))
    if (!freeze) return []
    const detail = `answer ${id}, begun at ${timeOf(from)}; ${freeze.id} held since ${timeOf(freeze.from)}`
    return [{ kind: 'falsely_reported', what: 'issued while a freeze held', id: answer.lease.id, detail }]
  })
}

/** In the ledger's own order: nothing is issued for a task that has ended, or below one. */
function outOfOrder({ events, ledger }: Evidence): Violation[] {
  const ended = new Set<string>()
  return events.flatMap(({ type, task, lease, stream_id }): Violation[] => {
    if (task === undefined) return []
    if (type === 'task.ended') ended.add(task)
    if (type !== 'lease.issued' && type !== 'lease.reserved') return []
    const over = [task, ...(ledger.tasks[task]?.ancestors ?? [])].find((one) => ended.has(one))
    return over === undefined
      ? []
      : [{ kind: 'falsely_reported', what: `${type} after task.ended`, id: lease ?? '', detail: `task ${over}, at ${stream_id}` }]
  })
}
