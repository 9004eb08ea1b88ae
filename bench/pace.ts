import { type Answer, type Connection, openConnection, type Request } from './connection.js'
import { percentile, round } from './support.js'

export interface Paced {
  readonly asked_per_s: number
  readonly answered_per_s: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly statuses: Readonly<Record<string, number>>
}
export interface Pace {
  stop(): Promise<Paced>
}
/** What is asked, and what becomes of the answer. */
export interface Work {
  readonly path: string
  next(): Request
  answered?(answer: Answer, request: Request): void
}

const TICK_MS = 5
/** More than this wait nowhere: a broker that cannot keep up is asked less, and the figures say so. */
const MOST_CONNECTIONS = 64

/** So many requests a second, evenly, however long each takes. A slow answer does not slow the others. */
export function pace(port: number, perSecond: number, work: Work): Pace {
  const latencies: number[] = []
  const statuses: Record<string, number> = {}
  const idle: ((request: Request) => void)[] = []
  const open = new Set<Connection>()
  const started = performance.now()
  let sent = 0
  let answered = 0
  let failed: Error | undefined

  const connection = (): ((request: Request) => void) => {
    let asked: Request | undefined
    const made = openConnection(
      port,
      (answer) => {
        answered++
        latencies.push(answer.ms)
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1
        if (asked) work.answered?.(answer, asked)
        idle.push(send)
      },
      (error) => {
        failed = error
        open.delete(made)
      },
    )
    const send = (request: Request) => {
      asked = request
      made.send(work.path, request)
    }
    open.add(made)
    return send
  }
  const tick = () => {
    const due = Math.floor(((performance.now() - started) / 1000) * perSecond)
    while (sent < due) {
      const send = idle.pop() ?? (open.size < MOST_CONNECTIONS ? connection() : undefined)
      if (!send) return
      sent++
      send(work.next())
    }
  }
  const timer = setInterval(tick, TICK_MS)
  return {
    async stop() {
      clearInterval(timer)
      const seconds = (performance.now() - started) / 1000
      for (let waited = 0; answered < sent && waited < 5_000 && !failed; waited += TICK_MS)
        await new Promise((resolve) => setTimeout(resolve, TICK_MS))
      for (const one of open) one.end()
      if (failed) throw failed
      return {
        asked_per_s: round(perSecond, 0),
        answered_per_s: round(answered / seconds, 0),
        p50_ms: round(percentile(latencies, 50)),
        p99_ms: round(percentile(latencies, 99)),
        statuses,
      }
    },
  }
}
