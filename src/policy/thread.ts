import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'

const MAX_HEAP_MB = 512
/** Less than the main thread has: what is read here without overflowing can be read there. */
const STACK_MB = 1

/**
 * The first thing that a thread of its own says, which starts with the module `name` of this folder and `data`. It is gone when this
 * returns, and never lasts longer than `ms`.
 */
export function inThread<Message>(name: string, data: object, ms: number): Promise<{ message: Message } | { failed: string }> {
  const worker = start(name, data)
  return new Promise((resolve) => {
    const end = (answer: { message: Message } | { failed: string }) => {
      clearTimeout(timer)
      resolve(answer)
      void worker.terminate()
    }
    const timer = setTimeout(() => end({ failed: `not done within ${ms / 1000} s` }), ms)
    worker.once('message', (message: Message) => end({ message }))
    worker.once('error', (error) => end({ failed: error.message }))
    worker.once('exit', (code) => end({ failed: `the thread ended with ${code}` }))
  })
}

function start(name: string, workerData: object): Worker {
  const settings = { workerData, resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, stackSizeMb: STACK_MB } }
  if (extname(import.meta.url) === '.js') return new Worker(new URL(`./${name}.js`, import.meta.url), settings)
  // Not compiled: a thread does not take over how its parent reads TypeScript.
  const entry = JSON.stringify(new URL(`./${name}.ts`, import.meta.url).href)
  return new Worker(`import('tsx/esm/api').then(({ register }) => { register(); return import(${entry}) })`, { ...settings, eval: true })
}
