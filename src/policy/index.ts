import { problemsOf } from './candidate.js'
import { type OnDifference, observe, observes, unbound } from './observe.js'
import { type OpaOutside, openOpa } from './opa/opa.js'
import { type EngineOptions, isOpa } from './opa/options.js'
import type { PolicyOptions } from './options.js'
import type { Policy } from './policy.js'
import { preparePolicy, type SyncPolicy } from './prepare.js'
import { PolicyProblems } from './problems.js'

export { checkCandidate, problemsOf } from './candidate.js'
export { type CaseResult, runCases } from './cases.js'
export { binding, observes, unbound } from './observe.js'
export type { OnAsked, OpenChannel } from './opa/ask.js'
export { type EngineOptions, isOpa, type OpaOptions } from './opa/options.js'
export { probe } from './opa/probe.js'
export type { PolicyFile, PolicyOptions } from './options.js'
export type { SyncPolicy } from './prepare.js'
export { located, PolicyProblems, type Problem } from './problems.js'
export { CHANGES, type Change, candidateOf, type Example, type Simulation, type SimulationAsk, simulate, type Verdict } from './simulate.js'

/**
 * Policies as text -> what decides. Read in a thread of their own first, since a hostile text can kill the engine that parses it. Files that
 * are only observed are asked too, where there are any.
 * @throws PolicyProblems with all that is wrong
 */
export async function openPolicy(options: PolicyOptions, onDifference: OnDifference = () => {}): Promise<SyncPolicy> {
  const problems = await problemsOf(options)
  if (problems.length > 0) throw new PolicyProblems(problems)
  const bound = preparePolicy(options)
  return observes(options) ? observe(bound, preparePolicy(unbound(options)), onDifference) : bound
}

/** The engine that the configuration names. @throws PolicyProblems, or Error for an address that is never asked */
export async function openEngine(options: EngineOptions, outside: OpaOutside, onDifference?: OnDifference): Promise<Policy> {
  return isOpa(options) ? openOpa(options, outside) : openPolicy(options, onDifference)
}
