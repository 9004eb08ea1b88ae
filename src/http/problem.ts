import type { ErrorRequestHandler, Request } from 'express'
import type { Logger } from 'pino'
import type { Problem } from '../api.js'
import { ERRORS, type ErrorCode, MayflyError } from '../errors.js'
import { event } from '../event.js'
import { writeAnswer } from './answer.js'
import { oauthErrorOf } from './oauth-error.js'
import type { Exchange, Reply } from './request-context.js'

const PROBLEM = 'application/problem+json'

/** The one place where an error becomes an answer: problem+json (RFC 9457), or RFC 6749 §5.2 on OAuth endpoints. */
export function createErrorHandler(begin: (request: Request, response: Reply) => Exchange, log: Logger): ErrorRequestHandler {
  return (thrown: unknown, request: Request, response: Reply, _next) => {
    const exchange = response.locals.exchange ?? begin(request, response)
    answerError(exchange, asMayflyError(thrown), thrown, request, response, log).catch((error: unknown) => {
      log.error({ request: exchange.context.requestId, ...traceable(error) }, 'an error could not be answered')
      response.destroy()
    })
  }
}

async function answerError(exchange: Exchange, error: MayflyError, thrown: unknown, request: Request, response: Reply, log: Logger): Promise<void> {
  const { context, house, route } = exchange
  if (error.code === 'internal' && !exchange.callerGone()) log.error({ request: context.requestId, ...traceable(thrown) }, 'a request failed')
  else if (error.status >= 500) log.warn({ request: context.requestId, code: error.code, internal: error.details.internal }, 'a request failed')
  house.metrics.refused.inc({ code: error.code })
  const instance = error.details.event ?? (await tell(exchange, error, request))
  exchange.refused = { code: error.code, event: instance, reason: error.status === 401 ? error.details.internal : undefined }
  const headers = headersOf(error, request)
  if (route?.oauth) {
    const [status, code] = oauthErrorOf(error.code)
    const body = { error: code, error_description: ERRORS[error.code].title }
    writeAnswer(response, status, JSON.stringify(body), { ...headers, 'content-type': 'application/json' })
  } else writeAnswer(response, error.status, JSON.stringify(problemOf(error, instance)), { ...headers, 'content-type': PROBLEM })
}

/** What is told of an error: its code's own words and whatever was written for the caller; of a token's refusal only the code's. */
export function problemOf({ code, status, message, details }: MayflyError, event?: string): Problem {
  const { title, next } = ERRORS[code]
  const always = { type: `urn:mayfly:problem:${code}`, title, status, code, instance: event === undefined ? undefined : `urn:uuid:${event}` }
  if (status === 401) return { ...always, detail: title, next }
  return {
    ...always,
    detail: message,
    next: details.next ?? next,
    policies: details.policies && [...details.policies],
    reasons: details.reasons && [...details.reasons],
    errors: details.issues && [...details.issues],
    step_up: details.stepUp && [...details.stepUp],
  }
}

/** What we did not throw on purpose is told to nobody: a parser's message may hold a piece of what it parsed. */
function asMayflyError(thrown: unknown): MayflyError {
  if (thrown instanceof MayflyError) return thrown
  // The router's, for a path with broken percent-encoding.
  if (thrown instanceof URIError) return new MayflyError('malformed', 'the path is not valid')
  return new MayflyError('internal', 'something went wrong inside Mayfly', { cause: thrown })
}

/** Where it happened, without the message. */
function traceable(thrown: unknown): object {
  if (!(thrown instanceof Error)) return { error: typeof thrown }
  return { error: thrown.name, at: thrown.stack?.split('\n').filter((line) => /^\s+at /.test(line)) }
}

/**
 * Each refusal is one event: of a known caller in the outbox, of an unknown one in the capped stream. A flood that the rate limit turned
 * away is counted, not told. What cannot be recorded is refused all the same.
 * @returns the event's id, for the caller to name it by: none where there is no such event
 */
async function tell(exchange: Exchange, error: MayflyError, request: Request): Promise<string | undefined> {
  const { context, house, principal, route } = exchange
  const isRefusal = error.status < 500 && error.code !== 'rate_limited' && (principal || error.status === 401)
  if (!isRefusal || exchange.callerGone()) return undefined
  const about = { reason: error.details.internal, route: route?.path, method: request.method, peer: request.ip }
  const told = event('request.refused', context, principal, { code: error.code, detail: about })
  if (principal) {
    const recorded = await house.ledger.record(told).catch(() => undefined)
    return recorded?.ok ? told.id : undefined
  }
  await house.ledger.refuse(told)
  return told.id
}

function headersOf({ code, status, details }: MayflyError, request: Request): Record<string, string> {
  const headers: Record<string, string> = {}
  if (status === 401) headers['www-authenticate'] = challengeOf(code)
  if (details.retryAfterSeconds !== undefined) headers['retry-after'] = String(Math.ceil(details.retryAfterSeconds))
  if (details.allow) headers.allow = details.allow.join(', ')
  // The rest of a body that we refused to read is not taken for the next request.
  if (!request.complete) headers.connection = 'close'
  return headers
}

/** RFC 6750 §3: no error code for a caller that sent no token. */
function challengeOf(code: ErrorCode): string {
  return code === 'token_missing' ? 'Bearer realm="mayfly"' : 'Bearer realm="mayfly", error="invalid_token"'
}
