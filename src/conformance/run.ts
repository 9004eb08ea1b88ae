import type { Description } from '../providers/http/wire.js'
import { ACCEPTS, callers } from './cases/callers.js'
import { lifetimes } from './cases/lifetimes.js'
import { messages } from './cases/messages.js'
import { mint, minting, verify } from './cases/minting.js'
import { revoking } from './cases/revoking.js'
import { openSigners, type Signing } from './keys.js'
import { NoAnswer, openService, type Service } from './service.js'
import { answered, type Case, Trial, Unmet } from './trial.js'

/** In the order in which they are run and told; a case stands after those that it builds on. */
export const CASES: readonly Case[] = [mint, verify, ...revoking, ...minting, ...callers, ...messages, ...lifetimes]

export interface ConformanceOptions {
  readonly url: string
  /** The URL under which the service knows itself; `url` when absent. */
  readonly audience?: string
  readonly ca?: string
  readonly signing: Signing
  readonly params?: Readonly<Record<string, unknown>>
  readonly scope?: Readonly<Record<string, string | string[]>>
  /** Longest that one request may take. */
  readonly timeoutMs: number
  /** Life of the credentials whose end is waited for; 2,000 when absent. */
  readonly shortLifeMs?: number
  /** How long to wait for the service to answer, and to accept the signature. */
  readonly waitMs?: number
  readonly signal: AbortSignal
  /** Told as each case ends. */
  onCase?(result: CaseResult): void
}
export interface CaseResult {
  readonly name: string
  readonly outcome: 'passed' | 'failed' | 'not-applicable' | 'not-judged'
  /** What was seen; why it does not apply; which case has to pass first. */
  readonly detail?: string
}
export interface Verdict {
  readonly ok: boolean
  readonly service: string
  readonly description?: Description
  /** Nobody answered, to begin with. */
  readonly unreachable: boolean
  readonly cases: readonly CaseResult[]
  /** Names that the suite made and could not take back. */
  readonly left: readonly string[]
}

/** Tries one service against the wire contract. It makes, and takes back, some dozens of credentials there. */
export async function conformance(options: ConformanceOptions): Promise<Verdict> {
  const { url, audience = url, ca, timeoutMs, signal, onCase } = options
  const signers = await openSigners(options.signing)
  const opened = (until: AbortSignal) => openService({ url, audience, ca, signer: signers.honest, timeoutMs, signal: until })
  const service = await opened(signal)
  const results = new Map<string, CaseResult>()
  const tell = (result: CaseResult) => {
    results.set(result.name, result)
    onCase?.(result)
  }
  try {
    const description = await describe(service, options)
    tell({ name: ACCEPTS, outcome: 'passed' })
    const trial = new Trial(service, signers, signal, description, options)
    const judged = runAll(trial, results, tell)
    // Also after it was stopped half-way: nothing is left behind for want of patience.
    const clean = async () => {
      const cleaner = await opened(new AbortController().signal)
      return trial.clean(cleaner).finally(() => cleaner.close())
    }
    const left = await judged.then(clean, clean)
    await judged
    const cases = [...results.values()]
    const isGood = cases.every(({ outcome }) => outcome === 'passed' || outcome === 'not-applicable')
    return { ok: isGood && left.length === 0, service: url, description, unreachable: false, cases, left }
  } catch (error) {
    if (results.size > 0) throw error
    tell({ name: ACCEPTS, outcome: 'failed', detail: reasonOf(error, signal) })
    for (const { name } of CASES) results.set(name, { name, outcome: 'not-judged', detail: `after: ${ACCEPTS}` })
    return { ok: false, service: url, unreachable: error instanceof NoAnswer, cases: [...results.values()], left: [] }
  } finally {
    await service.close()
  }
}

async function runAll(trial: Trial, results: ReadonlyMap<string, CaseResult>, tell: (result: CaseResult) => void): Promise<void> {
  for (const one of CASES) tell(await judge(one, trial, results))
}

async function judge({ name, after = [], unless, run }: Case, trial: Trial, results: ReadonlyMap<string, CaseResult>): Promise<CaseResult> {
  const reason = unless?.(trial.description)
  if (reason !== undefined) return { name, outcome: 'not-applicable', detail: reason }
  const missing = after.find((before) => ['failed', 'not-judged'].includes(results.get(before)?.outcome ?? 'failed'))
  if (missing !== undefined) return { name, outcome: 'not-judged', detail: `after: ${missing}` }
  try {
    await run(trial)
    return { name, outcome: 'passed' }
  } catch (error) {
    return { name, outcome: 'failed', detail: reasonOf(error, trial.signal) }
  }
}

/** Asks until the service is there and takes the signature: whoever starts it may just have been told which keys to trust. */
async function describe(service: Service, { waitMs = 0, signal }: ConformanceOptions): Promise<Description> {
  const { setTimeout: pause } = await import('node:timers/promises')
  const end = performance.now() + waitMs
  for (;;) {
    const answer = await service.send('describe', {}).catch((error: unknown) => {
      if (error instanceof NoAnswer && performance.now() < end) return undefined
      throw error
    })
    const isStarting = answer === undefined || answer.status === 401 || answer.status >= 500
    if (answer !== undefined && (!isStarting || performance.now() >= end)) {
      if (answer.status === 401)
        throw new Unmet(
          'describe was answered 401: the service does not accept the signature. Check the issuer, the key set, the audience and the clock',
        )
      return answered('describe', answer)
    }
    await pause(RETRY_MS, undefined, { signal })
  }
}
const RETRY_MS = 300

function reasonOf(error: unknown, signal: AbortSignal): string {
  signal.throwIfAborted()
  if (error instanceof Unmet) return error.message
  if (error instanceof NoAnswer) return `the service could not be reached, or did not answer (${error.message})`
  throw error
}
