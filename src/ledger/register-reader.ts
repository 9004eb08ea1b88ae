import type { RegisterEntry } from '../types.js'

/** A list of the register as it was last read, and what it takes to ask only for what has changed since. */
export interface ReadList {
  readonly version: number
  /** Of the change that made this version; nothing but the same list has it. */
  readonly token: string
  /** The ledger's clock then. */
  readonly now: number
  /** By their end, then by id. */
  readonly entries: readonly RegisterEntry[]
  /** That the entries take here, about. */
  readonly bytes: number
}

/** See `lua/register-read.lua`. */
export interface Question {
  readonly seen: number
  readonly token: string
  readonly after: number
  readonly offset: number
  readonly look: 0 | 1
  readonly limit: number
}
export interface Answer {
  readonly now: number
  readonly version: number
  readonly token: string
  /** Where the page begins, -1 for changes. */
  readonly offset: number
  /** Changes are told up to this version. */
  readonly reached: number
  readonly entries: readonly RegisterEntry[]
}

/** That one call takes from Redis, which does nothing else meanwhile. */
export const PAGE = 2000
/** What an entry takes besides its id. */
const ENTRY_BYTES = 128
const EVERYTHING = Number.MAX_SAFE_INTEGER
/** A list that is another one between pages this often is read in one call. */
const MOST_BEGINNINGS = 3

/**
 * Reads what has changed since `known`, or everything, page by page: what changes meanwhile is told as a change afterwards, since only what has
 * passed ever leaves a list, and pages begin with what passes last. Each call says what the one before it has seen, so that a list of which
 * a part was lost in between is begun anew.
 */
export async function readList(ask: (question: Question) => Promise<Answer>, known: ReadList | undefined, page: number = PAGE): Promise<ReadList> {
  let from = known
  let found: RegisterEntry[] = []
  let startedAt = 0
  let beginnings = 0
  let now = known?.now ?? 0
  let question: Question = { ...seenIn(known), after: known?.version ?? 0, offset: -1, look: 1, limit: page }
  for (;;) {
    const answer = await ask(question)
    const { offset, version } = answer
    // Another Redis, whose clock is behind: what had passed has not.
    const isEarlier = answer.now < now
    now = answer.now
    if (offset === 0 || isEarlier) {
      from = undefined
      found = []
      startedAt = version
      beginnings++
    }
    const limit = beginnings > MOST_BEGINNINGS ? EVERYTHING : page
    if (isEarlier && offset !== 0) {
      question = { ...seenIn(undefined), after: 0, offset: 0, look: 0, limit }
      continue
    }
    found = found.concat(answer.entries)
    const isLastPage = offset >= 0 && answer.entries.length < question.limit
    const reached = offset < 0 ? answer.reached : startedAt
    if ((offset < 0 || isLastPage) && reached === version) return together(from, found, answer)
    const next = offset < 0 || isLastPage ? -1 : offset + answer.entries.length
    question = { ...seenIn(answer), after: reached, offset: next, look: 0, limit }
  }
}

function seenIn(list: Pick<ReadList, 'version' | 'token'> | undefined): Pick<Question, 'seen' | 'token'> {
  return { seen: list?.version ?? 0, token: list?.token ?? '' }
}

function together(from: ReadList | undefined, found: readonly RegisterEntry[], { version, token, now }: Answer): ReadList {
  const before = from?.entries ?? []
  const first = before[0]
  if (from !== undefined && found.length === 0 && (first === undefined || first.until > now)) return { ...from, version, token, now }
  // Of what was told twice, the later is true.
  const changed = new Map(found.map((entry) => [entry.id, entry]))
  const coming = [...changed.values()].sort(byEnd)
  const entries: RegisterEntry[] = []
  let bytes = ENTRY_BYTES
  const take = (entry: RegisterEntry) => {
    if (entry.until <= now) return
    entries.push(entry)
    bytes += entry.id.length + ENTRY_BYTES
  }
  let at = 0
  for (const entry of before) {
    if (changed.has(entry.id)) continue
    for (let next = coming[at]; next !== undefined && byEnd(next, entry) < 0; next = coming[++at]) take(next)
    take(entry)
  }
  for (const entry of coming.slice(at)) take(entry)
  return { version, token, now, entries, bytes }
}

function byEnd(one: RegisterEntry, other: RegisterEntry): number {
  if (one.until !== other.until) return one.until - other.until
  return one.id < other.id ? -1 : 1
}

/**
 * Who calls while a call for the same name runs is answered by the next, which begins after that: what was true when it was called is in its
 * answer, and many callers cost no more than two calls.
 */
export function createTurns<T>(): (name: string, call: () => Promise<T>) => Promise<T> {
  const running = new Map<string, Promise<unknown>>()
  const waiting = new Map<string, Promise<T>>()
  const turn = async (name: string, call: () => Promise<T>, before: Promise<unknown> | undefined): Promise<T> => {
    if (before !== undefined) {
      await before
      waiting.delete(name)
    }
    const answer = call()
    const ended = answer.catch(() => undefined)
    running.set(name, ended)
    try {
      return await answer
    } finally {
      if (running.get(name) === ended) running.delete(name)
    }
  }
  return (name, call) => {
    const next = waiting.get(name)
    if (next !== undefined) return next
    const before = running.get(name)
    const mine = turn(name, call, before)
    if (before !== undefined) waiting.set(name, mine)
    return mine
  }
}
