import type { About, History, Known, Operation } from './history.js'
import type { Stage } from './stage.js'

// biome-ignore lint/suspicious/noExplicitAny: answers are read as any caller would
export type Body = any
export interface Answered {
  readonly operation: Operation
  readonly status: number
  readonly body: Body
}
export interface Ask {
  readonly kind: Operation['kind']
  readonly about: About
  readonly as: string
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
  /** What of a good answer the history keeps. */
  readonly keep: (body: Body) => Known
}
export interface Caller {
  /** Asks a broker, chosen by the die, and writes down what came of it. */
  ask(ask: Ask, die: number): Promise<Answered>
}

/** Longer than any answer takes while everything works. */
const PATIENCE_MS = 12_000
/** A balancer takes a broker that does not answer out of the rotation, after a while. */
const STRAYS = 0.08

export function createCaller(stage: Stage, history: History): Caller {
  const choose = (die: number): number => {
    const all = stage.brokers.map((_, index) => index)
    const up = all.filter((index) => stage.brokers[index]?.url() !== undefined && !stage.brokers[index]?.isPaused())
    const among = up.length === 0 || die < STRAYS ? all : up
    return among[Math.floor(die * among.length)] ?? 0
  }
  return {
    async ask({ kind, about, as, method, path, body, headers, keep }, die) {
      const broker = choose(die)
      const operation = history.invoke(kind, broker, about)
      try {
        const url = stage.brokers[broker]?.url()
        if (url === undefined) throw new Error('it does not listen')
        const answer = await fetch(`${url}${path}`, {
          method,
          headers: {
            authorization: `Bearer ${await stage.token(as)}`,
            ...(body !== undefined && { 'content-type': 'application/json' }),
            ...headers,
          },
          body: body === undefined ? undefined : JSON.stringify(body),
          signal: AbortSignal.timeout(PATIENCE_MS),
        })
        const said: Body = await answer.json()
        const { status } = answer
        const request = answer.headers.get('x-request-id') ?? undefined
        if (status < 300) history.returned(operation, { outcome: 'ok', status, request, answer: keep(said) })
        // A 5xx says that it could not be done, not that nothing was.
        else history.returned(operation, { outcome: status < 500 ? 'refused' : 'unknown', status, request, code: said.code, event: eventIn(said) })
        return { operation, status, body: said }
      } catch {
        history.returned(operation, { outcome: 'unknown' })
        return { operation, status: 0, body: undefined }
      }
    },
  }
}

function eventIn({ instance }: Body): string | undefined {
  return typeof instance === 'string' ? instance.replace(/^urn:uuid:/, '') : undefined
}
