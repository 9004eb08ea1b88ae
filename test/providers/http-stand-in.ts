import { createServer as createPlain, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTls } from 'node:https'

/** A service that answers one thing, whatever it is asked, and remembers what that was. */
export interface StandIn {
  readonly port: number
  readonly asked: { readonly path: string; readonly headers: IncomingMessage['rawHeaders']; readonly body: string }[]
  answer: Answering
  /** For requests without a token, where that is another. */
  unsigned?: Answering
  stop(): Promise<void>
}
export interface Answering {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

export async function startStandIn(tls?: { readonly key: string; readonly cert: string }): Promise<StandIn> {
  const asked: StandIn['asked'] = []
  const listener: RequestListener = async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    asked.push({ path: request.url ?? '', headers: request.rawHeaders, body: Buffer.concat(chunks).toString() })
    const { status = 200, headers = {}, body } = (request.headers.authorization === undefined && self.unsigned) || self.answer
    const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text)
  }
  const server = tls ? createTls(tls, listener) : createPlain(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const self: StandIn = {
    port,
    asked,
    answer: {},
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return self
}
