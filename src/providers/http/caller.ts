import { type Deadline, within } from '../deadline.js'
import { ProviderError, type Signer } from '../provider.js'
import { REQUEST_TOKEN_TYPE, requestClaims } from './request-token.js'
import {
  type AnswerOf,
  JSON_TYPE,
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  OPERATIONS,
  type Operation,
  PROBLEM_TYPE,
  type ProblemKind,
  problem,
  type RequestOf,
} from './wire.js'

/** Signed calls to one service; each is one attempt, inside its deadline. */
export interface Caller {
  call<O extends Operation>(operation: O, request: RequestOf<O>, time: Deadline): Promise<AnswerOf<O>>
  /** The same without a signature: a service must answer 401. */
  callUnsigned(operation: Operation, time: Deadline): Promise<Raw>
  /** Milliseconds that the service's clock was ahead when it last answered, if it says (RFC 9110 §6.6.1; whole seconds). */
  clockAhead(): number | undefined
  close(): Promise<void>
}
export interface Raw {
  readonly status: number
  readonly type: string
  readonly text: string
}
export interface CallerOptions {
  readonly url: string
  readonly audience: string
  readonly ca?: string
  readonly connections: number
  readonly timeoutMs: number
  readonly signer: Signer
  readonly now: () => number
}

const MAX_HEADER_BYTES = 16_384

export async function openCaller({ url, audience, ca, connections, timeoutMs, signer, now }: CallerOptions): Promise<Caller> {
  const { Pool } = await import('undici')
  const { origin, pathname } = new URL(url)
  // A pool of its own and no dispatcher of the process: no proxy of the environment, no interceptor, no redirect, no repeats.
  const pool = new Pool(origin, {
    connections,
    pipelining: 1,
    allowH2: false,
    connect: { ca, timeout: timeoutMs, rejectUnauthorized: true },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxHeaderSize: MAX_HEADER_BYTES,
    maxResponseSize: MAX_ANSWER_BYTES,
  })
  let ahead: number | undefined

  const send = (operation: Operation, body: string, authorization: Record<string, string>, time: Deadline): Promise<Raw> =>
    within(time, async (signal) => {
      const path = `${pathname.replace(/\/$/, '')}/${operation}`
      // All that is ever sent, besides Host and Content-Length.
      const headers = { ...authorization, 'content-type': JSON_TYPE, accept: `${JSON_TYPE}, ${PROBLEM_TYPE}`, 'accept-encoding': 'identity' }
      const answer = await pool.request({ method: 'POST', path, headers, body, signal })
      const text = await answer.body.text()
      const { date, 'content-type': type, 'content-encoding': encoding } = answer.headers
      if (encoding !== undefined && encoding !== 'identity') throw new ProviderError('broken', 'the service answered with a compressed body')
      if (typeof date === 'string') ahead = Date.parse(date) - now()
      return { status: answer.statusCode, type: typeof type === 'string' ? (type.split(';')[0] ?? '').trim().toLowerCase() : '', text }
    }).catch((error: unknown) => Promise.reject(troubleOf(error)))

  return {
    async call(operation, request, time) {
      const body = JSON.stringify(request)
      if (Buffer.byteLength(body) > MAX_REQUEST_BYTES)
        throw new ProviderError(
          'invalid',
          `the request would be larger than ${MAX_REQUEST_BYTES} bytes: the parameters, the scope or a name are too long`,
        )
      const token = await signer.sign({ ...requestClaims(audience, operation, body, now()) }, { typ: REQUEST_TOKEN_TYPE })
      const raw = await send(operation, body, { authorization: `Bearer ${token}` }, time)
      return answerOf(operation, raw, audience)
    },
    callUnsigned: (operation, time) => send(operation, '{}', {}, time),
    clockAhead: () => ahead,
    // Not `close`: that waits for answers that nobody wants any more.
    close: () => pool.destroy(),
  }
}

function answerOf<O extends Operation>(operation: O, { status, type, text }: Raw, audience: string): AnswerOf<O> {
  if (status !== 200) throw refusalOf(status, type, text, audience)
  if (type !== JSON_TYPE) throw new ProviderError('broken', `the service answered ${operation} with another content type than ${JSON_TYPE}`)
  const answer = OPERATIONS[operation].answer.safeParse(parsed(text))
  if (answer.success) return answer.data as AnswerOf<O>
  // The first two steps of the path alone: they are the contract's own words, and what is below them may be a secret.
  const where = answer.error.issues.map(({ path, code }) => (code === 'unrecognized_keys' ? 'a field too many' : path.slice(0, 2).join('.')))
  const what = [...new Set(where)].join(', ') || 'all of it'
  throw new ProviderError('broken', `the service answered ${operation} in another form than docs/providers/http.md says: ${what}`)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ProviderError('broken', 'the service answered with what is not JSON')
  }
}

type Kind = ProviderError['kind']
const BY_KIND: Readonly<Record<ProblemKind, readonly [Kind, string]>> = {
  throttled: ['throttled', 'the service has too much to do'],
  refused: ['refused', 'the service refused it: its log says why'],
  invalid: ['invalid', 'the service does not take these parameters or this scope: its log says why'],
  late: ['timeout', 'the request arrived at the service after its end, and nothing was made'],
}

/** By what the problem says; else, as from a gateway in between, by its status. Never in its words. */
function refusalOf(status: number, type: string, text: string, audience: string): ProviderError {
  if (status >= 300 && status < 400)
    return new ProviderError('broken', 'the service answered with a redirect, which is not followed: set url to where it leads')
  if (status === 401)
    return new ProviderError(
      'refused',
      `the service does not accept what Mayfly signs: check its issuer, its key set, its audience (it must be ${audience}) and its clock`,
    )
  const said = type === PROBLEM_TYPE ? problem.safeParse(orUndefined(text)) : undefined
  if (said?.success) return new ProviderError(...BY_KIND[said.data.kind])
  if (status === 429) return new ProviderError(...BY_KIND.throttled)
  if (status === 502 || status === 503 || status === 504)
    return new ProviderError('unreachable', `the service, or a gateway before it, answered ${status}`)
  if (status === 404 || status === 405)
    return new ProviderError('refused', `the service answered ${status}: check the path of url, and that it has the operations it describes`)
  return new ProviderError(
    status === 403 ? 'refused' : 'broken',
    `the service answered ${status} without a problem document (RFC 9457) that says its kind`,
  )
}

function orUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const CERTIFICATE = /^(CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA)/
function troubleOf(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const code = typeof thrown === 'object' && thrown !== null && 'code' in thrown ? String(thrown.code) : 'unknown'
  // Its code alone: what undici throws may hold the answer, or the connection.
  const cause = new Error(code)
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE')
    return new ProviderError('broken', `the service answered with more than ${MAX_ANSWER_BYTES} bytes`, { cause })
  if (code.startsWith('HPE_')) return new ProviderError('broken', 'what answered does not speak HTTP', { cause })
  if (CERTIFICATE.test(code))
    return new ProviderError('unreachable', `the certificate of the service is not accepted (${code}): check the name in url, and ca`, { cause })
  return new ProviderError('unreachable', 'the service could not be reached, or hung up', { cause })
}
