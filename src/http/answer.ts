import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Reply } from './request-context.js'
import type { RawAnswer, Route } from './route.js'

const NOT_MODIFIED = 304

/** What every answer says. Nothing of ours is cached unless a route says so: most of it is a secret or changes by the second. */
export function writeAnswer(response: Reply, status: number, body: string | Uint8Array, headers: Readonly<Record<string, string>>): void {
  if (response.destroyed || response.headersSent) return
  // RFC 9110 §8.6: the length of an answer without content would be that of another one.
  const length = status !== NOT_MODIFIED && { 'content-length': Buffer.byteLength(body) }
  response.writeHead(status, { ...length, ...ofEvery(response), ...headers })
  response.end(body)
}

function ofEvery(response: Reply) {
  return { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-request-id': response.locals.exchange?.context.requestId }
}

/** An answer as its route declares it. */
export async function sendAnswer(response: Reply, { contentType = 'application/json' }: Route, { status, body, headers }: RawAnswer): Promise<void> {
  if (isStream(body)) return sendStream(response, status, body, { 'content-type': contentType, ...headers })
  const content = typeof body === 'string' || body instanceof Uint8Array ? body : (JSON.stringify(body) ?? '')
  writeAnswer(response, status, content, headers ? { 'content-type': contentType, ...headers } : { 'content-type': contentType })
}

/** As fast as it is read. What fails in between breaks the connection off: nobody takes the part for the whole. */
async function sendStream(response: Reply, status: number, body: AsyncIterable<string>, headers: Readonly<Record<string, string>>): Promise<void> {
  if (response.destroyed || response.headersSent) return
  response.writeHead(status, { ...ofEvery(response), ...headers })
  if (response.req.method === 'HEAD') return void response.end()
  await pipeline(Readable.from(body, { highWaterMark: 1 }), response).catch((error: unknown) => {
    const said = error instanceof Error ? error.message : 'unknown'
    response.locals.exchange?.house.log.warn({ error: said, route: response.locals.exchange.route?.path }, 'an answer was cut off')
    response.destroy()
  })
}

function isStream(body: unknown): body is AsyncIterable<string> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}
