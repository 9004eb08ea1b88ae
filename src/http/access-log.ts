import type { IncomingMessage } from 'node:http'
import type { Logger } from 'pino'
import type { Exchange, Reply } from './request-context.js'
import type { Route } from './route.js'

/** What a proxy writes when the caller left before its answer; no status of HTTP. */
const CALLER_LEFT = 499
const UNMATCHED = 'unmatched'
/** What JSON leaves as it is and a terminal or a line reader does not: DEL, C1 controls, line separators. */
const UNPRINTABLE = /[\u007f-\u009f\u2028\u2029]/g

/** One line and one observation per request, when it is over. Never a header, a path as it was sent, or anything of a body. */
export function createAccessLog(log: Logger) {
  const observers = new Map<Route | undefined, Map<number, (seconds: number) => void>>()

  const observerOf = ({ house, route }: Exchange, status: number): ((seconds: number) => void) => {
    const ofRoute = observers.get(route) ?? new Map<number, (seconds: number) => void>()
    observers.set(route, ofRoute)
    const known = ofRoute.get(status)
    if (known) return known
    const { observe } = house.metrics.httpSeconds.labels(route?.path ?? UNMATCHED, route?.method ?? UNMATCHED, String(status))
    ofRoute.set(status, observe)
    return observe
  }

  return (exchange: Exchange, request: IncomingMessage, response: Reply): void => {
    const { context, route, principal, refused } = exchange
    const status = response.writableFinished ? response.statusCode : CALLER_LEFT
    const ms = performance.now() - exchange.startedAt
    observerOf(exchange, status)(ms / 1000)
    log.info(
      {
        request: context.requestId,
        trace: context.trace,
        route: route?.path ?? UNMATCHED,
        method: request.method,
        status,
        ms: Math.round(ms * 100) / 100,
        kind: principal?.kind,
        principal: principal && printable(principal.id),
        ...refused,
      },
      'request',
    )
  }
}

/** Text from outside, safe for one line of a log on any terminal. JSON escapes what is below U+0020. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
