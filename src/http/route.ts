import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import type { ErrorCode } from '../errors.js'
import type { House } from '../house.js'
import type { Principal, RequestContext } from '../types.js'
import type { Around } from './surroundings.js'
import { parse } from './validate.js'

/** Which listener a route is for; the surface `all` is `public` and `operator` on one. */
export type Surface = 'public' | 'operator' | 'metrics'
export type Kind = Principal['kind']

/** For routes that answer each kind of caller by a rule of their own. */
export const ANYONE = ['agent', 'orchestrator', 'operator', 'gateway'] as const satisfies readonly Kind[]

/** Answers that are no JSON: octets as they are, in the type that the answer names; and none at all. */
export const OCTETS = z.custom<Uint8Array>((value) => value instanceof Uint8Array)
export const NOTHING = z.undefined()
/** Text that is made while it is sent, however long it gets; an answer that is cut off ends without its proper end. */
export const TEXT_STREAM = z.custom<AsyncIterable<string>>()

/** What a handler gets: everything verified, everything typed. */
export interface Call<P, Body, Query> {
  readonly house: House
  readonly around: Around
  readonly principal: P
  /** The `{id}` of the path, in the form that the route asked for. */
  readonly id: string
  /** Every parameter of the path by its name, as it was sent. */
  readonly path: Readonly<Record<string, string>>
  readonly body: Body
  readonly query: Query
  readonly headers: IncomingHttpHeaders
  readonly context: RequestContext
  /** True once nobody waits for the answer any more. */
  readonly callerGone: () => boolean
}

/** One answer, of a status and shape that the route declares. */
export type Answer<Answers> = {
  [Status in keyof Answers & number]: {
    readonly status: Status
    readonly body: Answers[Status] extends z.ZodType ? z.output<Answers[Status]> : never
    readonly headers?: Readonly<Record<string, string>>
    /** Called when the connection closed before the answer was handed over. */
    readonly unsent?: () => void
  }
}[keyof Answers & number]

interface Spec<K extends Kind, Body extends z.ZodType, Query extends z.ZodType, Answers extends Readonly<Record<number, z.ZodType>>> {
  readonly method: 'get' | 'post' | 'patch' | 'delete'
  /** As OpenAPI writes it; a parameter is called `{id}` where it is one of our ids, `{+id}` where it may hold slashes (RFC 6570 §3.2.3). */
  readonly path: string
  readonly surfaces: readonly Surface[]
  /** Kinds of principal that may call it; policy decides the rest. Absent: no token is asked for. */
  readonly who?: readonly K[]
  readonly summary: string
  /** Ids of another form are no ids: 404. */
  readonly id?: RegExp
  readonly body?: Body
  readonly bodyType?: 'json' | 'form'
  /** No body at all is then the same as `{}`. */
  readonly bodyOptional?: boolean
  /** At most; 64 KiB when absent. */
  readonly bodyBytes?: number
  readonly query?: Query
  readonly answers: Answers
  /** `application/json` when absent. Of octets, what they are where their answer does not say it. */
  readonly contentType?: string
  /** Error codes beyond those of every route. */
  readonly codes: readonly ErrorCode[]
  /** How many requests a body, as it was sent, stands for; one when absent. */
  readonly holds?: (body: unknown) => number
  /** True: it makes new authority, so it stops when the broker drains. What narrows goes on to the end. */
  readonly widens?: boolean
  /** True: errors are those of RFC 6749 §5.2. */
  readonly oauth?: boolean
}

type Raw = Call<Principal | undefined, unknown, unknown>

/** One line of the routes table, with the types of its parts behind `run`. */
export interface Route extends Spec<Kind, z.ZodType, z.ZodType, Readonly<Record<number, z.ZodType>>> {
  run(call: Raw): Promise<RawAnswer>
}
export interface RawAnswer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly unsent?: () => void
}

interface Described<P, Body, Query, Answers> {
  /** What the route does; a step of its own, so that its types are known before it. */
  handle(handler: (call: Call<P, Body, Query>) => Promise<Answer<Answers>>): Route
}

/** A route for callers with a token. */
export function route<
  const K extends Kind,
  const Answers extends Readonly<Record<number, z.ZodType>>,
  Body extends z.ZodType = z.ZodType<undefined>,
  Query extends z.ZodType = z.ZodType<undefined>,
>(
  spec: Spec<K, Body, Query, Answers> & { readonly who: readonly K[] },
): Described<Extract<Principal, { kind: K }>, z.output<Body>, z.output<Query>, Answers> {
  const isOurs = (principal: Principal | undefined): principal is Extract<Principal, { kind: K }> => spec.who.some((kind) => kind === principal?.kind)
  return {
    handle: (handler) => ({
      ...spec,
      async run(call) {
        const { principal } = call
        if (!isOurs(principal)) throw new Error(`${spec.path} was called for somebody it does not serve`)
        return handler({ ...call, principal, body: parse(spec.body, call.body), query: parse(spec.query, call.query) })
      },
    }),
  }
}

/** A route that asks for no token. */
export function openRoute<const Answers extends Readonly<Record<number, z.ZodType>>>(
  spec: Spec<never, z.ZodType, z.ZodType, Answers>,
): Described<Principal | undefined, unknown, unknown, Answers> {
  return { handle: (handler) => ({ ...spec, run: (call) => handler(call) }) }
}
