import { connect, type Socket } from 'node:net'
import { percentile, round } from './support.js'

export interface Flooded {
  /** Requests sent a second: less than asked for once every connection waits for an answer. */
  readonly sent_rps: number
  /** Of these, answered as hoped, a second. */
  readonly good_rps: number
  readonly good_p50_ms: number
  readonly good_p99_ms: number
  /** By status; `cut` for connections that the broker ended. */
  readonly answers: Readonly<Record<string, number>>
  /** Refusals by status that did not say when to come again. */
  readonly without_retry_after: number
}
export interface FloodOptions {
  readonly port: number
  readonly connections: number
  readonly rps: number
  readonly ms: number
  /** Whole requests, as bytes. */
  readonly next: () => string
  readonly good?: string
}

const TICK_MS = 4

/**
 * An open loop: so many requests a second whether or not those before were answered, one in flight on each of so many keep-alive connections. On raw
 * sockets because the generator shares its core with Redis.
 */
export async function flood({ port, connections, rps, ms, next, good = '201' }: FloodOptions): Promise<Flooded> {
  const latencies: number[] = []
  const answers: Record<string, number> = {}
  const free: Socket[] = []
  const open = new Set<Socket>()
  let sent = 0
  let rude = 0
  let over = false
  const count = (status: string) => {
    answers[status] = (answers[status] ?? 0) + 1
  }
  const sentAt = new Map<Socket, number>()

  const dial = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1')
      let received = ''
      socket.setNoDelay(true)
      socket.once('connect', () => {
        open.add(socket)
        free.push(socket)
        resolve()
      })
      socket.on('data', (chunk) => {
        received += chunk.toString('latin1')
        const end = received.indexOf('\r\n\r\n')
        if (end < 0) return
        const head = received.slice(0, end)
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)
        if (received.length < end + 4 + length) return
        const status = received.slice(9, 12)
        received = ''
        count(status)
        if (status === good) latencies.push(performance.now() - (sentAt.get(socket) ?? 0))
        else if ((status === '503' || status === '429') && !/retry-after: \d/i.test(head)) rude++
        sentAt.delete(socket)
        free.push(socket)
      })
      const gone = () => {
        if (!open.delete(socket)) return resolve()
        if (sentAt.delete(socket) && !over) count('cut')
        const at = free.indexOf(socket)
        if (at >= 0) free.splice(at, 1)
        if (!over) void dial()
      }
      socket.on('error', gone)
      socket.on('close', gone)
    })

  await Promise.all(Array.from({ length: connections }, dial))
  const started = performance.now()
  await new Promise<void>((done) => {
    const tick = () => {
      const elapsed = performance.now() - started
      if (elapsed >= ms) return done()
      for (let due = Math.floor((rps * elapsed) / 1000) - sent; due > 0; due--) {
        const socket = free.shift()
        if (!socket) break
        sentAt.set(socket, performance.now())
        socket.write(next())
        sent++
      }
      setTimeout(tick, TICK_MS)
    }
    tick()
  })
  const seconds = (performance.now() - started) / 1000
  over = true
  for (const socket of open) socket.destroy()
  return {
    sent_rps: round(sent / seconds, 0),
    good_rps: round(latencies.length / seconds, 0),
    good_p50_ms: round(percentile(latencies, 50)),
    good_p99_ms: round(percentile(latencies, 99)),
    answers,
    without_retry_after: rude,
  }
}

/** One request as bytes. */
export function bytesOf(path: string, token: string, body: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}
