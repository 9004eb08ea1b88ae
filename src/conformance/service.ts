import { REQUEST_TOKEN_TYPE, requestClaims } from '../providers/http/request-token.js'
import { JSON_TYPE, MAX_ANSWER_BYTES, type Operation, PROBLEM_TYPE, type ProblemKind, problem } from '../providers/http/wire.js'
import type { Signer } from '../providers/provider.js'

/** What came back, whatever it is. Its text may hold a secret: it is judged, and never shown. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly text: string
  /** The text as JSON, if it is that. */
  readonly json: unknown
  /** What a problem document says it is. */
  readonly kind: ProblemKind | undefined
}

/** How a request is made otherwise than Mayfly would. */
export interface Twist {
  claims?(claims: Readonly<Record<string, unknown>>): Record<string, unknown>
  readonly typ?: string
  /** Another key, of the same issuer's name. */
  readonly signer?: Signer
  /** Another token in place of the honest one; undefined: none. */
  token?(honest: string, claims: Readonly<Record<string, unknown>>): string | undefined
  /** Sent in place of the body that was signed. */
  readonly sent?: string | Buffer
  readonly contentType?: string
  readonly method?: 'POST' | 'GET'
  /** Hangs up after this many milliseconds, answered or not. */
  readonly hangUpAfterMs?: number
}

/** The connection failed, or nothing came in time. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
}

export interface Service {
  send(operation: Operation, body: unknown, twist?: Twist): Promise<Answer>
  /** The very same bytes, as often as asked for. */
  replay(operation: Operation, body: unknown, times: number): Promise<Answer[]>
  close(): Promise<void>
}

export interface ServiceOptions {
  readonly url: string
  readonly audience: string
  readonly ca?: string
  readonly signer: Signer
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

const CONNECTIONS = 8

export async function openService({ url, audience, ca, signer, timeoutMs, signal }: ServiceOptions): Promise<Service> {
  const { Pool } = await import('undici')
  const { origin, pathname } = new URL(url)
  const pool = new Pool(origin, { connections: CONNECTIONS, pipelining: 1, allowH2: false, connect: { ca }, maxResponseSize: MAX_ANSWER_BYTES })

  const signed = async (operation: Operation, body: string | Buffer, { claims: twisted, typ = REQUEST_TOKEN_TYPE, signer: other, token }: Twist) => {
    const honest = { ...requestClaims(audience, operation, body) }
    const claims = twisted?.(honest) ?? honest
    const jws = await (other ?? signer).sign(claims, { typ })
    return token === undefined ? jws : token(jws, { iss: signer.issuer, ...claims })
  }
  const post = async (operation: Operation, body: string | Buffer, jws: string | undefined, twist: Twist): Promise<Answer> => {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(twist.hangUpAfterMs ?? timeoutMs)])
    const headers = {
      'content-type': twist.contentType ?? JSON_TYPE,
      accept: `${JSON_TYPE}, ${PROBLEM_TYPE}`,
      ...(jws && { authorization: `Bearer ${jws}` }),
    }
    const method = twist.method ?? 'POST'
    try {
      const path = `${pathname.replace(/\/$/, '')}/${operation}`
      const answer = await pool.request({ method, path, headers, body: method === 'GET' ? undefined : body, signal: limit })
      const text = await answer.body.text()
      return answerOf(answer.statusCode, answer.headers['content-type'], text)
    } catch (error) {
      signal.throwIfAborted()
      if (limit.aborted) throw new NoAnswer(`no answer within ${timeoutMs} ms`)
      throw new NoAnswer(typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'the connection failed')
    }
  }

  return {
    async send(operation, asked, twist = {}) {
      const body = bytesOf(asked)
      return post(operation, twist.sent ?? body, await signed(operation, body, twist), twist)
    },
    async replay(operation, asked, times) {
      const body = bytesOf(asked)
      const jws = await signed(operation, body, {})
      const answers: Answer[] = []
      for (let time = 0; time < times; time++) answers.push(await post(operation, body, jws, {}))
      return answers
    },
    close: () => pool.destroy(),
  }
}

function bytesOf(body: unknown): string | Buffer {
  return typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
}

function answerOf(status: number, contentType: string | string[] | undefined, text: string): Answer {
  const type = ([contentType].flat()[0]?.split(';')[0] ?? '').trim().toLowerCase()
  const json = parsed(text)
  const said = type === PROBLEM_TYPE ? problem.safeParse(json) : undefined
  return { status, type, text, json, kind: said?.success ? said.data.kind : undefined }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
