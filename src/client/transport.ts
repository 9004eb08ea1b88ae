import { errorOf, type MayflyApiError, MayflyUnreachableError } from './error.js'

export interface TransportOptions {
  /** Of the broker, with a path when it is served below one. */
  readonly url: string | URL
  /**
   * The workload token, or where to get it: asked before each request, because tokens rotate. With `fresh`, one that the issuer makes now: a
   * renewal is refused (`token_not_fresh`) with a token that was issued before the last one, wherever it was kept. Absent: the certificate of the
   * connection says who is calling; `fetch` is then one that shows it.
   */
  readonly token?: string | ((need: TokenNeed) => string | Promise<string>)
  readonly fetch?: typeof globalThis.fetch
  /** For one call with its retries; 30,000 when absent. */
  readonly timeoutMs?: number
}
/** What the next request needs of its token. */
export interface TokenNeed {
  readonly fresh: boolean
}
export interface CallOptions {
  readonly signal?: AbortSignal
}
export interface Call extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | undefined>>
  /** A function is asked before each attempt: what it holds may have to be new each time. */
  readonly body?: object | (() => Promise<object>)
  readonly headers?: Readonly<Record<string, string>>
  /** True: doing it twice is doing it once, so that a request whose answer never came may be sent again. */
  readonly repeatable: boolean
  /** How its answer is read: JSON when absent. */
  readonly as?: 'text'
  /** It takes a token that was issued for it. */
  readonly freshToken?: boolean
  /** Seconds that the broker was asked to wait before it answers: added to the time allowed. */
  readonly waitSeconds?: number
}
/** A human's token, or where to get it: asked before each request, because such tokens are short-lived, and a renewal takes a newer one. */
export type HumanToken = string | (() => string | Promise<string>)

/** On whose behalf a request is. */
export interface OnBehalfOf {
  /** A token of the human that lets this very caller act. */
  readonly onBehalfOf?: HumanToken
}

/** A body with the human's token in it, where there is one. */
export function withHuman(body: object, onBehalfOf: HumanToken | undefined): object | (() => Promise<object>) {
  if (onBehalfOf === undefined) return body
  return async () => ({ ...body, on_behalf_of: (typeof onBehalfOf === 'function' ? await onBehalfOf() : onBehalfOf).trim() })
}

export type Transport = <Answer>(call: Call) => Promise<Answer>

const DEFAULT_TIMEOUT_MS = 30_000
const MOST_RETRIES = 2
const FIRST_PAUSE_MS = 100
/** A broker that asks for more patience than this is answered with its own error. */
const LONGEST_PAUSE_MS = 10_000

export function createTransport(options: TransportOptions): Transport {
  const base = baseOf(options.url)
  const fetch = options.fetch ?? globalThis.fetch
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS

  const bearer = async (fresh: boolean): Promise<string | undefined> => {
    if (options.token === undefined) return undefined
    const token = (typeof options.token === 'function' ? await options.token({ fresh }) : options.token).trim()
    if (!/^[\x21-\x7e]+$/.test(token)) throw new TypeError('the token is empty or holds characters that no token has')
    return `Bearer ${token}`
  }
  const once = async (call: Call, authorization: string | undefined, content: object | undefined, signal: AbortSignal): Promise<Response> => {
    const headers = new Headers({ accept: 'application/json', ...call.headers, ...(authorization !== undefined && { authorization }) })
    if (content !== undefined) headers.set('content-type', 'application/json')
    const body = content === undefined ? undefined : JSON.stringify(content)
    // A redirect would carry the token to wherever it points.
    const request = { method: call.method, headers, body, signal, redirect: 'manual' as const }
    return fetch(targetOf(base, call), request).catch((cause: unknown) => {
      throw new MayflyUnreachableError(`no answer from ${base.origin}: ${reasonOf(cause)}`, { cause })
    })
  }

  return async <Answer>(call: Call): Promise<Answer> => {
    const allowedMs = timeoutMs + (call.waitSeconds ?? 0) * 1000
    const expiry = AbortSignal.timeout(allowedMs)
    const signal = call.signal ? AbortSignal.any([call.signal, expiry]) : expiry
    try {
      for (let retries = 0; ; retries++) {
        const authorization = await bearer(call.freshToken ?? false)
        const content = typeof call.body === 'function' ? await call.body() : call.body
        const outcome = await attempt<Answer>(() => once(call, authorization, content, signal), call.as)
        if ('answer' in outcome) return outcome.answer
        const pauseMs = call.repeatable && retries < MOST_RETRIES ? pauseBefore(outcome.error, retries) : undefined
        if (pauseMs === undefined || signal.aborted) throw outcome.error
        await pause(pauseMs, signal)
      }
    } catch (error) {
      call.signal?.throwIfAborted()
      if (expiry.aborted) throw new MayflyUnreachableError(`no answer from ${base.origin} within ${allowedMs} ms`, { cause: error })
      throw error
    }
  }
}

async function attempt<Answer>(
  send: () => Promise<Response>,
  as?: 'text',
): Promise<{ answer: Answer } | { error: MayflyApiError | MayflyUnreachableError }> {
  try {
    const response = await send()
    if (!response.ok) return { error: await errorOf(response) }
    return { answer: (await (as === 'text' ? response.text() : response.json())) as Answer }
  } catch (error) {
    if (error instanceof MayflyUnreachableError) return { error }
    if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error
    const detail = 'the answer could not be read: it was cut off or is not JSON'
    return { error: new MayflyUnreachableError(detail, { cause: error }) }
  }
}

/** How long to wait before the same request is sent again; `undefined`: never. */
function pauseBefore(error: MayflyApiError | MayflyUnreachableError, retries: number): number | undefined {
  if (error instanceof MayflyUnreachableError) return FIRST_PAUSE_MS * 2 ** retries * (0.5 + Math.random())
  if (error.status !== 503 || error.retryAfterSeconds === undefined) return undefined
  const asked = error.retryAfterSeconds * 1000
  // Not before, and not all of those who were told the same at once.
  return asked <= LONGEST_PAUSE_MS ? asked * (1 + Math.random() / 4) : undefined
}

export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    }, ms)
    signal.addEventListener('abort', abort, { once: true })
  })
}

function baseOf(url: string | URL): URL {
  const base = new URL(url)
  if (base.protocol !== 'https:' && base.protocol !== 'http:') throw new TypeError(`the broker's URL must be https: or http:, not ${base.protocol}`)
  if (!base.pathname.endsWith('/')) base.pathname += '/'
  return base
}

function targetOf(base: URL, { path, query = {} }: Call): URL {
  const target = new URL(path, base)
  for (const [name, value] of Object.entries(query)) if (value !== undefined) target.searchParams.set(name, String(value))
  return target
}

/** undici hides what happened in `cause`. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { cause } = error
  if (cause instanceof AggregateError && cause.errors[0] instanceof Error) return cause.errors[0].message
  return cause instanceof Error ? cause.message : error.message
}
