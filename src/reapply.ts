import pLimit from 'p-limit'
import type { Reader, Recorded } from './audit/history.js'
import { event } from './event.js'
import type { House } from './house.js'
import { drive } from './revoke.js'
import type { Cause, Event, Freeze, QuarantineReport, TaskEnd } from './types.js'

/** What a log says that a ledger which went backwards may have forgotten. What was settled is forgotten here on the way. */
export interface Forgotten {
  /** By id: the last that is told of each. */
  readonly freezes: ReadonlyMap<string, { readonly frozen: boolean; readonly emergency: boolean; readonly freeze: Freeze }>
  readonly ended: ReadonlyMap<string, { readonly state: TaskEnd; readonly cause: Cause }>
  /** Taken back, or about to be. */
  readonly closed: ReadonlyMap<string, Cause>
  readonly renewed: ReadonlyMap<string, number>
  /** Issued since, and not settled by the end. */
  readonly issued: ReadonlyMap<string, IssuedSince>
  /** Emergencies without a freeze that were not finished. */
  readonly revocations: ReadonlyMap<string, { readonly selector: Freeze['selector']; readonly reason: string; readonly by: string }>
}
interface IssuedSince {
  readonly provider: string
  readonly role: string
  readonly until?: number
}

const TYPES =
  /"type":"(?:task\.ended|lease\.(?:reserved|issued|renewed|closing|revoked|expired)|freeze\.(?:set|thawed)|revocation\.(?:started|finished))"/
const AT = '"at":"'

/** Reads what was told from `since` on. */
export function forgottenSince(since: number): Reader & { readonly forgotten: Forgotten } {
  const first = new Date(since).toISOString()
  const freezes = new Map<string, { frozen: boolean; emergency: boolean; freeze: Freeze }>()
  const ended = new Map<string, { state: TaskEnd; cause: Cause }>()
  const closed = new Map<string, Cause>()
  const renewed = new Map<string, number>()
  const issued = new Map<string, IssuedSince>()
  const revocations = new Map<string, { selector: Freeze['selector']; reason: string; by: string }>()

  /** Freezes with which an emergency began; their own event may come from a broker that found no more than the freeze. */
  const begun = new Set<string>()
  const freeze = ({ at, event: { type, principal, detail = {} } }: Recorded): void => {
    const {
      freeze: id,
      generation,
      selector,
      reason = '',
      kind,
      by = principal?.id ?? '',
      emergency = begun.has(id ?? ''),
    } = detail as Partial<Freeze> & { freeze?: string; emergency?: boolean }
    if (id === undefined || generation === undefined || selector === undefined) return
    const before = freezes.get(id)
    if (before && before.freeze.generation >= generation) return
    // The event of a thaw tells why it was thawed; what is kept of a freeze is why it was set.
    const told = before ? before.freeze : { id, kind, selector, reason, by, at, generation }
    freezes.set(id, { frozen: type === 'freeze.set', emergency: before?.emergency ?? emergency, freeze: { ...told, generation } })
  }
  const start = ({ principal, detail = {} }: Event): void => {
    const { revocation, freeze: goesWith, selector, reason = '' } = detail as Partial<Freeze> & { revocation?: string; freeze?: string }
    if (goesWith !== undefined) {
      begun.add(goesWith)
      const frozen = freezes.get(goesWith)
      if (frozen) freezes.set(goesWith, { ...frozen, emergency: true })
    }
    if (revocation !== undefined && goesWith === undefined && selector) revocations.set(revocation, { selector, reason, by: principal?.id ?? '' })
  }
  const read: Record<string, (recorded: Recorded, lease: string) => void> = {
    'task.ended': ({ event: { task = '', cause = 'task_revoked', detail } }) => {
      const { state = 'revoked' } = (detail ?? {}) as { state?: TaskEnd }
      ended.set(task, { state, cause })
    },
    'lease.reserved': ({ event }, lease) => issued.set(lease, issuedIn(event)),
    'lease.issued': ({ event }, lease) => issued.set(lease, issuedIn(event)),
    'lease.renewed': ({ event }, lease) => {
      const { expires_at: until } = (event.detail ?? {}) as { expires_at?: number }
      if (until === undefined) return
      renewed.set(lease, until)
      const before = issued.get(lease)
      if (before) issued.set(lease, { ...before, until: Math.max(until, before.until ?? 0) })
    },
    'lease.closing': ({ event }, lease) => closed.set(lease, event.cause ?? 'expired'),
    'lease.revoked': ({ event }, lease) => settle(lease, event),
    'lease.expired': ({ event }, lease) => settle(lease, event),
    'freeze.set': freeze,
    'freeze.thawed': freeze,
    'revocation.started': ({ event }) => start(event),
    'revocation.finished': ({ event: { detail = {} } }) => revocations.delete(String(detail.revocation)),
  }
  function settle(lease: string, { cause = 'expired' }: Event): void {
    closed.set(lease, cause)
    issued.delete(lease)
    renewed.delete(lease)
  }
  return {
    fits: (line) => {
      const at = line.indexOf(AT) + AT.length
      return line.slice(at, at + first.length) >= first && TYPES.test(line)
    },
    read: (recorded) => read[recorded.event.type]?.(recorded, recorded.event.lease ?? ''),
    forgotten: { freezes, ended, closed, renewed, issued, revocations },
  }
}

/** Transitions that are asked for at once. */
const AT_ONCE = 32
const MOST_EXAMPLES = 100

type Reapplied = Pick<QuarantineReport, 'applied' | 'unknown' | 'examples'>

/** Does again what the ledger has forgotten; what it knows already stays as it is. Only what narrows, and how long a lease really lasts. */
export async function reapply(house: House, { freezes, ended, closed, renewed, issued, revocations }: Forgotten): Promise<Reapplied> {
  const { ledger } = house
  const applied = { ended: 0, frozen: 0, thawed: 0, closed: 0, extended: 0, revocations: 0 }
  const limit = pLimit(AT_ONCE)
  const each = async <K, V>(all: ReadonlyMap<K, V>, act: (key: K, value: V) => Promise<void>): Promise<void> => {
    await Promise.all([...all].map(([key, value]) => limit(act, key, value)))
  }
  const again = { detail: { reapplied: true } }

  await each(freezes, async (_, { frozen, freeze }) => {
    await ledger.restoreFreeze(frozen, freeze)
    applied[frozen ? 'frozen' : 'thawed']++
  })
  await each(ended, async (task, { state, cause }) => {
    const end = await ledger.endTask(
      task,
      { state, cause, reason: 'told by the audit log' },
      event('task.ended', undefined, undefined, { task, cause, ...again }),
    )
    if (!end.ok) return
    for (const claim of end.claims) void drive(house, claim)
    if (end.first) applied.ended++
  })
  await each(closed, async (lease, cause) => {
    const known = await ledger.lease(lease)
    if (known?.state !== 'pending' && known?.state !== 'active') return
    const { task, role, provider } = known
    await ledger.close(lease, cause, event('lease.closing', undefined, undefined, { task, lease, role, provider, cause, ...again }), { left: true })
    applied.closed++
  })
  await each(renewed, async (lease, until) => {
    if (await ledger.restoreExpiry(lease, until)) applied.extended++
  })
  const emergencies = [...freezes.values()].flatMap(({ frozen, emergency, freeze: { id, selector, reason, by } }) =>
    frozen && emergency ? [{ selector, reason, by, freeze: id }] : [],
  )
  for (const ask of [...emergencies, ...[...revocations].map(([id, one]) => ({ ...one, id }))]) {
    if (await ledger.revocation('freeze' in ask ? ask.freeze : ask.id)) continue
    const { selector, reason } = ask
    // Whoever sweeps carries it on.
    await ledger.openRevocation(ask, event('revocation.started', undefined, undefined, { detail: { selector, reason, reapplied: true } }))
    applied.revocations++
  }

  const unknown = new Map<string, { provider: string; leases: number; until?: number }>()
  const examples: { lease: string; provider: string; role: string; until?: number }[] = []
  await each(issued, async (lease, { provider, role, until }) => {
    if (await ledger.lease(lease)) return
    const before = unknown.get(provider)
    unknown.set(provider, { provider, leases: (before?.leases ?? 0) + 1, until: latest(before?.until, until) })
    if (examples.length < MOST_EXAMPLES) examples.push({ lease, provider, role, until })
  })
  return { applied, unknown: [...unknown.values()], examples }
}

function latest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.max(a, b)
}

function issuedIn({ provider = '', role = '', detail }: Event): IssuedSince {
  const { expires_at: expires, usable_until: usable } = (detail ?? {}) as { expires_at?: number; usable_until?: number }
  return { provider, role, until: latest(expires, usable) }
}
