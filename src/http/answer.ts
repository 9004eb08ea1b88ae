import type { Reply } from './request-context.js'
import type { RawAnswer, Route } from './route.js'

/** What every answer says. Nothing of ours is cached unless a route says so: most of it is a secret or changes by the second. */
export function writeAnswer(response: Reply, status: number, text: string, headers: Readonly<Record<string, string>>): void {
  if (response.destroyed || response.headersSent) return
  response.writeHead(status, {
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-request-id': response.locals.exchange?.context.requestId,
    ...headers,
  })
  response.end(text)
}

/** An answer as its route declares it. */
export function sendAnswer(response: Reply, { contentType = 'application/json' }: Route, { status, body, headers }: RawAnswer): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  writeAnswer(response, status, text, headers ? { 'content-type': contentType, ...headers } : { 'content-type': contentType })
}
