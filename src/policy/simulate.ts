import type { PolicyFile, PolicyOptions } from './options.js'
import { PolicyProblems, type Problem } from './problems.js'
import { inThread } from './thread.js'

/** What is to be tried: policies that do not bind, on requests that came, or might. */
export interface SimulationAsk {
  readonly binding: PolicyOptions
  readonly candidate: PolicyOptions
  /** As cases are written; or files of events, one JSON object a line, in which the last `limit` requests since `since` are found. */
  readonly requests: { readonly given: readonly unknown[] } | { readonly files: readonly string[]; readonly sinceMs?: number; readonly limit: number }
  /** What is not done by then is not done; the answer says so. */
  readonly deadlineMs: number
}

/** What the candidate would change. `ttl`: both allow, for another time. `obligations`: another consent is asked for, or another number of live leases allowed. */
export const CHANGES = ['allowed', 'denied', 'step_up', 'ttl', 'obligations'] as const
export type Change = (typeof CHANGES)[number]

export interface Verdict {
  readonly outcome: 'allow' | 'deny' | 'step-up'
  readonly policies: string[]
  readonly reasons: string[]
  /** Seconds that a lease would have: the least of what was asked for and of `@maxTtl`. */
  readonly ttl?: number
  readonly max_live?: number
  readonly step_up?: { group: string; approvals: number }[]
  readonly error?: string
}
/** Requests for which the same changes for the same reasons. */
export interface Example {
  readonly change: Change
  readonly count: number
  readonly binding: Verdict
  readonly candidate: Verdict
  /** The last of them, as cases are written: it can be kept as one. */
  readonly request: unknown
  /** Where that one was recorded. */
  readonly event?: string
  readonly at?: string
}
export interface Simulation {
  readonly versions: { readonly binding: string; readonly candidate: string }
  readonly asked: number
  readonly unchanged: number
  readonly changes: Readonly<Record<Change, number>>
  /** The most frequent first. */
  readonly examples: Example[]
  /** Groups like those in `examples` that did not find a place there. */
  readonly more_examples: number
  readonly unreadable: { readonly count: number; readonly first?: string }
  /** False: time was up before all were asked. */
  readonly complete: boolean
  /** Of the recorded requests that were asked. */
  readonly from?: string
  readonly to?: string
}

/** To start, and to say what it has: the deadline is for asking alone. */
const GRACE_MS = 20_000

/**
 * Asks both sets of policies the same, in a thread of their own: a candidate that kills its engine, never ends or fills its memory harms
 * nobody else.
 * @throws PolicyProblems where the candidate, or its thread, fails
 */
export async function simulate(ask: SimulationAsk): Promise<Simulation> {
  const answer = await inThread<{ problems: Problem[] } | { simulation: Simulation }>('simulate-worker', ask, ask.deadlineMs + GRACE_MS)
  if ('failed' in answer) throw new PolicyProblems([{ path: 'candidate', message: answer.failed }])
  if ('problems' in answer.message) throw new PolicyProblems(answer.message.problems)
  return answer.message.simulation
}

/** The candidate that takes the place of every policy file; without files, what is only observed so far takes its place beside the others. */
export function candidateOf(options: PolicyOptions, files: readonly PolicyFile[] | undefined, schema?: string): PolicyOptions {
  return { ...options, schema: schema ?? options.schema, files: (files ?? options.files).map(({ name, text }) => ({ name, text })) }
}
