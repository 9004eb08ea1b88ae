import { setTimeout as pause } from 'node:timers/promises'
import { type Lock, ProviderError, type RegisterEntry } from '../provider.js'
import { type Asked, entryOf, lastOf } from './entries.js'
import { type Rewriting, rewrite } from './rewrite.js'

interface Waiter extends Asked {
  readonly signal: AbortSignal
  done(outcome: 'revoked' | 'absent'): void
  failed(error: unknown): void
}

/** Between two rewrites of one role: IAM throttles, and what comes meanwhile shares the next. The first does not wait. */
const SPACING_MS = 250
/** While IAM throttles, twice as long each time up to this. */
const LONGEST_PAUSE_MS = 4000
/** AWS's clock and the ledger's may differ: by then the session's own policy has ended it for certain. */
const ENDED_MARGIN_MS = 10_000
/** An entry that is gone longer before its end than this did not pass: the ledger has lost it. */
const LOST_MS = 5000
const LOCK_POLL_MS = 30
const MOST_OVERTAKEN = 5

/**
 * Rewrites the policy of one AWS role for all who ask, one rewrite at a time. A class because it holds who waits.
 * An entry is durable before anybody waits for it, so whoever writes next, here or at another broker, writes it too.
 */
export class RoleWriter {
  readonly #given: Rewriting
  #waiting: Waiter[] = []
  #running: Promise<void> | undefined
  #isLookDue = false
  #nextAt = 0
  #pauseMs = SPACING_MS
  #overtaken = 0
  /** Version of the list when nothing was denied and the policy was not there either. */
  #cleanVersion: number | undefined
  #isTrouble = false
  readonly #closed = new AbortController()

  constructor(given: Rewriting) {
    this.#given = given
  }

  /** Answers once IAM has confirmed a document that was built after this was asked. `absent`: there is nothing left to deny. */
  async written(asked: Asked, signal: AbortSignal): Promise<'revoked' | 'absent'> {
    await this.#given.register.add(this.#given.list, entryOf(asked))
    return new Promise((done, failed) => {
      this.#waiting.push({ ...asked, signal, done, failed })
      this.#start()
    })
  }

  /** Puts right what is not as its list says, and takes out what has passed; left to whoever writes at the moment. */
  look(): void {
    this.#isLookDue = true
    this.#start()
  }

  async close(): Promise<void> {
    this.#closed.abort()
    this.#start()
    await this.#running
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      // Whoever came while this ended.
      if (this.#isLookDue || this.#waiting.length > 0) this.#start()
    })
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed
    while (this.#isLookDue || this.#waiting.length > 0) {
      await pause(Math.max(0, this.#nextAt - performance.now()), undefined, { signal }).catch(() => undefined)
      const isLook = this.#isLookDue
      this.#isLookDue = false
      const batch: Waiter[] = []
      try {
        if (signal.aborted) throw new ProviderError('unreachable', 'the broker is closing; the revocation is written down')
        await this.#once(batch, isLook)
        this.#isTrouble = false
        this.#pauseMs = SPACING_MS
      } catch (error) {
        for (const waiter of signal.aborted ? [...batch, ...this.#waiting.splice(0)] : batch) waiter.failed(error)
        if (!signal.aborted) this.#tellTrouble(error)
        if (error instanceof ProviderError && error.kind === 'throttled') this.#slowDown()
      }
    }
  }

  /** One rewrite, if there is anything to write, for those who become `batch`. */
  async #once(batch: Waiter[], isLook: boolean): Promise<void> {
    const { list, timeoutMs } = this.#given
    const { entries, version } = await this.#gather(batch)
    const isEmpty = lastOf(entries) === undefined
    if (batch.length === 0 && (!isLook || (isEmpty && version === this.#cleanVersion))) return
    const lock = await this.#lock(batch.length > 0 ? timeoutMs : 0)
    if (lock === undefined) {
      if (batch.length > 0) throw new ProviderError('timeout', 'another broker writes the revocations of this AWS role')
      return
    }
    try {
      // And those who came while the lock was waited for.
      if (this.#waiting.length > 0) await this.#gather(batch)
      const outcome = await rewrite(this.#given, batch.map(lasting), lock)
      if (outcome === 'overtaken') return this.#repeat(batch)
      this.#overtaken = 0
      if (isEmpty && batch.length === 0) this.#cleanVersion = version
      for (const waiter of batch) waiter.done(outcome === 'gone' ? 'absent' : 'revoked')
    } finally {
      this.#nextAt = performance.now() + SPACING_MS
      await lock.release().catch(() => this.#given.tell('aws_revocations_lock_kept', { aws_role: list }))
    }
  }

  /**
   * Takes who waits into `batch`, but not those whose session has ended by itself: the ledger's clock, which also made that session's policy,
   * says so by having dropped the entry. The others' entries stay until AWS's clock says so for certain.
   */
  async #gather(batch: Waiter[]): Promise<{ entries: readonly RegisterEntry[]; version: number }> {
    const coming = this.#waiting.splice(0).filter(({ signal }) => !signal.aborted)
    batch.push(...coming)
    const { list, register, now } = this.#given
    const found = await register.read(list)
    const ids = new Set(found.entries.map(({ id }) => id))
    for (const waiter of coming) {
      if (ids.has(entryOf(waiter).id) || waiter.until > now() + LOST_MS) continue
      batch.splice(batch.indexOf(waiter), 1)
      waiter.done('absent')
    }
    await Promise.all(coming.filter((waiter) => batch.includes(waiter)).map((waiter) => register.add(list, entryOf(lasting(waiter)))))
    return found
  }

  async #lock(patienceMs: number): Promise<Lock | undefined> {
    const { list, register, timeoutMs } = this.#given
    const end = performance.now() + patienceMs
    for (;;) {
      const lock = await register.lock(list, 2 * timeoutMs)
      if (lock !== undefined || performance.now() >= end || this.#closed.signal.aborted) return lock
      await pause(LOCK_POLL_MS * (1 + Math.random()))
    }
  }

  /** What was written may have undone what somebody else wrote: the next document has it again. */
  #repeat(batch: readonly Waiter[]): void {
    this.#overtaken = (this.#overtaken + 1) % MOST_OVERTAKEN
    if (this.#overtaken === 0) throw new ProviderError('timeout', 'IAM takes longer than the right to write lasts')
    this.#waiting.unshift(...batch)
    this.#isLookDue = true
  }

  #slowDown(): void {
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2)
    this.#nextAt = performance.now() + this.#pauseMs
  }

  #tellTrouble(error: unknown): void {
    if (!this.#isTrouble) this.#given.tell('aws_revocations_unwritten', { aws_role: this.#given.list, error: messageOf(error) })
    this.#isTrouble = true
  }
}

function lasting({ kind, pattern, until, mintedBy }: Asked): Asked {
  return { kind, pattern, until: until + ENDED_MARGIN_MS, mintedBy }
}

function messageOf(error: unknown): string {
  return error instanceof ProviderError ? error.message : 'unexpected failure'
}
