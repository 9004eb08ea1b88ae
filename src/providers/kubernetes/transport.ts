import type { HttpMethod, RequestContext, ResponseContext } from '@kubernetes/client-node'
import type { Deadline } from '../deadline.js'
import type { Way } from './config.js'
import { asProviderError, Refused, statusOf } from './error.js'

export interface Limits {
  readonly timeoutMs: number
  readonly connections: number
}
/**
 * The client library's HTTP library: its own has no deadline and no bound for an answer, follows redirects, and makes of a refusal an error
 * that holds the whole answer.
 */
export interface Transport {
  /** One attempt, no redirects. @throws ProviderError; Refused for every answer but a yes */
  send(request: RequestContext, time: Deadline, signal: AbortSignal): Promise<ResponseContext>
  close(): Promise<void>
}

const LARGEST_ANSWER = 8_388_608
const JSON_TYPE = 'application/json'

export async function openTransport(tls: Way['tls'], { timeoutMs, connections }: Limits): Promise<Transport> {
  const [{ Agent, request }, { ResponseContext }] = await Promise.all([import('undici'), import('@kubernetes/client-node')])
  const dispatcher = new Agent({
    connections,
    connect: { ...tls, timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: LARGEST_ANSWER,
  })
  return {
    async send(asked, time, signal) {
      const method: `${HttpMethod}` = asked.getHttpMethod()
      const body = asked.getBody()
      const headers = { ...asked.getHeaders(), Accept: JSON_TYPE, 'User-Agent': 'mayfly' }
      // The server's own end of it, from its arrival: what waits in the server's queues is not carried out later.
      asked.setQueryParam('timeout', `${time.left()}ms`)
      try {
        const answer = await request(asked.getUrl(), { method, headers, body: typeof body === 'string' ? body : undefined, dispatcher, signal })
        const text = await answer.body.text()
        const status = answer.statusCode
        if (status < 200 || status > 299) throw new Refused(status, statusOf(text))
        return new ResponseContext(status, { 'content-type': JSON_TYPE }, { text: async () => text, binary: async () => Buffer.from(text) })
      } catch (error) {
        throw error instanceof Refused ? error : asProviderError(error)
      }
    },
    close: () => dispatcher.destroy(),
  }
}
