/**
 * `probe.ts <port> <every ms>`: calls what its standard input says, a JSON list of `{path, token, body, expected}` for each line that it keeps calling, one after the other,
 * each on a new connection, until the input ends, or with a last line `all` until each was called; then prints what that took. A process of its own: one that floods is late itself.
 */
import { createInterface } from 'node:readline'
import { post } from './post.js'
import { percentile, round } from './support.js'

export interface Probed {
  readonly calls: number
  readonly failed: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly most_ms: number
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
let all = false
input.on('line', (line) => {
  if (line === 'all') all = true
  else probing.push(repeat(JSON.parse(line) as Call[]))
})
input.on('close', async () => {
  over = !all
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
  const [p50_ms, p99_ms, most_ms] = [50, 99, 100].map((p) => round(percentile(latencies, p))) as [number, number, number]
  return { calls: latencies.length, failed, p50_ms, p99_ms, most_ms }
}
