import { Agent, request } from 'node:https'
import type { Answer } from './broker.js'
import type { Made } from './certificates.js'

export interface MtlsCaller {
  /** One request; on the connection of the one before, where that is still open. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** How many connections were made so far. */
  connections(): number
  close(): void
}

/** A caller over TLS with a client certificate of its own, or with none; `above` are sent with it. */
export function mtlsCaller(url: string, serverAuthority: Made, certificate?: Pick<Made, 'pem' | 'key'>, above: readonly Made[] = []): MtlsCaller {
  const sockets = new Set<unknown>()
  const agent = new Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: serverAuthority.pem,
    ...(certificate && { cert: [certificate, ...above].map(({ pem }) => pem).join(''), key: certificate.key }),
  })
  return {
    call: (method, path, body, headers = {}) =>
      new Promise((resolve, reject) => {
        const content = body === undefined ? undefined : JSON.stringify(body)
        const asked = request(
          `${url}${path}`,
          { method, agent, headers: { ...(content !== undefined && { 'content-type': 'application/json' }), ...headers } },
          (answer) => {
            let text = ''
            answer.setEncoding('utf8').on('data', (chunk) => {
              text += chunk
            })
            answer.on('error', reject).on('end', () =>
              resolve({
                status: answer.statusCode ?? 0,
                headers: new Headers(Object.entries(answer.headers).map(([name, value]): [string, string] => [name, String(value)])),
                body: text === '' ? undefined : JSON.parse(text),
              }),
            )
          },
        )
        asked.on('socket', (socket) => sockets.add(socket))
        asked.on('error', reject).end(content)
      }),
    connections: () => sockets.size,
    close: () => agent.destroy(),
  }
}
