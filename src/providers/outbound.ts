import { openExchange } from './exchange.js'
import { ProviderError } from './provider.js'

/** Exchanges with one upstream for client libraries that take a `fetch`: no redirect is followed, and the whole answer is read before it is given. */
export interface Outbound {
  /** @throws ProviderError */
  fetch(url: string, init: OutboundInit): Promise<Response>
  close(): Promise<void>
}
export interface OutboundInit {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly signal?: AbortSignal
}

const MAX_BYTES = 1024 * 1024
/** https://fetch.spec.whatwg.org/#null-body-status */
const WITHOUT_BODY = [204, 205, 304]
const METHODS = ['GET', 'POST', 'DELETE'] as const

/** `longestMs`: what no call is longer than; its signal says when it ends. */
export async function openOutbound(longestMs: number): Promise<Outbound> {
  const exchange = await openExchange({ timeoutMs: longestMs, maxBytes: MAX_BYTES })
  return {
    async fetch(url, { method: named, headers, body: given, signal }) {
      const method = METHODS.find((one) => one === named)
      if (signal === undefined || method === undefined) throw new ProviderError('invalid', 'a call to an upstream needs a method and an end')
      const answer = await exchange.send({ url, method, headers, body: textOf(given), signal })
      const pairs = Object.entries(answer.headers).flatMap(([name, value = []]) => [value].flat().map((one): [string, string] => [name, one]))
      return new Response(WITHOUT_BODY.includes(answer.status) ? null : answer.body, { status: answer.status, headers: pairs })
    },
    close: exchange.close,
  }
}

/** The ProviderError that a client library has wrapped into one of its own. */
export function wrapped(thrown: unknown): ProviderError | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause) if (error instanceof ProviderError) return error
  return undefined
}

/** https to anywhere, or http to this machine alone; and nothing in it but where to go. */
export function isSafeUrl(text: string, { allowHttpLoopback }: { allowHttpLoopback: boolean }): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, password, search, hash } = new URL(text)
  const isLoopback = /^(127(\.\d{1,3}){3}|\[::1\]|localhost)$/.test(hostname)
  const isBare = [username, password, search, hash].every((part) => part === '') && !/[?#@\s]/.test(text)
  return isBare && (protocol === 'https:' || (protocol === 'http:' && allowHttpLoopback && isLoopback))
}

function textOf(body: unknown): string | undefined {
  if (body === undefined || body === null) return undefined
  if (typeof body === 'string' || body instanceof URLSearchParams) return String(body)
  throw new ProviderError('invalid', 'only text is sent')
}
