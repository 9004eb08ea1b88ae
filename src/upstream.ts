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
import type { Handle } from './types.js'

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
  renew(handle: Handle, expiresAt: number): Promise<void>
  /** Waits for a free place; `stillMine` is asked once it has one, and a claim that was lost meanwhile is not carried out. */
  revoke(handle: Handle, stillMine: () => boolean): Promise<'revoked' | 'absent' | 'lost'>
  /** Revokes that could start now. */
  freeRevokes(): number
  state(): 'closed' | 'open' | 'half-open'
  close(): Promise<void>
}

export interface UpstreamOptions {
  readonly name: string
  readonly concurrency: number
  readonly timeoutMs: number
}

/** Mints that may wait for a place: beyond it the caller is told to come again rather than kept waiting past its deadline. */
const MINT_QUEUE_PER_PLACE = 8
/** Where a revoke needs no call to the upstream, this much may be settled at once. */
const IN_PROCESS_REVOKES = 500
const BREAKER_FAILURES = 5
const BREAKER_INITIAL_MS = 500
const BREAKER_MAX_MS = 15_000

export function createUpstream(provider: Provider, options: UpstreamOptions): Upstream {
  const { name, concurrency, timeoutMs } = options
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
  const revokes = bulkhead(concurrency, Number.POSITIVE_INFINITY)
  const needsNoCall = provider.inProcess || provider.revocation === 'at-expiry'

  /** Through the bulkhead and the circuit, with trouble in the caller's words. */
  const guarded = <T>(run: () => Promise<T>): Promise<T> => mints.execute(run).catch((error: unknown) => Promise.reject(asMayflyError(name, error)))
  const mint = (request: MintRequest<unknown>): Promise<Minted> => {
    // Nothing is asked of anybody: there is nobody to protect.
    if (provider.inProcess) return provider.mint(request).catch((error: unknown) => Promise.reject(asMayflyError(name, error)))
    return guarded(() => withDeadline(request.deadlineMs, () => provider.mint(request)))
  }
  return {
    name,
    provider,
    timeoutMs,
    mint,
    renew: (handle, expiresAt) =>
      guarded(async () => {
        if (!provider.renew) throw new ProviderError('invalid', 'this provider cannot extend a credential')
        await withDeadline(timeoutMs, () => provider.renew?.(handle, expiresAt, timeoutMs) ?? Promise.resolve())
      }),
    revoke: (handle, stillMine) =>
      revokes.execute(async () => (stillMine() ? withDeadline(timeoutMs, () => provider.revoke(handle, timeoutMs)) : 'lost')),
    freeRevokes: () => (needsNoCall ? IN_PROCESS_REVOKES : revokes.executionSlots),
    state: () => (breaker.state === CircuitState.Closed ? 'closed' : breaker.state === CircuitState.HalfOpen ? 'half-open' : 'open'),
    close: () => provider.close(),
  }
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
