import { randomUUID } from 'node:crypto'
import { BulkheadRejectedError, bulkhead } from 'cockatiel'
import { z } from 'zod'
import { type Receiver, sign } from './webhooks.js'

export interface ClassifierOptions extends Receiver {
  readonly timeoutMs: number
  readonly concurrency: number
  /** An answer that is less certain is none. */
  readonly minConfidence: number
  readonly catalogue: readonly Intent[]
}
export interface Intent {
  readonly name: string
  readonly description?: string
}

/** What is to be classified. */
export interface Question {
  /** Whose question it is: nobody takes more than a half of what may be asked at once. */
  readonly opener: string
  /** What the service is told, under `data`. */
  readonly data: object
}

/**
 * `classified`: an intent of the catalogue. `unclassified`: it is none of them. `uncertain`: below the least confidence. All else is no answer:
 * `timeout`, `unreachable`, `refused` (a status other than 200, redirects too), `malformed`, `busy` (every place is taken).
 */
export const OUTCOMES = ['classified', 'unclassified', 'uncertain', 'timeout', 'unreachable', 'refused', 'malformed', 'busy'] as const
export type Outcome = (typeof OUTCOMES)[number]
/** Those that the service itself gave. */
export const ANSWERS: ReadonlySet<Outcome> = new Set(['classified', 'unclassified', 'uncertain'])
export interface Verdict {
  readonly outcome: Outcome
  readonly ms: number
  /** There where it is `classified`. */
  readonly intent?: string
  /** 0 to 1; 0 where there is no intent. */
  readonly confidence: number
  /** Of the data of a `classified` task, where the service said so. */
  readonly classification?: 'public' | 'internal' | 'confidential' | 'restricted'
}

/** One POST, no redirects, a bounded answer; `answer` is there where it is one JSON object that cannot be read in two ways. The caller decides what may be reached. */
export type Ask = (
  receiver: Receiver,
  request: { headers: Readonly<Record<string, string>>; body: string; timeoutMs: number; maxBytes: number },
) => Promise<{ readonly status: number; readonly answer?: object }>

export interface ClassifierTools {
  readonly ask: Ask
  /** Milliseconds since 1970, of any good clock. */
  readonly now: () => number
  readonly onVerdict: (verdict: Verdict) => void
}

export interface Classifier {
  /** Never throws, and never takes longer than the timeout. */
  classify(question: Question): Promise<Verdict>
}

/** What may wait for a place, for each that there is; the time that it waits counts. */
const QUEUE_PER_PLACE = 4
const MOST_BYTES = 16_384
const NO_INTENT = 'unclassified'

/** Asks a service of the operator's what a task is about. Signed as webhooks are; whatever is not exactly an answer is none. */
export function openClassifier(options: ClassifierOptions, tools: ClassifierTools): Classifier {
  const answers = answersOf(options.catalogue)
  const places = bulkhead(options.concurrency, options.concurrency * QUEUE_PER_PLACE)
  const share = fairShare(Math.ceil((options.concurrency * (1 + QUEUE_PER_PLACE)) / 2))

  const once = async ({ data }: Question, timeoutMs: number): Promise<Omit<Verdict, 'ms'>> => {
    if (timeoutMs <= 0) return none('timeout')
    const { headers, body } = signed(options, data, tools.now())
    const { status, answer } = await tools.ask(options, { headers, body, timeoutMs, maxBytes: MOST_BYTES })
    if (status !== 200) return none('refused')
    const parsed = answers.safeParse(answer)
    if (!parsed.success) return none('malformed')
    const { intent, confidence, classification } = parsed.data
    if (intent === NO_INTENT) return none('unclassified')
    if (confidence < options.minConfidence) return none('uncertain')
    return { outcome: 'classified', intent, confidence, classification }
  }

  return {
    async classify(question) {
      const began = performance.now()
      const left = () => Math.ceil(options.timeoutMs - (performance.now() - began))
      const asked = share(question.opener, () => places.execute(() => once(question, left())))
      const told = await within(options.timeoutMs, asked).catch((error: unknown) => none(troubleOf(error, left() <= 0)))
      const verdict = { ...told, ms: Math.round(performance.now() - began) }
      tools.onVerdict(verdict)
      return verdict
    },
  }
}

/** What waits for a place is not waited for any longer than what has one. */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new LateError()), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

class LateError extends Error {}
class NoPlaceError extends Error {}

/** State: who has how many questions under way. One who asks without end keeps nobody else from asking. */
function fairShare(most: number) {
  const asking = new Map<string, number>()
  return async <T>(who: string, ask: () => Promise<T>): Promise<T> => {
    const others = asking.get(who) ?? 0
    if (others >= most) throw new NoPlaceError()
    asking.set(who, others + 1)
    try {
      return await ask()
    } finally {
      const left = (asking.get(who) ?? 1) - 1
      if (left > 0) asking.set(who, left)
      else asking.delete(who)
    }
  }
}

function none(outcome: Exclude<Outcome, 'classified'>): Omit<Verdict, 'ms'> {
  return { outcome, confidence: 0 }
}

function troubleOf(error: unknown, isLate: boolean): Exclude<Outcome, 'classified'> {
  if (error instanceof NoPlaceError || error instanceof BulkheadRejectedError) return 'busy'
  if (error instanceof LateError || isLate) return 'timeout'
  return error instanceof Error && 'code' in error && error.code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE' ? 'malformed' : 'unreachable'
}

function answersOf(catalogue: readonly Intent[]) {
  return z.strictObject({
    intent: z.enum([NO_INTENT, ...catalogue.map(({ name }) => name)]),
    confidence: z.number().min(0).max(1),
    classification: z.enum(['public', 'internal', 'confidential', 'restricted']).optional(),
  })
}

function signed({ secret, catalogue }: ClassifierOptions, data: object, now: number) {
  const id = randomUUID()
  const timestamp = Math.floor(now / 1000)
  const body = JSON.stringify({ type: 'task.classify', timestamp: new Date(now).toISOString(), data: { ...data, catalogue } })
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': sign(secret, id, timestamp, body),
  }
  return { headers, body }
}
