/**
 * `probe.ts <port> <every ms>`: calls what its standard input says, a JSON list of `{path, token, body, expected}` for each line that it keeps calling, one after the other,
 * each on a new connection, until the input ends; then prints what that took. A process of its own: one that floods is late itself.
 */
import { createInterface } from 'node:readline'
import { post } from './post.js'
import { percentile, round } from './support.js'

export interface Probed {
  readonly calls: number
  readonly failed: number
  readonly p50_ms: number
  readonly p99_ms: number
}
export interface Call {
  readonly path: string
  readonly token: string
  readonly body: object
  readonly expected: number
}

const port = Number(process.argv[2])
const everyMs = Number(process.argv[3])
let over = false
const probing: Promise<Probed>[] = []
const input = createInterface({ input: process.stdin })
input.on('line', (line) => probing.push(repeat(JSON.parse(line) as Call[])))
input.on('close', async () => {
  over = true
  process.stdout.write(`${JSON.stringify(await Promise.all(probing))}\n`)
})
process.stdout.write('ready\n')

async function repeat(calls: readonly Call[]): Promise<Probed> {
  const latencies: number[] = []
  let failed = 0
  for (const call of calls) {
    if (over) break
    const started = performance.now()
    if ((await post(port, call).catch(() => 0)) !== call.expected) failed++
    latencies.push(performance.now() - started)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
  return { calls: latencies.length, failed, p50_ms: round(percentile(latencies, 50)), p99_ms: round(percentile(latencies, 99)) }
}
