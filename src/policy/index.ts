import { problemsOf } from './candidate.js'
import type { PolicyOptions } from './options.js'
import { preparePolicy, type SyncPolicy } from './prepare.js'
import { PolicyProblems } from './problems.js'

export { checkCandidate } from './candidate.js'
export { type CaseResult, runCases } from './cases.js'
export type { PolicyFile, PolicyOptions } from './options.js'
export type { SyncPolicy } from './prepare.js'
export { PolicyProblems } from './problems.js'

/**
 * Policies as text -> what decides. Read in a thread of their own first, since a hostile text can kill the engine that parses it.
 * @throws PolicyProblems with all that is wrong
 */
export async function openPolicy(options: PolicyOptions): Promise<SyncPolicy> {
  const problems = await problemsOf(options)
  if (problems.length > 0) throw new PolicyProblems(problems)
  return preparePolicy(options)
}
