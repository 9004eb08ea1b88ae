import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { MayflyError } from '../errors.js'
import type { Metrics } from '../metrics.js'
import { oauthErrorOf } from './oauth-error.js'
import { problemOf } from './problem.js'
import type { Route } from './route.js'
import { createShares, type Share } from './share.js'

export interface Limits {
  /** Requests begun in one turn of the event loop; it bounds how long a turn is, and so how long anybody else waits for theirs. */
  readonly starts: number
  /** Requests that may wait for their turn. */
  readonly waiting: number
  /** Once the first of those has waited for so long, there are more than can be served: whoever comes then is told to come again. */
  readonly patienceMs: number
  /** Begun and not answered. Where absent, connections are the limit: what is waited for there costs nothing (`?wait`), and is not asked again lightly. */
  readonly inFlight?: number
}
const LIMITS: Readonly<Record<Share, Limits>> = {
  stop: { starts: 16, waiting: 1_024, patienceMs: 1_000 },
  end: { starts: 16, waiting: 1_024, patienceMs: 1_000 },
  open: { starts: 16, waiting: 256, patienceMs: 250, inFlight: 1_024 },
  ask: { starts: 4, waiting: 1_024, patienceMs: 250, inFlight: 4_096 },
}
/** On one connection, one behind the other, without waiting for answers. */
const MOST_PIPELINED = 16
const RETRY_AFTER_SECONDS = 1
/** Those who do not wait before they come again are made to: a refusal at once would only bring the next request sooner. */
const HOLD_MS = 500
const HOLD_CHECK_MS = 50
const TELL_EVERY_MS = 10_000
/** The rest of a larger body is not waited for. */
const SMALL_BODY_BYTES = 64 * 1024

export interface AdmissionOptions {
  readonly routes: readonly Route[]
  readonly metrics: Pick<Metrics, 'shed' | 'waited'>
  readonly log: Pick<Logger, 'warn'>
  readonly limits?: Readonly<Record<Share, Limits>>
}

/**
 * In front of a listener's app: more requests than can be served wait their turn, and those that would wait too long are refused before anything is done
 * for them. Each share has turns of its own, so that no flood of asking keeps the stop, the ends or the probes waiting.
 */
export function admitting(app: RequestListener, { routes, metrics, log, limits = LIMITS }: AdmissionOptions): RequestListener {
  const shareOf = createShares(routes)
  const isOauth = new Set(routes.filter(({ oauth }) => oauth).map(({ path }) => path))
  const line = (share: Share) => new Line(share, limits[share])
  const byShare: Readonly<Record<Share, Line>> = { stop: line('stop'), end: line('end'), open: line('open'), ask: line('ask') }
  /** In the order in which they are served. */
  const lines = [byShare.stop, byShare.end, byShare.open, byShare.ask]
  const refuse = createRefusal(metrics, log, isOauth)
  const pipelined = new WeakMap<Socket, number>()

  let isTurn = false
  const take = () => {
    if (isTurn) return
    isTurn = true
    setImmediate(nextTurn)
  }
  const nextTurn = () => {
    isTurn = false
    for (const line of lines) line.started = 0
    for (const line of lines) {
      for (let next = line.next(); next; next = line.next()) {
        metrics.waited.observe({ share: line.share }, (performance.now() - next.since) / 1000)
        begin(line, next.request, next.response)
      }
      // Where nothing can begin before an answer has gone, that answer brings the turn.
      if (line.started > 0) take()
    }
  }
  const begin = (line: Line, request: IncomingMessage, response: ServerResponse) => {
    take()
    line.started++
    if (line.limits.inFlight !== undefined) {
      line.inFlight++
      response.once('close', () => {
        line.inFlight--
        if (line.waiting.length > 0) take()
      })
    }
    app(request, response)
  }
  const admit = (request: IncomingMessage, response: ServerResponse) => {
    const line = byShare[shareOf(request)]
    if (line.isFree()) begin(line, request, response)
    else if (line.isFull()) refuse(line.share, request, response)
    else line.waiting.push({ request, response, since: performance.now() })
  }
  return (request, response) => {
    if (response.socket) return admit(request, response)
    // Behind another one on its connection, whose answer comes first.
    const behind = (pipelined.get(request.socket) ?? 0) + 1
    if (behind > MOST_PIPELINED) return void request.socket.destroy()
    pipelined.set(request.socket, behind)
    response.once('socket', () => {
      pipelined.set(request.socket, (pipelined.get(request.socket) ?? 1) - 1)
      admit(request, response)
    })
  }
}

interface Waiting {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** `performance.now()` */
  readonly since: number
}

/** State: who waits for a share's turn, and how much of it is used. */
class Line {
  readonly waiting: Waiting[] = []
  started = 0
  inFlight = 0
  constructor(
    readonly share: Share,
    readonly limits: Limits,
  ) {}
  isFree(): boolean {
    const { starts, inFlight = Number.POSITIVE_INFINITY } = this.limits
    return this.started < starts && this.waiting.length === 0 && this.inFlight < inFlight
  }
  isFull(): boolean {
    const [first] = this.waiting
    return this.waiting.length >= this.limits.waiting || (first !== undefined && performance.now() - first.since > this.limits.patienceMs)
  }
  /** The next that may begin in this turn, and still waits. */
  next(): Waiting | undefined {
    const { starts, inFlight = Number.POSITIVE_INFINITY } = this.limits
    while (this.started < starts && this.inFlight < inFlight) {
      const next = this.waiting.shift()
      if (!next?.response.destroyed) return next
    }
    return undefined
  }
}

type Refuse = (share: Share, request: IncomingMessage, response: ServerResponse) => void

/** An answer that costs next to nothing: the same bytes for everybody, no line in the log for each, no event. */
function createRefusal(metrics: Pick<Metrics, 'shed'>, log: Pick<Logger, 'warn'>, isOauth: ReadonlySet<string>): Refuse {
  const error = new MayflyError('overloaded', 'more requests wait for this broker than it can serve in time')
  const problem = JSON.stringify(problemOf(error))
  const [, oauthCode] = oauthErrorOf('overloaded')
  const oauth = JSON.stringify({ error: oauthCode, error_description: 'Overloaded' })
  const held: { at: number; answer: () => void }[] = []
  let refused = 0
  let toldAt = Number.NEGATIVE_INFINITY

  const release = () => {
    const now = performance.now()
    while (held[0] && held[0].at <= now) held.shift()?.answer()
    if (held.length > 0) setTimeout(release, HOLD_CHECK_MS).unref()
  }
  return (share, request, response) => {
    metrics.shed.inc({ share })
    refused++
    const now = performance.now()
    if (now - toldAt > TELL_EVERY_MS) {
      log.warn({ share, refused }, 'more requests come than can be served: refusing some')
      toldAt = now
      refused = 0
    }
    const isOfOauth = isOauth.has(request.url ?? '')
    const body = isOfOauth ? oauth : problem
    const answer = () => {
      if (response.destroyed) return
      response.writeHead(error.status, {
        'content-type': isOfOauth ? 'application/json' : 'application/problem+json',
        'content-length': body.length,
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'x-request-id': randomUUID(),
        'retry-after': String(RETRY_AFTER_SECONDS),
        ...(hasLongBody(request) && { connection: 'close' }),
      })
      response.end(body)
    }
    held.push({ at: now + HOLD_MS, answer })
    if (held.length === 1) setTimeout(release, HOLD_CHECK_MS).unref()
  }
}

function hasLongBody({ headers, complete }: IncomingMessage): boolean {
  return !complete && !(Number(headers['content-length'] ?? 0) <= SMALL_BODY_BYTES && headers['transfer-encoding'] === undefined)
}
