import {
  BrokenCircuitError,
  BulkheadRejectedError,
  bulkhead,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  handleWhen,
  type IPolicy,
  wrap,
} from 'cockatiel'
import { MayflyError } from './errors.js'
import { type Minted, type MintRequest, type Provider, ProviderError } from './providers/provider.js'
import { createRevokePlaces } from './revoke-places.js'
import type { Sealer } from './sealing.js'
import type { Cause, Handle, Lease } from './types.js'

/**
 * One configured provider with its bulkheads: mints and revokes have a limit of their own each, so that a slow mint never keeps a revoke
 * waiting, and one hanging upstream never takes another's place. Every call is bounded by the provider's timeout.
 */
export interface Upstream {
  readonly name: string
  readonly provider: Provider
  /** Longest that one call may take, ms. */
  readonly timeoutMs: number
  mint(request: MintRequest<unknown>): Promise<Minted>
  /** The handle as the ledger keeps it: a sensitive one encrypted, and with which key. */
  keep(lease: Pick<Lease, 'id' | 'handle'>, minted?: Minted): Promise<{ readonly handle: Handle; readonly sealedBy?: string }>
  renew(lease: Lease, expiresAt: number): Promise<void>
  /**
   * Waits for a free place; `stillMine` is asked once it has one, and a claim that was lost meanwhile is not carried out. `unknown`: only the
   * mint knew the handle, and it was lost with its answer; nothing can be done before the upstream's own expiry.
   */
  revoke(lease: Lease, stillMine: () => boolean): Promise<'revoked' | 'absent' | 'lost' | 'unknown'>
  /** What this instance made and is there still, each step bounded by the provider's timeout; absent where it cannot be listed. @throws ProviderError */
  readonly list?: () => AsyncGenerator<Listed, void>
  /** Whether the upstream still accepts it; undefined where it cannot be asked. @throws ProviderError */
  verify(lease: Lease): Promise<'dead' | 'alive' | undefined>
  /** The same in one of the places for revokes; `lost` as with these. @throws ProviderError */
  confirm(lease: Lease, stillMine: () => boolean): Promise<'dead' | 'alive' | 'lost' | undefined>
  /**
   * What was written of a mint. Where it could not be written and only this process knows the handle, it is now or never: the mint is given
   * back, once; what fails even so ends with the provider's blind window.
   */
  orGiveBack<T>(minted: Minted, written: Promise<T>): Promise<T>
  /** Revokes that are worth claiming now. */
  freeRevokes(): number
  /** When one of those under way has ended and there is room again; undefined while none is. */
  revokeRoom(): Promise<void> | undefined
  state(): 'closed' | 'open' | 'half-open'
  close(): Promise<void>
}

export type Listed = NonNullable<ReturnType<NonNullable<Provider['list']>>> extends AsyncIterable<infer One> ? One : never

export interface UpstreamOptions {
  readonly name: string
  readonly concurrency: number
  readonly timeoutMs: number
  /** Needed by a provider whose handles are sensitive. */
  readonly sealer?: Sealer
}

/** Mints that may wait for a place: beyond it the caller is told to come again rather than kept waiting past its deadline. */
const MINT_QUEUE_PER_PLACE = 8
/** Where a revoke needs no call to the upstream, this much may be settled at once. */
const IN_PROCESS_REVOKES = 500
const BREAKER_FAILURES = 5
const BREAKER_INITIAL_MS = 500
const BREAKER_MAX_MS = 15_000

export function createUpstream(provider: Provider, options: UpstreamOptions): Upstream {
  const { name, concurrency, timeoutMs, sealer } = options
  // Only trouble that repeating makes worse opens the circuit: a refused parameter is the caller's, not the upstream's.
  const breaker = circuitBreaker(
    handleWhen((error) => error instanceof ProviderError && ['timeout', 'unreachable', 'throttled', 'broken'].includes(error.kind)),
    {
      breaker: new ConsecutiveBreaker(BREAKER_FAILURES),
      halfOpenAfter: new ExponentialBackoff({ initialDelay: BREAKER_INITIAL_MS, maxDelay: BREAKER_MAX_MS }),
    },
  )
  const mints: IPolicy = wrap(bulkhead(concurrency, concurrency * MINT_QUEUE_PER_PLACE), breaker)
  // Revokes have no breaker: each is retried for ever with backoff by the ledger, and no revoke may fail because others did.
  const revokes = createRevokePlaces(provider.revokesAtOnce ?? concurrency)
  const needsNoCall = provider.inProcess || provider.revocation === 'at-expiry'

  /** Through the bulkhead and the circuit, with trouble in the caller's words. */
  const guarded = <T>(run: () => Promise<T>): Promise<T> => mints.execute(run).catch((error: unknown) => Promise.reject(asMayflyError(name, error)))
  const opened = async ({ id, handle }: Lease): Promise<Handle> => {
    if (!provider.sensitiveHandle) return handle
    return sealerOf(sealer)
      .open(id, handle)
      .catch((error: unknown) => Promise.reject(new ProviderError('broken', error instanceof Error ? error.message : 'the handle cannot be opened')))
  }
  const mint = (request: MintRequest<unknown>): Promise<Minted> => {
    // Nothing is asked of anybody: there is nobody to protect.
    if (provider.inProcess) return provider.mint(request).catch((error: unknown) => Promise.reject(asMayflyError(name, error)))
    return guarded(() => withDeadline(request.deadlineMs, () => provider.mint(request)))
  }
  const verify = async (lease: Lease): Promise<'dead' | 'alive' | undefined> => {
    if (!provider.verify || isUnknown(provider, lease.handle)) return undefined
    const handle = await opened(lease)
    return withDeadline(timeoutMs, () => provider.verify?.(handle, timeoutMs) ?? Promise.resolve(undefined))
  }
  return {
    name,
    provider,
    timeoutMs,
    mint,
    async keep(lease, minted) {
      const handle = minted?.handle ?? lease.handle
      if (!provider.sensitiveHandle || isUnknown(provider, handle)) return { handle }
      return sealerOf(sealer).seal(lease.id, handle)
    },
    renew: (lease, expiresAt) =>
      guarded(async () => {
        if (!provider.renew) throw new ProviderError('invalid', 'this provider cannot extend a credential')
        const handle = await opened(lease)
        await withDeadline(timeoutMs, () => provider.renew?.(handle, expiresAt, timeoutMs) ?? Promise.resolve())
      }),
    revoke: (lease, stillMine) =>
      revokes.run(async () => {
        if (!stillMine()) return 'lost'
        if (isUnknown(provider, lease.handle)) return 'unknown'
        const handle = await opened(lease)
        const about = {
          taskEnded: lease.cause !== undefined && ENDS_TASK.has(lease.cause),
          usableUntil: lease.usableUntil ?? lease.expiresAt,
          mintedBy: lease.mintUntil,
        }
        return withDeadline(timeoutMs, () => provider.revoke(handle, timeoutMs, about))
      }),
    verify,
    confirm: async (lease, stillMine) => (provider.verify ? revokes.run(() => (stillMine() ? verify(lease) : 'lost')) : undefined),
    list: provider.list && (() => listed(provider, timeoutMs)),
    orGiveBack: ({ handle }, written) =>
      written.catch(async (error: unknown) => {
        if (provider.handle === 'returned' && handle) await withDeadline(timeoutMs, () => provider.revoke(handle, timeoutMs)).catch(() => undefined)
        throw error
      }),
    freeRevokes: () => (needsNoCall ? IN_PROCESS_REVOKES : revokes.free()),
    revokeRoom: () => revokes.room(),
    state: () => (breaker.state === CircuitState.Closed ? 'closed' : breaker.state === CircuitState.HalfOpen ? 'half-open' : 'open'),
    close: () => provider.close(),
  }
}

async function* listed(provider: Provider, timeoutMs: number): AsyncGenerator<Listed, void> {
  const steps = provider.list?.()[Symbol.asyncIterator]()
  if (!steps) return
  let waiting = false
  try {
    for (;;) {
      waiting = true
      const { done, value } = await withDeadline(timeoutMs, () => steps.next()).catch((error: unknown) => Promise.reject(asProviderError(error)))
      waiting = false
      if (done) return
      yield value
    }
  } finally {
    // Of one that hangs nobody waits for the end.
    if (!waiting) await steps.return?.()
  }
}

/** What an upstream answers may be anything, and no reader of it throws more than that. */
function asProviderError(error: unknown): ProviderError {
  if (error instanceof ProviderError) return error
  return new ProviderError('broken', 'what the upstream answered cannot be read', { cause: error })
}

/** Causes by which a lease ends with its task: nothing is ever issued for that task again. */
const ENDS_TASK: ReadonlySet<Cause> = new Set(['task_completed', 'task_failed', 'task_cancelled', 'task_expired', 'task_revoked', 'heartbeat_missed'])

/** What a provider plans whose handle only the mint knows. */
function isUnknown(provider: Provider, handle: Handle): boolean {
  return provider.handle === 'returned' && Object.keys(handle).length === 0
}

function sealerOf(sealer: Sealer | undefined): Sealer {
  if (!sealer) throw new ProviderError('broken', 'handles of this provider are kept encrypted: the configuration needs "sealing"')
  return sealer
}

/** Whether a mint that failed so made nothing for certain: the upstream answered, and said no. */
export function madeNothing(error: unknown): boolean {
  const cause = error instanceof MayflyError ? error.cause : error
  return cause instanceof ProviderError && ['refused', 'invalid', 'throttled'].includes(cause.kind)
}

/** A provider bounds its own calls; this is the backstop for one that does not come back at all. */
async function withDeadline<T>(ms: number, run: () => Promise<T>): Promise<T> {
  if (ms <= 0) throw new ProviderError('timeout', 'the time for this call was over before it began')
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ProviderError('timeout', `the upstream did not answer within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([run(), late])
  } finally {
    clearTimeout(timer)
  }
}

/** What the caller is told of an upstream's trouble: which provider and what kind, never the upstream's words. */
function asMayflyError(name: string, error: unknown): unknown {
  if (error instanceof BrokenCircuitError)
    return new MayflyError('provider_failed', `provider "${name}" failed repeatedly and is given time to recover`, {
      retryAfterSeconds: 1,
      cause: error,
    })
  if (error instanceof BulkheadRejectedError)
    return new MayflyError('overloaded', `provider "${name}" has too many mints waiting`, { retryAfterSeconds: 1, cause: error })
  if (!(error instanceof ProviderError)) return error
  if (error.kind === 'timeout')
    return new MayflyError('provider_timeout', `provider "${name}" did not answer in time`, { internal: error.message, cause: error })
  if (error.kind === 'invalid')
    return new MayflyError('request_invalid', `provider "${name}" refused the request: ${error.message}`, { cause: error })
  return new MayflyError('provider_failed', `provider "${name}" could not do it (${error.kind})`, {
    internal: error.message,
    retryAfterSeconds: 1,
    cause: error,
  })
}
