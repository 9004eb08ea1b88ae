import type { RegisterEntry } from '../provider.js'
import type { Denied, Live, Stamp } from './document.js'

/**
 * How the register tells what is denied to sessions of one AWS role:
 *
 *     lease:<pattern>            withdrawn before the role was ever closed as a whole
 *     lease@<second>:<pattern>   withdrawn when the role was closed to sessions issued before that second: they may be younger
 *     task:… , task@…:…          likewise, for all leases of a task
 *     before:<second>            the role is closed to sessions issued before it
 *     wrote:<lineage>            `until` is the number of the last document that was written from here
 */
export interface Asked {
  readonly kind: 'lease' | 'task'
  readonly pattern: string
  readonly until: number
  /** No session of it was issued after this, ms; absent: nobody knows. */
  readonly mintedBy?: number
}

const LISTED = /^(?<kind>lease|task)(?:@(?<since>\d{1,12}))?:(?<pattern>.+)$/s
const CLOSED = /^before:(?<second>\d{1,12})$/
const WROTE = /^wrote:(?<lineage>[a-z0-9]{8})$/

/** Between AWS's clock, by which a role is closed, and the ledger's. */
const CLOCKS_MS = 5_000

/** The closing that what is asked for may be younger than; `undefined`: there is none, or it covers it. */
export function youngerThan({ kind, mintedBy }: Asked, closing: number | undefined): number | undefined {
  // A task's other leases may be younger than the one that asks.
  if (closing === undefined || kind === 'task' || mintedBy === undefined || mintedBy + CLOCKS_MS >= closing * 1000) return closing
  return undefined
}

/** `since`: the closing that it may be younger than. */
export function entryOf({ kind, pattern, until }: Pick<Asked, 'kind' | 'pattern' | 'until'>, since?: number): RegisterEntry {
  return { id: `${kind}${since === undefined ? '' : `@${since}`}:${pattern}`, until }
}

export function closingOf(second: number, until: number): RegisterEntry {
  return { id: `before:${second}`, until }
}

export function wroteOf({ lineage, number }: Stamp): RegisterEntry {
  return { id: `wrote:${lineage}`, until: number }
}

/** The latest closing; later ones cover what earlier ones do. */
export function closedBefore(entries: readonly RegisterEntry[]): number | undefined {
  const seconds = entries.flatMap(({ id }) => CLOSED.exec(id)?.groups?.second ?? []).map(Number)
  return seconds.length === 0 ? undefined : Math.max(...seconds)
}

/** What the document must deny. An entry is left to the closing only if it was there before that closing was made. */
export function deniedBy(entries: readonly RegisterEntry[]): Denied {
  const before = closedBefore(entries)
  const leases = new Set<string>()
  const tasks = new Set<string>()
  for (const { id } of entries) {
    const { kind, since, pattern } = LISTED.exec(id)?.groups ?? {}
    if (pattern === undefined || (before !== undefined && Number(since ?? -1) < before)) continue
    ;(kind === 'lease' ? leases : tasks).add(pattern)
  }
  return { leases: [...leases], tasks: [...tasks], ...(before === undefined ? {} : { before }) }
}

/** When the last of them passes; `undefined` where nothing is denied. */
export function lastOf(entries: readonly RegisterEntry[]): number | undefined {
  const untils = entries.filter(({ id }) => !WROTE.test(id)).map(({ until }) => until)
  return untils.length === 0 ? undefined : Math.max(...untils)
}

export function lineagesOf(entries: readonly RegisterEntry[]): Stamp[] {
  return entries.flatMap(({ id, until }) => {
    const lineage = WROTE.exec(id)?.groups?.lineage
    return lineage === undefined ? [] : [{ lineage, number: until }]
  })
}

/** Whether the register has all that it had when this was written. */
export function reaches(entries: readonly RegisterEntry[], live: Live): boolean {
  return lineagesOf(entries).some(({ lineage, number }) => lineage === live.stamp?.lineage && number >= live.stamp.number)
}

/** What a live document denies, as entries of the register. */
export function entriesOf({ leases, tasks, before }: Denied, until: number): RegisterEntry[] {
  return [
    ...leases.map((pattern) => entryOf({ kind: 'lease', pattern, until }, before)),
    ...tasks.map((pattern) => entryOf({ kind: 'task', pattern, until }, before)),
    ...(before === undefined ? [] : [closingOf(before, until)]),
  ]
}
