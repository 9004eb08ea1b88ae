import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'

/**
 * The management API, https://www.rabbitmq.com/docs/http-api-reference. There is no official client of it for Node: these are the few
 * requests that are needed.
 */
export interface Api {
  /** The answer to one request, sent once; its body parsed where there is one. */
  ask(time: Deadline, method: Method, path: readonly string[], body?: unknown): Promise<Answer>
  close(): Promise<void>
}
type Method = 'GET' | 'PUT' | 'DELETE'
/** No other status says that it is done: what stands between may have a page of its own for everything. */
const DONE: Readonly<Record<Method, readonly number[]>> = { GET: [200], PUT: [201, 204], DELETE: [204] }
export interface Answer {
  /** `false`: there is nothing of that name. */
  readonly found: boolean
  readonly body: unknown
}

interface Options {
  readonly url: string
  readonly ca?: string
  readonly connections: number
  readonly timeoutMs: number
}

/** Names of all users of a broker, with room to spare. */
const MAX_BYTES = 64 * 1024 * 1024
const KEEP_ALIVE_MS = 4000

export async function openApi({ url, ca, connections, timeoutMs }: Options): Promise<Api> {
  const { Agent, request } = await import('undici')
  const { origin, pathname, username, password } = new URL(url)
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  const headers = { authorization: `Basic ${Buffer.from(login).toString('base64')}`, 'content-type': 'application/json' }
  // Timeouts of a request are its deadline's; these only keep a connection from lingering.
  const dispatcher = new Agent({
    connections,
    pipelining: 1,
    connect: { timeout: timeoutMs, ...(ca === undefined ? {} : { ca }) },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxResponseSize: MAX_BYTES,
  })
  return {
    async ask(time, method, path, body) {
      const address = `${origin}${pathname.replace(/\/$/, '')}/api/${path.map(encodeURIComponent).join('/')}`
      // Names are all that is ever looked at; of users, hashes of passwords would come along.
      const where = method === 'GET' ? `${address}?columns=name,tags,rabbitmq_version` : address
      const send = async (signal: AbortSignal) => {
        const answer = await request(where, { dispatcher, method, headers, signal, body: body === undefined ? null : JSON.stringify(body) })
        return { status: answer.statusCode, text: await answer.body.text() }
      }
      const { status, text } = await within(time, send).catch((error: unknown) => {
        throw asProviderError(error)
      })
      if (status === 404) return { found: false, body: undefined }
      if (!DONE[method].includes(status)) throw refusalOf(status)
      return { found: true, body: text === '' ? undefined : parsed(text) }
    },
    close: () => dispatcher.destroy(),
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ProviderError('broken', 'RabbitMQ did not answer as its management API does')
  }
}

type Kind = ProviderError['kind']
const FULL = ['throttled', 'the management API of RabbitMQ has too much to do'] as const
const BY_STATUS: Readonly<Record<number, readonly [Kind, string]>> = {
  400: ['invalid', 'RabbitMQ refused a value: the virtual host does not exist, or the user was taken back meanwhile'],
  401: ['refused', "RabbitMQ refused the broker's own login: check the url's user and password, and that the user has the tag administrator"],
  403: ['refused', "the broker's RabbitMQ user lacks the tag administrator: see docs/providers/rabbitmq.md"],
  429: FULL,
  503: FULL,
}
function refusalOf(status: number): ProviderError {
  const [kind, message] = BY_STATUS[status] ?? ['broken', `the management API of RabbitMQ answered with status ${status}`]
  return new ProviderError(kind, message)
}

const codeShape = z.object({ code: z.string() })
function asProviderError(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const code = codeShape.safeParse(thrown).data?.code ?? 'unknown'
  // Not the error itself: it may hold the request.
  const cause = new Error(code)
  if (/TIMEOUT$|ETIMEDOUT/.test(code)) return new ProviderError('timeout', 'the management API of RabbitMQ did not answer in time', { cause })
  return new ProviderError('unreachable', 'the management API of RabbitMQ could not be reached', { cause })
}
