import { type Answer, openConnection, type Request } from './connection.js'
import { percentile, round } from './support.js'

export type { Request } from './connection.js'

export interface Load {
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly statuses: Record<string, number>
  readonly seconds: number
}

/** A closed loop of `concurrency` connections, one request in flight on each, over all of `requests` once. */
export async function load(
  port: number,
  path: string,
  requests: readonly Request[],
  concurrency: number,
  onAnswer: (answer: Answer) => void = () => undefined,
): Promise<Load> {
  const latencies: number[] = []
  const statuses: Record<string, number> = {}
  let next = 0
  const started = performance.now()
  await Promise.all(Array.from({ length: Math.min(concurrency, requests.length) }, () => connection()))
  const seconds = (performance.now() - started) / 1000
  return {
    rps: round(requests.length / seconds, 0),
    p50_ms: round(percentile(latencies, 50)),
    p99_ms: round(percentile(latencies, 99)),
    statuses,
    seconds: round(seconds),
  }

  function connection(): Promise<void> {
    return new Promise((resolve, reject) => {
      const send = () => {
        const request = requests[next++]
        if (request) return open.send(path, request)
        open.end()
        resolve()
      }
      const open = openConnection(
        port,
        (answer) => {
          const { status, ms } = answer
          onAnswer(answer)
          statuses[status] = (statuses[status] ?? 0) + 1
          latencies.push(ms)
          send()
        },
        reject,
      )
      send()
    })
  }
}
