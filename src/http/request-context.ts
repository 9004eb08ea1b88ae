import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Response } from 'express'
import type { ErrorCode } from '../errors.js'
import type { House } from '../house.js'
import type { Principal, RequestContext } from '../types.js'
import type { Route } from './route.js'

/** One request on its way through: filled as it goes, told in one log line at the end. */
export interface Exchange {
  readonly context: RequestContext
  /** The snapshot this request began with, and ends with. */
  readonly house: House
  /** `performance.now()` at the first byte that we saw. */
  readonly startedAt: number
  /** Absent where no route matched. */
  readonly route?: Route
  readonly callerGone: () => boolean
  principal?: Principal
  /** Of a refusal: its code, the event that tells more, and for a token why. Our own words, safe to log. */
  refused?: { readonly code: ErrorCode; readonly event?: string; readonly reason?: string }
  unsent?: () => void
}
export type Reply = Response<unknown, { exchange?: Exchange }>

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/
/** W3C Trace Context §3.2.2; later versions may append fields. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** A caller's own id is kept when it is short and plain; a trace from outside is for correlation only. */
export function contextOf({ headers }: IncomingMessage): RequestContext {
  const given = headers['x-request-id']
  const requestId = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID()
  return { requestId, trace: headers.traceparent === undefined ? undefined : traceOf(headers.traceparent) }
}

/** The trace id of a valid `traceparent`; undefined for any other. */
export function traceOf(traceparent: unknown): string | undefined {
  if (typeof traceparent !== 'string') return undefined
  const [, version, traceId, parentId, , more] = TRACEPARENT.exec(traceparent) ?? []
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (/^0+$/.test(traceId ?? '0') || /^0+$/.test(parentId ?? '0')) return undefined
  return traceId
}

/** Whether nobody waits for the answer: the connection is gone, or its other side has said that it is leaving. */
export function callerGoneOf(request: IncomingMessage, response: { readonly destroyed: boolean }): () => boolean {
  return () => response.destroyed || request.socket.destroyed || request.socket.writableEnded || request.socket.readableEnded
}
