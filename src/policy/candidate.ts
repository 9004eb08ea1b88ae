import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { PolicyOptions } from './options.js'
import type { Problem } from './problems.js'

const TIMEOUT_MS = 30_000
const MAX_HEAP_MB = 512
/** Less than the main thread has: what is read here without overflowing can be read there. */
const STACK_MB = 1

/**
 * What is wrong with policies, without risk to the caller: they are read in a thread of their own, since a text that is nested deeply
 * enough kills the engine that parses it.
 * @returns one line for each problem; empty: they can be used
 */
export async function checkCandidate(options: PolicyOptions): Promise<string[]> {
  return (await problemsOf(options)).map(({ path, message }) => `${path}: ${message}`)
}

export function problemsOf(options: PolicyOptions): Promise<Problem[]> {
  const worker = startWorker(options)
  return new Promise((resolve) => {
    const end = (problems: Problem[]) => {
      clearTimeout(timer)
      resolve(problems)
      void worker.terminate()
    }
    const unreadable = (why: string) => end([{ path: 'policies', message: `could not be read: ${why}` }])
    const timer = setTimeout(() => unreadable(`not done within ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS)
    worker.once('message', end)
    worker.once('error', (error) => unreadable(error.message))
    worker.once('exit', (code) => unreadable(`the thread ended with ${code}`))
  })
}

function startWorker(workerData: PolicyOptions): Worker {
  const settings = { workerData, resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, stackSizeMb: STACK_MB } }
  if (extname(import.meta.url) === '.js') return new Worker(new URL('./candidate-worker.js', import.meta.url), settings)
  // Not compiled: a thread does not take over how its parent reads TypeScript.
  const entry = JSON.stringify(new URL('./candidate-worker.ts', import.meta.url).href)
  return new Worker(`import('tsx/esm/api').then(({ register }) => { register(); return import(${entry}) })`, { ...settings, eval: true })
}
