import { parentPort, workerData } from 'node:worker_threads'
import { z } from 'zod'
import type { Decision } from '../types.js'
import { requestOf, written } from './case.js'
import type { PolicyRequest } from './policy.js'
import { preparePolicy, type SyncPolicy } from './prepare.js'
import { PolicyProblems, type Problem } from './problems.js'
import { type Recorded, recordedIn } from './recorded.js'
import { CHANGES, type Change, type Example, type Simulation, type SimulationAsk, type Verdict } from './simulate.js'

/** The thread of `simulate.ts`. */
const MOST_EXAMPLES = 50
/** Groups that are told apart while counting; a candidate that denies each request for a reason of its own makes no more. */
const MOST_GROUPS = 5_000

/** A case may be given as it is. */
const anyRequest = written({ about: z.string().optional(), expect: z.unknown().optional() })

const ask = workerData as SimulationAsk
try {
  const binding = preparePolicy(ask.binding)
  const candidate = preparePolicy(ask.candidate)
  const given = 'given' in ask.requests ? ask.requests.given.map((request) => ({ request })) : await recordedIn(ask.requests.files, ask.requests)
  parentPort?.postMessage({ simulation: compareAll(binding, candidate, given, performance.now() + ask.deadlineMs) })
} catch (error) {
  if (!(error instanceof PolicyProblems)) throw error
  const problems: readonly Problem[] = error.problems
  parentPort?.postMessage({ problems })
}

function compareAll(binding: SyncPolicy, candidate: SyncPolicy, given: readonly Recorded[], end: number): Simulation {
  const changes: Record<Change, number> = { allowed: 0, denied: 0, step_up: 0, ttl: 0, obligations: 0 }
  const groups = new Map<string, Example>()
  const unreadable: { count: number; first?: string } = { count: 0 }
  let asked = 0
  let done = 0
  for (const { request: raw, event, at } of given) {
    if (performance.now() > end) break
    done++
    const read = anyRequest.safeParse(raw)
    if (!read.success) {
      unreadable.count++
      unreadable.first ??= `${event ?? `request ${done}`}: ${z.prettifyError(read.error)}`.slice(0, 500)
      continue
    }
    asked++
    const request = requestOf(read.data)
    const before = verdictOf(binding.decide(request), request)
    const after = verdictOf(candidate.decide(request), request)
    const change = changeOf(before, after)
    if (!change) continue
    changes[change]++
    const key = JSON.stringify([change, whoAndWhat(request), before, after])
    const count = (groups.get(key)?.count ?? 0) + 1
    if (count > 1 || groups.size < MOST_GROUPS) groups.set(key, { change, count, binding: before, candidate: after, request: raw, event, at })
  }
  const sorted = [...groups.values()].sort((a, b) => b.count - a.count)
  const changed = CHANGES.reduce((sum, one) => sum + changes[one], 0)
  const times = given.slice(0, done).flatMap(({ at }) => at ?? [])
  return {
    versions: { binding: binding.version, candidate: candidate.version },
    asked,
    unchanged: asked - changed,
    changes,
    examples: sorted.slice(0, MOST_EXAMPLES),
    more_examples: Math.max(0, sorted.length - MOST_EXAMPLES),
    unreadable,
    complete: done === given.length,
    from: times[0],
    to: times.at(-1),
  }
}

function verdictOf({ outcome, policies, reasons, maxTtlSeconds, maxLive, stepUp, error }: Decision, request: PolicyRequest): Verdict {
  const asked = 'role' in request ? request.context.ttlSeconds : undefined
  const ttl = outcome === 'deny' || asked === undefined ? undefined : Math.min(asked, maxTtlSeconds ?? asked)
  return { outcome, policies: [...policies], reasons: [...reasons], ttl, max_live: maxLive, step_up: stepUp && [...stepUp], error }
}

function changeOf(before: Verdict, after: Verdict): Change | undefined {
  if (before.outcome !== after.outcome) return after.outcome === 'allow' ? 'allowed' : after.outcome === 'deny' ? 'denied' : 'step_up'
  if (before.ttl !== after.ttl) return 'ttl'
  return JSON.stringify([before.step_up, before.max_live]) === JSON.stringify([after.step_up, after.max_live]) ? undefined : 'obligations'
}

function whoAndWhat(request: PolicyRequest): unknown {
  const what = 'role' in request ? request.role.name : 'resource' in request ? request.resource : undefined
  return [request.action, request.principal.kind, request.principal.id, what]
}
