import { BrokenCircuitError, CircuitState, ConsecutiveBreaker, circuitBreaker, ExponentialBackoff, handleWhen } from 'cockatiel'
import { answerIn, NoAnswer, type OpaAnswer } from './answer.js'
import type { OpaOptions } from './options.js'
import type { Input } from './question.js'

/** Where an OPA is asked; opened by whoever knows the rules for going out. */
export interface Channel {
  post(request: {
    readonly path: string
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
  }): Promise<{ readonly status: number; readonly text: string }>
  close(): Promise<void>
}
export type OpenChannel = (
  url: string,
  rules: Pick<OpaOptions, 'ca' | 'allowHttpLoopback' | 'allowPrivateAddresses' | 'timeoutMs'> & {
    readonly connections: number
    readonly maxBytes: number
  },
) => Channel
/** How a question went: `invalid` is an answer that is none, `unavailable` none at all, `refused` was not asked because others had no answer. */
export type Outcome = 'answered' | 'invalid' | 'unavailable' | 'refused'
export type OnAsked = (outcome: Outcome, seconds: number) => void

/** One OPA behind its circuit. @throws NoAnswer and nothing else */
export interface Ask {
  (input: Input): Promise<OpaAnswer>
  state(): 'closed' | 'open' | 'half-open'
}

/** A decision is a kilobyte. */
const MAX_BYTES = 64 * 1024
/** Questions that wait for their turn, for each that may be under way: what waits longer than its time is a no anyway. */
const WAITING_PER_PLACE = 16
const BREAKER_FAILURES = 5
const BREAKER_INITIAL_MS = 250
const BREAKER_MAX_MS = 5_000
/** A builtin that fails leaves its rule undefined, and a forbid that is undefined forbids nothing: then there is to be no answer at all. */
const QUERY = '?strict-builtin-errors=true&provenance=true'

export function channelOf(options: OpaOptions, open: OpenChannel): Channel {
  const { url, ca, allowHttpLoopback, allowPrivateAddresses, timeoutMs, concurrency } = options
  return open(url, { ca, allowHttpLoopback, allowPrivateAddresses, timeoutMs, connections: concurrency, maxBytes: MAX_BYTES })
}

export function createAsk({ path, token, known, concurrency }: OpaOptions, channel: Channel, onAsked: OnAsked = () => {}): Ask {
  const headers = { 'content-type': 'application/json', ...(token !== undefined && { authorization: `Bearer ${token}` }) }
  const breaker = circuitBreaker(
    handleWhen((error) => error instanceof NoAnswer && error.unavailable),
    {
      breaker: new ConsecutiveBreaker(BREAKER_FAILURES),
      halfOpenAfter: new ExponentialBackoff({ initialDelay: BREAKER_INITIAL_MS, maxDelay: BREAKER_MAX_MS }),
    },
  )
  let waiting = 0

  const exchange = async (body: string): Promise<OpaAnswer> => {
    const { status, text } = await channel.post({ path: `/v1/data/${path}${QUERY}`, headers, body }).catch((error: unknown) => {
      throw new NoAnswer(error instanceof Error ? error.message : 'unknown', true)
    })
    if (status !== 200) throw new NoAnswer(`it answered ${status}${toldIn(text)}`, isTrouble(status, text))
    return answerIn(text, known)
  }
  const ask = async (input: Input): Promise<OpaAnswer> => {
    if (waiting >= concurrency * (1 + WAITING_PER_PLACE)) throw new NoAnswer('too many questions wait for it', true)
    waiting++
    try {
      return await breaker.execute(() => exchange(JSON.stringify({ input })))
    } finally {
      waiting--
    }
  }
  const told = async (input: Input): Promise<OpaAnswer> => {
    const started = performance.now()
    const tell = (outcome: Outcome) => onAsked(outcome, (performance.now() - started) / 1000)
    try {
      const answer = await ask(input)
      tell('answered')
      return answer
    } catch (error) {
      if (error instanceof BrokenCircuitError) {
        tell('refused')
        throw new NoAnswer('it did not answer a moment ago, and is left alone', true)
      }
      const none = error instanceof NoAnswer ? error : new NoAnswer(error instanceof Error ? error.message : 'unknown')
      tell(none.unavailable ? 'unavailable' : 'invalid')
      throw none
    }
  }
  const state = () => (breaker.state === CircuitState.Closed ? 'closed' : breaker.state === CircuitState.HalfOpen ? 'half-open' : 'open')
  return Object.assign(told, { state })
}

/** It is the policies that cannot be evaluated, and not the OPA: the next question may well have an answer. */
const EVALUATION = /"code":\s*"eval_/

function isTrouble(status: number, text: string): boolean {
  return status === 429 || (status >= 500 && !EVALUATION.test(text))
}

/** What an OPA says of an error is a code and a message. */
function toldIn(text: string): string {
  const told = [...text.matchAll(/"(?:code|message)":\s*"([^"\\]{1,120})"/g)].map(([, said = '']) => said.replace(/\p{Cc}/gu, ' '))
  return told.length > 0 ? `: ${[...new Set(told)].join(', ').slice(0, 300).toWellFormed()}` : ''
}
