import { freezesOf, type Standing, standingOf } from './agents.js'
import type { Extent, Reader, Recorded } from './audit/history.js'
import type { Access, Event, Freeze, Scope, Sensitivity } from './types.js'

/** Of one agent, what is kept in mind while its record is read. */
const MOST = 5_000

/** What an agent could touch at a time, as far as the record tells. */
export interface ReachThen {
  readonly standing: Standing
  readonly own: readonly GrantThen[]
  readonly handedOn: readonly GrantThen[]
  readonly leases: readonly LeaseThen[]
  /** Why there may have been more. */
  readonly gaps: readonly string[]
}
export interface GrantThen {
  readonly task: string
  readonly agent: string
  readonly through: readonly string[]
  readonly entry: EntryThen
  readonly role?: RoleThen
  readonly holds: number
  readonly until: number
}
/** As it was when a lease of it was issued: absent where none was. */
export interface RoleThen {
  readonly provider: string
  readonly access?: Access
  readonly sensitivity?: Sensitivity
}
export interface LeaseThen extends RoleThen {
  readonly id: string
  readonly task: string
  readonly agent: string
  readonly through: readonly string[]
  readonly role: string
  readonly state: 'pending' | 'active' | 'closing'
  readonly issuedAt: number
  readonly expiresAt?: number
  readonly scope?: Scope
}
/** As its event has it. */
interface EntryThen {
  readonly role: string
  readonly scope?: Scope
  readonly max_ttl?: number
}
/** How far the record goes that was read, and how long a task may have lived. */
interface Answered {
  readonly extent: Extent
  readonly elsewhere: number
  readonly partitions: number
  readonly longestTaskSeconds: number
}
interface TaskThen {
  readonly id: string
  readonly opener?: string
  readonly workers: readonly string[]
  readonly chain: readonly string[]
  readonly envelope: readonly EntryThen[]
  readonly deadlineAt: number
}

/**
 * Rebuilds, from the events up to a time, what one agent held then and could obtain for its tasks, itself or through whom it handed work on to.
 * What was settled or had ended by then is forgotten on the way, so that a record of any length takes the memory of what lived at once.
 */
export function reachThen(agent: string, at: number): Reader & { answer(about: Answered): ReachThen } {
  const named = JSON.stringify(agent)
  const tasks = new Map<string, TaskThen>()
  const leases = new Map<string, LeaseThen>()
  const roles = new Map<string, RoleThen>()
  const freezes = new Map<string, Freeze>()
  let tooMany = false
  let untold = 0

  const open = ({ event }: Recorded): void => {
    const { task: id, principal, chain = [], detail = {} } = event
    const { assignees, envelope, deadline_at: deadlineAt } = detail as { assignees?: { agent: string }[]; envelope?: unknown; deadline_at?: number }
    const opener = principal?.kind === 'agent' ? principal.id : undefined
    if (id === undefined) return
    const workers = [...new Set((assignees ?? []).map((one) => one.agent))]
    if (!workers.includes(agent) && !chain.includes(agent) && opener !== agent) return
    if (!Array.isArray(envelope) || deadlineAt === undefined) untold++
    else keep(tasks, id, { id, opener, workers, chain, envelope: envelope as EntryThen[], deadlineAt })
  }
  const issue = ({ at: time, event }: Recorded, state: 'pending' | 'active'): void => {
    const { lease: id, task, role, provider, principal, chain = [] } = event
    if (id === undefined || task === undefined || role === undefined || provider === undefined || principal?.kind !== 'agent') return
    const kind = { provider, ...kindOf(event) }
    const before = leases.get(id)
    if (kind.access !== undefined) roles.set(role, kind)
    // Itself is the last of the chain.
    const through = chain.slice(0, -1)
    if (principal.id !== agent && !through.includes(agent)) return
    const { scope } = inputOf(event).context ?? {}
    const times = { issuedAt: before?.issuedAt ?? time, expiresAt: expiryOf(event) ?? before?.expiresAt }
    keep(leases, id, { ...roles.get(role), ...kind, id, task, agent: principal.id, through, role, state, ...times, scope })
  }
  function keep<T>(into: Map<string, T>, id: string, it: T): void {
    if (into.size >= MOST && !into.has(id)) tooMany = true
    else into.set(id, it)
  }
  const change = ({ lease: id }: Event, by: Partial<LeaseThen>): void => {
    const lease = id === undefined ? undefined : leases.get(id)
    if (lease) leases.set(lease.id, { ...lease, ...by })
  }

  return {
    fits: (line) => line.includes(named) || line.includes('"freeze.') || [leases, tasks].some((known) => isAbout(line, known)),
    read: (recorded) => {
      const { event } = recorded
      if (recorded.at > at) return
      if (event.type === 'task.opened') open(recorded)
      else if (event.type === 'task.ended') tasks.delete(event.task ?? '')
      else if (event.type === 'lease.reserved') issue(recorded, 'pending')
      else if (event.type === 'lease.issued') issue(recorded, 'active')
      else if (event.type === 'lease.renewed') change(event, { expiresAt: expiryOf(event) })
      else if (event.type === 'lease.closing') change(event, { state: 'closing' })
      else if (event.type === 'lease.revoked' || event.type === 'lease.expired') leases.delete(event.lease ?? '')
      else if (event.type === 'freeze.set' || event.type === 'freeze.thawed') stop(freezes, event, recorded.at)
    },
    answer: (about) => {
      const lived = [...tasks.values()].filter(({ deadlineAt }) => deadlineAt > at)
      const grants = lived.flatMap((task) => grantsOf(task, [...leases.values()], roles))
      const own = grants.filter((grant) => grant.agent === agent)
      const handedOn = grants
        .filter((grant) => grant.agent !== agent && (grant.through.includes(agent) || tasks.get(grant.task)?.opener === agent))
        .map((grant) => ({ ...grant, through: grant.through.slice(grant.through.indexOf(agent) + 1) }))
      const gaps = gapsOf(about, at)
      if (tooMany) gaps.push(`more than ${MOST} of its tasks or leases lived at once: some are not here`)
      if (untold > 0) gaps.push(`what ${untold} of its tasks let it obtain was not recorded: they were opened by an earlier version`)
      return { standing: standingOf(freezesOf([...freezes.values()], agent)), own, handedOn, leases: [...leases.values()], gaps }
    },
  }
}

/** The record of one place: it says of itself how far it goes. */
function gapsOf({ extent: { files, from, unreadable, complete }, elsewhere, partitions, longestTaskSeconds }: Answered, at: number): string[] {
  const gaps: string[] = []
  if (files === 0 || from === undefined) return ['there is no record']
  if (at < from) gaps.push(`the record begins at ${new Date(from).toISOString()}, after the time that was asked about`)
  else if (at - longestTaskSeconds * 1000 < from)
    gaps.push(`the record begins at ${new Date(from).toISOString()}: what was opened or issued before and lived on is not in it`)
  if (!complete) gaps.push('the record is longer than could be read in time: its end is missing')
  if (unreadable > 0) gaps.push(`${unreadable} lines of the record cannot be read`)
  if (elsewhere > 0) gaps.push(`the events of ${elsewhere} of ${partitions} partitions are written elsewhere now: ask the other brokers too`)
  return gaps
}

const ID_LENGTH = 'lease_00'.length + 26
/** Whether a line is about something known: most lines are about something else, and are told apart without being parsed. */
function isAbout(line: string, known: ReadonlyMap<string, { readonly id: string }>): boolean {
  if (known.size === 0) return false
  return ['"task":"', '"lease":"'].some((field) => {
    const found = line.indexOf(field)
    if (found < 0) return false
    const start = found + field.length
    return known.has(line.slice(start, line.indexOf('"', start)).slice(0, ID_LENGTH))
  })
}

function grantsOf({ id, workers, chain, envelope, deadlineAt }: TaskThen, leases: readonly LeaseThen[], roles: ReadonlyMap<string, RoleThen>) {
  return workers.flatMap((worker) =>
    envelope.map((entry): GrantThen => {
      const holds = leases.filter((lease) => lease.task === id && lease.agent === worker && lease.role === entry.role).length
      return { task: id, agent: worker, through: chain, entry, role: roles.get(entry.role), holds, until: deadlineAt }
    }),
  )
}

/** An event says which freeze it is of; one that does not, what it covers: then a thaw takes the last of the same away. */
function stop(freezes: Map<string, Freeze>, { type, principal, detail = {} }: Event, at: number): void {
  const { freeze, selector, kind, reason = '', by = principal?.id ?? '' } = detail as Partial<Freeze> & { freeze?: string }
  if (!selector) return
  const id = freeze ?? JSON.stringify([selector, kind ?? null])
  if (type === 'freeze.thawed') freezes.delete(id)
  else freezes.set(id, { id, kind, selector, generation: at, reason, by, at })
}

interface Input {
  readonly action?: Access
  readonly role?: { readonly sensitivity?: Sensitivity }
  readonly context?: { readonly scope?: Scope }
}
function inputOf({ detail }: Event): Input {
  return (detail?.input ?? {}) as Input
}
function kindOf(event: Event): Pick<RoleThen, 'access' | 'sensitivity'> {
  const { action, role } = inputOf(event)
  return action === undefined ? {} : { access: action, sensitivity: role?.sensitivity }
}
function expiryOf({ detail }: Event): number | undefined {
  const { expires_at: at } = (detail ?? {}) as { expires_at?: number }
  return at
}
