import type { Reply } from './request-context.js'
import type { RawAnswer, Route } from './route.js'

const NOT_MODIFIED = 304

/** What every answer says. Nothing of ours is cached unless a route says so: most of it is a secret or changes by the second. */
export function writeAnswer(response: Reply, status: number, body: string | Uint8Array, headers: Readonly<Record<string, string>>): void {
  if (response.destroyed || response.headersSent) return
  response.writeHead(status, {
    // RFC 9110 §8.6: the length of an answer without content would be that of another one.
    ...(status !== NOT_MODIFIED && { 'content-length': Buffer.byteLength(body) }),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-request-id': response.locals.exchange?.context.requestId,
    ...headers,
  })
  response.end(body)
}

/** An answer as its route declares it. */
export function sendAnswer(response: Reply, { contentType = 'application/json' }: Route, { status, body, headers }: RawAnswer): void {
  const content = typeof body === 'string' || body instanceof Uint8Array ? body : (JSON.stringify(body) ?? '')
  writeAnswer(response, status, content, headers ? { 'content-type': contentType, ...headers } : { 'content-type': contentType })
}
