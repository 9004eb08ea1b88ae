import type * as api from '../api.js'
import { MayflyError } from '../errors.js'
import type { House } from '../house.js'
import type { Grant } from '../reach.js'
import { type GrantThen, type LeaseThen, reachThen } from '../reach-then.js'
import type { Scope } from '../types.js'
import type { Around } from './surroundings.js'
import { scopeView, timeView } from './view.js'

/** A line of an envelope, as the ledger has it or as it was recorded. */
interface Line {
  readonly task: string
  readonly agent: string
  readonly through: readonly string[]
  readonly name: string
  readonly scope?: Scope
  readonly maxTtlSeconds?: number
  readonly role?: Grant['role'] | GrantThen['role']
  readonly holds: number
  readonly until: number
}

export function grantOf({ task, entry, ...grant }: Grant): Line {
  return { ...grant, task: task.id, name: entry.role, scope: entry.scope, maxTtlSeconds: entry.maxTtlSeconds, until: task.deadlineAt }
}

function grantThenOf({ entry, ...grant }: GrantThen): Line {
  return { ...grant, name: entry.role, scope: entry.scope, maxTtlSeconds: entry.max_ttl }
}

export function grantsView(own: readonly Line[], handedOn: readonly Line[]) {
  return { roles: rolesOf(own, handedOn), own: own.map(lineView), handed_on: handedOn.map(lineView) }
}

/** A record may be long; whoever waits for it is an operator. */
const DEADLINE_MS = 20_000
/** By which the clock of whoever asks may be ahead. */
const SKEW_MS = 2_000

export async function reachedThen(around: Around, { ledger }: House, agent: string, at: number): Promise<api.ReachThenAnswer> {
  if (at > ledger.now() + SKEW_MS) throw notYet()
  const reader = reachThen(agent, at)
  const read = await around.history(reader, DEADLINE_MS)
  const { standing, own, handedOn, leases, gaps } = reader.answer(read)
  const { from, to, files } = read.extent
  return {
    agent,
    at: timeView(at),
    source: 'audit',
    standing,
    complete: gaps.length === 0,
    gaps: [...gaps],
    record: { from: from === undefined ? undefined : timeView(from), to: to === undefined ? undefined : timeView(to), files },
    ...grantsView(own.map(grantThenOf), handedOn.map(grantThenOf)),
    leases: leases.map(leaseThenView),
  }
}

function leaseThenView({ issuedAt, expiresAt, through, scope, ...lease }: LeaseThen): api.ReachThenAnswer['leases'][number] {
  const times = { issued_at: timeView(issuedAt), expires_at: expiresAt === undefined ? undefined : timeView(expiresAt) }
  return { ...lease, through: [...through], ...times, scope: scope && scopeView(scope) }
}

function roleView({ name, role }: Line) {
  const { provider, access, sensitivity } = role ?? {}
  const { revocation: mode, residualSeconds = 0 } = role && 'revocation' in role ? role : {}
  return { role: name, provider, access, sensitivity, revocation: mode && { mode, residual_seconds: residualSeconds } }
}

function lineView(line: Line) {
  const { task, agent, through, scope, maxTtlSeconds, holds, until } = line
  const limits = { scope: scope && scopeView(scope), max_ttl: maxTtlSeconds }
  return { ...roleView(line), task, agent, through: [...through], ...limits, holds, until: timeView(until) }
}

/** Each role once, whoever reaches it. */
function rolesOf(own: readonly Line[], handedOn: readonly Line[]) {
  const all = [...own, ...handedOn]
  return [...new Set(all.map(({ name }) => name))].sort().flatMap((name) => {
    const lines = all.filter((line) => line.name === name)
    const [first] = lines
    if (!first) return []
    const holds = lines.reduce((sum, line) => sum + line.holds, 0)
    const tasks = new Set(lines.map(({ task }) => task)).size
    return [{ ...roleView(first), holds, tasks, through_others: handedOn.some((line) => line.name === name) }]
  })
}

function notYet(): MayflyError {
  return new MayflyError('request_invalid', 'at: nobody knows yet what it will reach then', {
    issues: [{ path: 'at', message: 'must have passed; leave it out for now' }],
  })
}
