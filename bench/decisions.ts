import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { openChannel } from '../src/identity/channel.js'
import { openOpa } from '../src/policy/opa/opa.js'
import type { PolicyOptions } from '../src/policy/options.js'
import type { PolicyRequest } from '../src/policy/policy.js'
import { preparePolicy } from '../src/policy/prepare.js'
import { obtain, sample } from '../test/policy/fixtures.js'
import { opaBinary, REGO, startOpa } from '../test/support/opa.js'
import { MEASURED, MEASURING, median, percentile, pinSelf, round } from './support.js'

export interface Decisions {
  readonly memoised_per_s: number
  /** By the number of policies: not remembered, so evaluated each time. */
  readonly cold_per_s: { readonly p20: number; readonly p200: number }
  /** The shipped policies in a real OPA, 32 questions at once; absent where there is none. */
  readonly opa?: { readonly per_s: number; readonly p50_ms: number; readonly p99_ms: number }
}

const GUARDRAILS = resolve(import.meta.dirname, '../config/policies/guardrails.cedar')
const QUESTIONS = 1_000
const CONCURRENCY = 32
const ROUNDS = 3

/** Decisions by themselves, in this process, on one core. */
export async function measureDecisions({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<Decisions> {
  pinSelf(MEASURED)
  const ms = quick ? 300 : 2_000
  say('decisions, remembered')
  const questions = Array.from({ length: QUESTIONS }, (_, n) => question(n))
  const remembering = preparePolicy(policies(20))
  for (const one of questions) remembering.decide(one)
  const { misses } = remembering.memo
  const memoised_per_s = rate(ms, (n) => remembering.decide(questions[n % QUESTIONS] ?? question(n)))
  if (remembering.memo.misses !== misses) throw new Error('something was not remembered')
  remembering.close()

  const cold = (count: number): number => {
    say(`decisions, ${count} policies`)
    // No two questions in a row are alike, and one is remembered.
    const policy = preparePolicy({ ...policies(count), memoSize: 1 })
    const per_s = rate(ms, (n) => {
      const { outcome, error } = policy.decide(questions[n % QUESTIONS] ?? question(n))
      if (outcome !== 'allow') throw new Error(`not decided as meant: ${outcome} ${error ?? ''}`)
    })
    if (policy.memo.hits > 0) throw new Error('something was remembered')
    policy.close()
    return per_s
  }
  const cold_per_s = { p20: cold(20), p200: cold(200) }
  return { memoised_per_s, cold_per_s, ...(opaBinary !== undefined && { opa: await inOpa(ms, questions, say) }) }
}

/** As many as asked for: the shipped guardrails, and a grant for each of many teams. */
function policies(count: number): PolicyOptions {
  const guardrails = readFileSync(GUARDRAILS, 'utf8')
  const teams = Array.from({ length: count - (guardrails.match(/^@id/gm)?.length ?? 0) }, (_, n) => `team-${n}`)
  const grants = teams.map(
    (team) => `@id("read-${team}") @maxTtl("900") permit (principal is Agent in Team::"${team}", action == Action::"read", resource)
      when { context.environment == Environment::"production" && resource.level <= 2 };`,
  )
  const files = [
    { name: 'guardrails.cedar', text: guardrails },
    { name: 'grants.cedar', text: grants.join('\n') },
  ]
  return { ...sample, files, known: { ...sample.known, teams } }
}

/** A role with a label of its own for each, which a guardrail reads; all of one team, which each number of policies has. */
function question(n: number): PolicyRequest {
  return obtain({
    agent: { id: `agent-${n}`, team: 'team-0' },
    role: { sensitivity: n % 3 === 0 ? 'public' : 'internal', labels: [`label-${n}`] },
  })
}

/** How often a second, the median of some rounds of this many milliseconds. */
function rate(ms: number, decide: (n: number) => unknown): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const started = performance.now()
    let n = 0
    while (performance.now() - started < ms) for (let more = 0; more < 50; more++) decide(n++)
    return n / ((performance.now() - started) / 1000)
  })
  return round(median(rounds), 0)
}

async function inOpa(ms: number, questions: readonly PolicyRequest[], say: (line: string) => void): Promise<NonNullable<Decisions['opa']>> {
  say('decisions of an OPA')
  const server = await startOpa([REGO, join(REGO, '../presets')])
  // It stays on the core that it was started on.
  pinSelf(MEASURING)
  const { vocabulary, known } = sample
  const policy = openOpa(
    {
      ...{ engine: 'opa', url: server.url, path: 'mayfly/decision', timeoutMs: 5_000, watchMs: 60_000, stop: [], concurrency: CONCURRENCY },
      ...{ vocabulary, known, allowHttpLoopback: true },
    },
    { open: openChannel },
  )
  const latencies: number[] = []
  const started = performance.now()
  const worker = async (first: number) => {
    for (let n = first; performance.now() - started < ms; n += CONCURRENCY) {
      const asked = performance.now()
      const { error } = await policy.decide(questions[n % QUESTIONS] ?? question(n))
      if (error !== undefined) throw new Error(error)
      latencies.push(performance.now() - asked)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, (_, n) => worker(n)))
  const seconds = (performance.now() - started) / 1000
  policy.close()
  await server.stop()
  return { per_s: round(latencies.length / seconds, 0), p50_ms: round(percentile(latencies, 50)), p99_ms: round(percentile(latencies, 99)) }
}
