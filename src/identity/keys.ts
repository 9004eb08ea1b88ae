import { types } from 'node:util'
import type { IssuerStatus } from './identity.js'
import type { VerificationKey } from './jwk.js'

const REFRESH_MS = 5 * 60_000
/** What an issuer may ask for instead. */
const SHORTEST_REFRESH_MS = 30_000
const LONGEST_REFRESH_MS = 3_600_000
/** After a failed fetch, and between two fetches that unknown key ids caused. */
const COOL_DOWN_MS = 10_000
const TICK_MS = 15_000
const UNKNOWN = { refused: 'no key of the issuer has this "kid"' }
const UNREACHABLE = { refused: 'the issuer cannot be reached, and its keys are missing or older than the stale limit', unavailable: true } as const
const PERHAPS_NEW = { refused: 'no key that is known of the issuer has this "kid", and nothing newer could be fetched', unavailable: true } as const

export interface KeyHint {
  readonly kid?: string
  readonly alg: string
}
/** `unavailable`: it may be a good one, which only the issuer can tell. */
export type FoundKey = { readonly key: VerificationKey } | { readonly refused: string; readonly unavailable?: true }

/** The keys of one issuer. A key is only ever looked up here, so one issuer's key never verifies another's token (RFC 8725 §3.8). */
export interface Keys {
  /** `except`: a key that was tried in vain. */
  find(header: KeyHint, except?: VerificationKey): Promise<FoundKey>
  /** Whether a key found earlier still stands: neither withdrawn nor older than the stale limit. */
  stands(key: VerificationKey): boolean
  /** Whether what was fetched may be relied on: there, and not older than the stale limit. */
  isCurrent(): boolean
  /** Waits for the fetch under way where there is nothing else to rely on. */
  settle(): Promise<void>
  /** Fetches anew, for what is not known yet; seldom, however often it is asked. */
  refetch(): Promise<void>
  status(): Omit<IssuerStatus, 'name'>
  /** Begins to fetch in the background. Apart from the constructor: a configuration that turns out wrong asks nobody. */
  start(): void
  /** Ends when as many have closed it as have started it: a reload takes over the keys of issuers that stayed as they were. */
  close(): void
}

/** What one fetch brought. */
export interface KeySet {
  readonly keys: readonly VerificationKey[]
  /** Keys that were left out. */
  readonly ignored: number
  /** X.509 authorities that came with them, where an issuer vouches by certificates too. */
  readonly authorities?: number
  /** How often the issuer wants to be asked; every 5 minutes when absent. */
  readonly refreshSeconds?: number
}

/** Keys that came with the configuration. */
export function staticKeys({ keys, authorities }: Pick<KeySet, 'keys' | 'authorities'>, now: () => number): Keys {
  const held = new KeyRing()
  held.replace(keys)
  const fetchedAt = now()
  return {
    find: async (header, except) => held.find(header, except) ?? UNKNOWN,
    stands: (key) => held.has(key),
    isCurrent: () => true,
    settle: async () => undefined,
    refetch: async () => undefined,
    status: () => ({ state: 'ready', keys: held.size, authorities, fetchedAt }),
    start: () => undefined,
    close: () => undefined,
  }
}

export interface FetchedKeysOptions {
  readonly fetch: (signal: AbortSignal) => Promise<KeySet>
  /** Called once what was fetched is in force. */
  readonly onFetched?: () => void
  readonly staleLimitMs: number
  readonly now: () => number
}

/**
 * Keys fetched from the issuer: refreshed in the background, refetched when a token names an unknown one, kept while the issuer is down up to the
 * stale limit. A class for its state: the ring, and when it was last asked for.
 */
export class FetchedKeys implements Keys {
  readonly #ring = new KeyRing()
  readonly #options: FetchedKeysOptions
  #refreshMs: number
  #authorities: number | undefined
  readonly #closing = new AbortController()
  #users = 0
  #timer: NodeJS.Timeout | undefined
  #fetchedAt: number | undefined
  #failedAt: number | undefined
  #forcedAt: number | undefined
  #error: string | undefined
  #inFlight: Promise<void> | undefined

  constructor(options: FetchedKeysOptions) {
    this.#options = options
    this.#refreshMs = this.#refreshOf({})
  }

  start(): void {
    this.#users++
    if (this.#users > 1) return
    this.#timer = setInterval(() => this.#refreshIfDue(), TICK_MS).unref()
    this.#refreshIfDue()
  }

  async find(header: KeyHint, except?: VerificationKey): Promise<FoundKey> {
    this.#refreshIfDue()
    if (this.#isStale()) await this.#inFlight
    let found = this.#isStale() ? undefined : this.#ring.find(header, except)
    // A fetch under way may bring it; only then is it worth one of our own.
    if (found === undefined && this.#inFlight !== undefined) {
      await this.#inFlight
      found = this.#ring.find(header, except)
    }
    if (this.#isStale()) return UNREACHABLE
    if (found === undefined && this.#mayForce()) {
      await this.#fetch()
      found = this.#ring.find(header, except)
    }
    return found ?? (this.#failedAt === undefined ? UNKNOWN : PERHAPS_NEW)
  }

  stands(key: VerificationKey): boolean {
    this.#refreshIfDue()
    return this.#ring.has(key) && !this.#isStale()
  }

  isCurrent(): boolean {
    this.#refreshIfDue()
    return !this.#isStale()
  }

  async settle(): Promise<void> {
    if (!this.isCurrent()) await this.#inFlight
  }

  async refetch(): Promise<void> {
    this.#refreshIfDue()
    if (this.#inFlight !== undefined || this.#mayForce()) await this.#fetch()
  }

  status(): Omit<IssuerStatus, 'name'> {
    const holdsNothing = this.#ring.size === 0 && !this.#authorities
    const state = this.#isStale() || holdsNothing ? 'down' : this.#error === undefined ? 'ready' : 'stale'
    return { state, keys: this.#ring.size, authorities: this.#authorities, fetchedAt: this.#fetchedAt, error: this.#error }
  }

  close(): void {
    this.#users--
    if (this.#users > 0) return
    clearInterval(this.#timer)
    this.#closing.abort()
  }

  #isStale(): boolean {
    return this.#fetchedAt === undefined || this.#options.now() - this.#fetchedAt > this.#options.staleLimitMs
  }

  #refreshOf({ refreshSeconds }: Pick<KeySet, 'refreshSeconds'>): number {
    const wanted = refreshSeconds === undefined ? REFRESH_MS : Math.min(Math.max(1000 * refreshSeconds, SHORTEST_REFRESH_MS), LONGEST_REFRESH_MS)
    return Math.min(wanted, this.#options.staleLimitMs / 2)
  }

  #refreshIfDue(): void {
    const now = this.#options.now()
    const isDue = this.#fetchedAt === undefined || now - this.#fetchedAt >= this.#refreshMs
    const isCooling = this.#failedAt !== undefined && now - this.#failedAt < COOL_DOWN_MS
    if (isDue && !isCooling) void this.#fetch()
  }

  /** At most one refetch per cool-down for unknown key ids, however many tokens name them. Scheduled fetches don't count, so that a key which
   * the issuer brought in just after one is still found at once. */
  #mayForce(): boolean {
    const now = this.#options.now()
    if (this.#forcedAt !== undefined && now - this.#forcedAt < COOL_DOWN_MS) return false
    this.#forcedAt = now
    return true
  }

  /** Joins the fetch under way, or starts one. Never rejects. */
  #fetch(): Promise<void> {
    this.#inFlight ??= this.#load().finally(() => {
      this.#inFlight = undefined
    })
    return this.#inFlight
  }

  async #load(): Promise<void> {
    if (this.#closing.signal.aborted) return
    try {
      const set = await this.#options.fetch(this.#closing.signal)
      // An empty set is the issuer's word, not a failure: it has withdrawn its keys.
      this.#ring.replace(set.keys)
      this.#authorities = set.authorities
      this.#refreshMs = this.#refreshOf(set)
      this.#fetchedAt = this.#options.now()
      this.#failedAt = undefined
      this.#error = set.keys.length === 0 && !set.authorities ? `the key set has no usable key (${set.ignored} ignored)` : undefined
      this.#options.onFetched?.()
    } catch (error) {
      this.#failedAt = this.#options.now()
      this.#error = types.isNativeError(error) ? error.message : 'the keys could not be fetched'
    }
  }
}

/** Keys by kid. A key that a new set repeats keeps its object, so that what was verified with it stays verified. */
class KeyRing {
  #keys = new Map<string, VerificationKey>()

  get size(): number {
    return this.#keys.size
  }
  has(key: VerificationKey): boolean {
    return this.#keys.get(key.id) === key
  }
  replace(keys: readonly VerificationKey[]): void {
    this.#keys = new Map(keys.map((key) => [key.id, this.#keys.get(key.id) ?? key]))
  }
  /** `undefined` when a newer set might have it. */
  find({ kid, alg }: KeyHint, except?: VerificationKey): FoundKey | undefined {
    const named = [...this.#keys.values()].filter((key) => key !== except && (kid === undefined || key.kid === kid))
    if (named.length === 0) return undefined
    const fitting = named.filter((key) => key.algorithms.some((algorithm) => algorithm === alg))
    const [key] = fitting
    if (key === undefined) return kid === undefined ? undefined : { refused: 'the key is for another algorithm' }
    if (fitting.length > 1)
      return { refused: kid === undefined ? 'the token has no "kid" and its issuer has several keys' : 'the "kid" names several keys' }
    return { key }
  }
}
