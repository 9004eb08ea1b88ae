import { connect, type Socket } from 'node:net'
import { percentile, round } from './support.js'

export interface Request {
  readonly token: string
  readonly body: string
  /** Where it goes, if not where the others do. */
  readonly path?: string
}
export interface Load {
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly statuses: Record<string, number>
  readonly seconds: number
}

/**
 * A closed loop of `concurrency` keep-alive connections, one request in flight on each, over all of `requests` once. Written on raw sockets
 * because the generator shares its core with Redis: a general client would take more CPU than what is measured. Answers need a content-length.
 */
export async function load(port: number, path: string, requests: readonly Request[], concurrency: number): Promise<Load> {
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
      const socket: Socket = connect(port, '127.0.0.1')
      socket.setNoDelay(true)
      let sentAt = 0
      let received = ''
      const send = () => {
        const request = requests[next++]
        if (!request) {
          socket.end()
          return resolve()
        }
        sentAt = performance.now()
        socket.write(
          `POST ${request.path ?? path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${request.token}\r\nContent-Type: application/json\r\nContent-Length: ${request.body.length}\r\n\r\n${request.body}`,
        )
      }
      socket.on('connect', send)
      socket.on('error', reject)
      socket.on('data', (chunk) => {
        received += chunk.toString('latin1')
        const end = received.indexOf('\r\n\r\n')
        if (end < 0) return
        const length = /content-length: (\d+)/i.exec(received.slice(0, end))
        if (!length) return reject(new Error(`an answer without content-length: ${received.slice(0, 200)}`))
        if (received.length < end + 4 + Number(length[1])) return
        const status = received.slice(9, 12)
        statuses[status] = (statuses[status] ?? 0) + 1
        latencies.push(performance.now() - sentAt)
        received = ''
        send()
      })
    })
  }
}
