import { randomBytes } from 'node:crypto'
import type { Lock, Register, RegisterEntry } from '../provider.js'
import { ProviderError } from '../provider.js'
import { type Denied, documentOf, type Live, readDocument, type Stamp, sameDenied } from './document.js'
import { type Asked, closedBefore, closingOf, deniedBy, entriesOf, entryOf, lastOf, lineagesOf, reaches, wroteOf, youngerThan } from './entries.js'

/** The inline policy of one AWS role, as IAM has it. */
export interface RolePolicy {
  /** `at`: AWS's clock when it answered, ms. */
  read(ms: number): Promise<{ readonly text?: string; readonly at: number }>
  /** Not sent any more once `isOurs` says no: then 'late'. 'full': the role's inline policies would be too long. */
  write(text: string, ms: number, isOurs: () => boolean): Promise<Wrote | 'full'>
  remove(ms: number, isOurs: () => boolean): Promise<Wrote>
}
export type Wrote = 'written' | 'gone' | 'late'
/** 'overtaken': somebody else may have written meanwhile, and been undone: once more. 'gone': the AWS role is no more. */
export type Rewritten = 'current' | 'gone' | 'overtaken'

export interface Rewriting {
  readonly list: string
  readonly register: Register
  readonly policy: RolePolicy
  /** Characters that the document may have. */
  readonly budget: number
  /** Longest that one call to IAM may take. */
  readonly timeoutMs: number
  /**
   * Throws unless the role is of the broker's own AWS account, which is the only one that IAM's calls reach: another role of the same name
   * there would be taken for it. `isAsked`: AWS is asked once more.
   */
  owns(isAsked: boolean): Promise<void>
  /** The ledger's clock, ms. */
  readonly now: () => number
  /** What operators must know. */
  tell(what: string, detail: Readonly<Record<string, unknown>>): void
}

/** The longest session of STS, and an hour for clocks. */
const LONGEST_SESSION_MS = 13 * 3_600_000
/** For how long after the last entry has passed a document is still known to be one's own. */
const STAMP_LEFT_MS = 12 * 3_600_000
/** AWS tells whole seconds, and its clocks are taken to be this close to each other. */
const CLOSING_SECONDS = 2
/** A call ends this much before the lock does. */
const MARGIN_MS = 200

/**
 * Brings one role's policy to what its list says, while `lock` is held: whoever asked before this began is in it afterwards. The document
 * is always rebuilt, never edited. IAM knows no conditional write, so nothing is sent that could arrive when the lock is another's.
 */
export async function rewrite(given: Rewriting, asked: readonly Asked[], lock: Lock): Promise<Rewritten> {
  const { list, register, policy, timeoutMs } = given
  const callMs = () => Math.min(timeoutMs, lock.left() - MARGIN_MS)
  const isOurs = () => lock.left() > MARGIN_MS
  await given.owns(false)
  if (!isOurs()) return 'overtaken'

  const { entries: read } = await register.read(list)
  const { text, at } = await policy.read(callMs())
  const live = text === undefined ? undefined : readDocument(text)
  const isKnown = live === undefined || reaches(read, live)
  const entries = await complete(given, read, isKnown ? undefined : live, asked)

  for (const isFull of [false, true]) {
    const isClosing = isFull || isTooLong(given, entries)
    const denied = deniedBy(isClosing ? [...entries, await close(given, entries, at)] : entries)
    const isLive = sameDenied(live ?? NOTHING, denied)
    if (isLive && isKnown) return isOurs() ? 'current' : 'overtaken'
    const stamp = nextStamp(entries, live)
    const next = documentOf(denied, stamp)
    // First in the register: a document is never ahead of a register that lost nothing.
    if (next !== undefined) await register.add(list, wroteOf(stamp))
    // Whatever is too short for an answer would leave behind a write of which nobody knows whether it was made.
    if (callMs() < timeoutMs / 4) return 'overtaken'
    const wrote = next === undefined ? await policy.remove(callMs(), isOurs) : await policy.write(next, callMs(), isOurs)
    if (wrote === 'gone') return given.owns(true).then(() => 'gone')
    if (wrote === 'late') return 'overtaken'
    if (wrote === 'full') continue
    if (isClosing) given.tell('aws_role_closed', { aws_role: list, issued_before: new Date((denied.before ?? 0) * 1000).toISOString() })
    return isOurs() ? 'current' : 'overtaken'
  }
  throw new ProviderError('refused', 'the inline policies of the AWS role leave no room for the revocations: shorten them, or make them managed ones')
}

const NOTHING: Denied = { leases: [], tasks: [] }

/** What the register has, what only the live document has, and what was asked for with regard to the latest closing. */
async function complete({ list, register, tell, now }: Rewriting, read: readonly RegisterEntry[], lost: Live | undefined, asked: readonly Asked[]) {
  const known = new Set(read.map(({ id }) => id))
  const found = lost ? entriesOf(lost, now() + LONGEST_SESSION_MS).filter(({ id }) => !known.has(id)) : []
  if (found.length > 0) tell('aws_revocations_recovered', { aws_role: list, entries: found.length })
  // A closing covers who was withdrawn before it; who asks now may have been issued after it. And a failover may have lost what was added
  // a moment ago.
  const since = closedBefore([...read, ...found])
  const own = asked.map((one) => entryOf(one, youngerThan(one, since))).filter(({ id }) => since !== undefined || !known.has(id))
  await Promise.all([...found, ...own].map((entry) => register.add(list, entry)))
  return [...read, ...found, ...own]
}

function isTooLong({ budget }: Rewriting, entries: readonly RegisterEntry[]): boolean {
  const sample: Stamp = { lineage: '00000000', number: Date.now() }
  return (documentOf(deniedBy(entries), sample)?.length ?? 0) > budget
}

/** Closes the whole role to sessions that were issued up to now, by AWS's clock: later than all that `entries` are about. */
async function close({ list, register }: Rewriting, entries: readonly RegisterEntry[], at: number): Promise<RegisterEntry> {
  const second = Math.max(Math.floor(at / 1000) + CLOSING_SECONDS, (closedBefore(entries) ?? 0) + 1)
  const closing = closingOf(second, lastOf(entries) ?? at)
  await register.add(list, closing)
  return closing
}

function nextStamp(entries: readonly RegisterEntry[], live: Live | undefined): Stamp {
  const [latest] = lineagesOf(entries).sort((one, other) => other.number - one.number)
  const number = Math.max(Math.ceil(lastOf(entries) ?? 0) + STAMP_LEFT_MS, (latest?.number ?? 0) + 1, (live?.stamp?.number ?? 0) + 1)
  return { lineage: latest?.lineage ?? randomBytes(4).toString('hex'), number }
}
