import { Pool } from 'undici'
import { checkedLookup, checkUrl, type OutboundRules } from './outbound.js'

/** One configured address, asked often: under the rules of `outbound.ts`, over connections that are kept. */
export interface Channel {
  /** POSTs, and reads the whole answer, whatever its status. @throws Error that names no more than the address */
  post(request: { readonly path: string; readonly headers: Readonly<Record<string, string>>; readonly body: string }): Promise<Answer>
  close(): Promise<void>
}
interface Answer {
  readonly status: number
  readonly text: string
}
export interface ChannelRules extends Pick<OutboundRules, 'allowHttpLoopback' | 'allowPrivateAddresses' | 'ca'> {
  /** For the whole exchange, waiting for a connection included. */
  readonly timeoutMs: number
  /** At once; what comes beyond waits. */
  readonly connections: number
  readonly maxBytes: number
}

/** It did not answer in time. */
export class LateAnswer extends Error {
  override readonly name = 'LateAnswer'
}

/** Each new connection goes to an address that was checked for it. No redirect is followed. @throws Error for an address that is never asked */
export function openChannel(address: string, rules: ChannelRules): Channel {
  const { connections, maxBytes: maxResponseSize, timeoutMs, ca } = rules
  const url = checkUrl(address, rules)
  const connect = { lookup: checkedLookup(url, rules), ca, timeout: timeoutMs }
  const pool = new Pool(url.origin, { connections, pipelining: 1, maxResponseSize, connect })

  const send = async (request: Parameters<Channel['post']>[0], signal: AbortSignal): Promise<Answer> => {
    const { statusCode, body } = await pool.request({ ...request, method: 'POST', signal })
    return { status: statusCode, text: await body.text() }
  }
  return {
    async post(request) {
      const deadline = AbortSignal.timeout(timeoutMs)
      try {
        return await send(request, deadline).catch((error: unknown) => {
          // It closed a connection that had been idle, as we used it: that is no answer.
          if (!deadline.aborted && Object(error).code === 'UND_ERR_SOCKET') return send(request, deadline)
          throw error
        })
      } catch (error) {
        if (deadline.aborted) throw new LateAnswer(`${url.origin} did not answer in ${timeoutMs} ms`, { cause: error })
        throw new Error(`${url.origin}: ${wordOf(error)}`, { cause: error })
      }
    },
    close: () => pool.destroy(),
  }
}

function wordOf(error: unknown): string {
  const { code, message } = Object(error) as { code?: unknown; message?: unknown }
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') return 'answered with more than is read'
  if (typeof code === 'string') return `could not be reached, or broke off (${code})`
  return typeof message === 'string' ? message : 'unknown'
}
