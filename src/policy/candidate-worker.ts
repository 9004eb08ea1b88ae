import { parentPort, workerData } from 'node:worker_threads'
import { observes, unbound } from './observe.js'
import type { PolicyOptions } from './options.js'
import { preparePolicy } from './prepare.js'
import { PolicyProblems } from './problems.js'

/** The thread of `candidate.ts`. Anything that is not a list of problems ends it with an error, which is a problem of its own. */
try {
  const options = workerData as PolicyOptions
  preparePolicy(options)
  if (observes(options)) preparePolicy(unbound(options))
  parentPort?.postMessage([])
} catch (error) {
  if (!(error instanceof PolicyProblems)) throw error
  parentPort?.postMessage(error.problems)
}
