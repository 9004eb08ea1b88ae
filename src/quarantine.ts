import { setTimeout as pause } from 'node:timers/promises'
import type { Extent, Reader } from './audit/history.js'
import { event } from './event.js'
import type { House } from './house.js'
import { forgottenSince, reapply } from './reapply.js'

/** What this broker's own audit log has, shown to a reader for so long at most. */
export type OwnLog = (reader: Reader, deadlineMs: number) => Promise<{ readonly extent: Extent }>

/** A log is read as long as it takes, within reason: nothing is issued meanwhile anyway. */
const DEADLINE_MS = 10 * 60_000
const AGAIN_MS = 2_000

/**
 * Reads this broker's own audit log again where the ledger has forgotten some of it, does again what it says was ended, frozen and taken back,
 * and leaves a report in the ledger. Until it is done, or `over`: a log that cannot be read, or a ledger that is away, may be back.
 */
export async function readAgain(house: House, log: OwnLog, over: AbortSignal): Promise<void> {
  for (;;) {
    const owed = house.ledger.unread()
    if (!owed || over.aborted) return
    const why = await readOnce(house, log, owed.since).catch((error: unknown) => error)
    if (why === undefined) continue
    house.log.warn({ error: why instanceof Error ? why.message : 'unknown' }, 'the audit log could not be read again; it is tried anew')
    await pause(AGAIN_MS, undefined, { ref: false, signal: over }).catch(() => undefined)
  }
}

async function readOnce(house: House, log: OwnLog, since: number): Promise<void> {
  const reader = forgottenSince(since)
  const { extent } = await log(reader, DEADLINE_MS)
  const done = await reapply(house, reader.forgotten)
  const gaps = gapsOf(extent, since)
  const unknown = done.unknown.reduce((sum, { leases }) => sum + leases, 0)
  await house.ledger.noteRead({ at: house.ledger.now(), from: extent.from, to: extent.to, gaps, ...done })
  house.log.warn({ ...done.applied, unknown, gaps }, 'the audit log was read again, and done again what the ledger has forgotten')
  await house.ledger.record(event('quarantine.read', undefined, undefined, { detail: { applied: done.applied, unknown, gaps } }))
}

function gapsOf({ files, from, unreadable, complete }: Extent, since: number): string[] {
  if (files === 0 || from === undefined) return ['there is no record']
  const gaps: string[] = []
  if (since > 0 && from > since) gaps.push(`the record begins at ${new Date(from).toISOString()}, after what may have been lost`)
  if (!complete) gaps.push('the record is longer than could be read in time')
  if (unreadable > 0) gaps.push(`${unreadable} lines of the record cannot be read`)
  return gaps
}
