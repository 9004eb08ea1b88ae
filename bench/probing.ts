import { spawn } from 'node:child_process'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Call, Probed } from './probe.js'

export const OPERATOR_PRIORITY = -15

export interface Probing {
  /** One list more, beside those before. */
  call(calls: readonly Call[]): void
  /** Ends what is not through yet. */
  stop(): Promise<readonly Probed[]>
  /** Waits until all has been called. */
  done(): Promise<readonly Probed[]>
}

/** Calls each list, one call after the other, from a process of its own: `probe.ts`. */
export async function startProbing(port: number, everyMs: number): Promise<Probing> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'probe.ts'), String(port), String(everyMs)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  // Whoever calls shares no core with what is called, nor with an upstream.
  if (child.pid !== undefined) setPriority(child.pid, OPERATOR_PRIORITY)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  await lines.next()
  const said = async () => {
    const { value } = await lines.next()
    return JSON.parse(String(value)) as readonly Probed[]
  }
  return {
    call: (calls) => {
      child.stdin.write(`${JSON.stringify(calls)}\n`)
    },
    stop: () => {
      child.stdin.end()
      return said()
    },
    done: () => {
      child.stdin.end('all\n')
      return said()
    },
  }
}
