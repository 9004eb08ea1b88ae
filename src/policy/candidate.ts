import type { PolicyOptions } from './options.js'
import type { Problem } from './problems.js'
import { inThread } from './thread.js'

const TIMEOUT_MS = 30_000

/**
 * What is wrong with policies, without risk to the caller: they are read in a thread of their own, since a text that is nested deeply
 * enough kills the engine that parses it.
 * @returns one line for each problem; empty: they can be used
 */
export async function checkCandidate(options: PolicyOptions): Promise<string[]> {
  return (await problemsOf(options)).map(({ path, message }) => `${path}: ${message}`)
}

export async function problemsOf(options: PolicyOptions): Promise<Problem[]> {
  const answer = await inThread<Problem[]>('candidate-worker', options, TIMEOUT_MS)
  return 'failed' in answer ? [{ path: 'policies', message: `could not be read: ${answer.failed}` }] : answer.message
}
