import type { Dispatcher } from 'undici'
import { ProviderError } from './provider.js'

/** One HTTP request and its whole answer: one attempt, no redirects, of bounded size. */
export interface Exchange {
  /** @throws ProviderError `timeout`, `unreachable`, or `broken` when the answer is larger than the limit */
  send(request: ExchangeRequest): Promise<ExchangeAnswer>
  close(): Promise<void>
}
export interface ExchangeRequest {
  readonly url: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal?: AbortSignal
}
export interface ExchangeAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly body: string
}
export interface ExchangeOptions {
  /** For each step of an exchange; its whole is the caller's to bound, with the signal. */
  readonly timeoutMs: number
  readonly maxBytes: number
  /** Certificates to trust instead of the usual ones, PEM. */
  readonly ca?: string
}

export async function openExchange({ timeoutMs, maxBytes, ca }: ExchangeOptions): Promise<Exchange> {
  const { Agent, request } = await import('undici')
  const agent = new Agent({
    connect: { timeout: timeoutMs, ...(ca === undefined ? {} : { ca }) },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: maxBytes,
    pipelining: 1,
  })
  return {
    async send({ url, ...asked }) {
      const init: Omit<Dispatcher.RequestOptions, 'origin' | 'path'> = { ...asked, headers: { ...asked.headers } }
      try {
        const { statusCode: status, headers, body } = await request(url, { ...init, dispatcher: agent })
        return { status, headers, body: await body.text() }
      } catch (error) {
        throw asProviderError(error)
      }
    },
    close: () => agent.destroy(),
  }
}

/** undici's own codes; what hangs on its errors may hold the request, and with it a secret. */
const TIMEOUTS = ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_ABORTED', 'ABORT_ERR', 'ETIMEDOUT']
function asProviderError(error: unknown): ProviderError {
  const told = Object(error).code ?? Object(error).name
  const code = typeof told === 'string' || typeof told === 'number' ? String(told) : 'unknown'
  const cause = new Error(code)
  if (TIMEOUTS.includes(code) || ['AbortError', 'TimeoutError'].includes(Object(error).name))
    return new ProviderError('timeout', 'the upstream did not answer in time', { cause })
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') return new ProviderError('broken', 'the upstream answered with more than is read', { cause })
  return new ProviderError('unreachable', `the upstream could not be reached, or broke off (${code})`, { cause })
}
