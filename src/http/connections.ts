import type { Server, ServerResponse } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'

export interface Connections {
  readonly all: ReadonlySet<Socket>
  /** Those that can speak HTTP: with TLS, once they have shaken hands. */
  readonly open: ReadonlySet<Socket>
  /** Those that have asked nothing yet: Node counts them as busy, and a load balancer keeps some in store. */
  readonly silent: ReadonlySet<Socket>
  /** Answers that are not sent yet. */
  readonly answers: ReadonlySet<ServerResponse>
}

/** From this share of the limit on, those that ask nothing make room for those that may. */
const CROWDED = 0.9
/** How often idle connections are looked for in a drain. */
const IDLE_CHECK_MS = 50

export function track(server: Server, opened: 'connection' | 'secureConnection'): Connections {
  const all = new Set<Socket>()
  const open = new Set<Socket>()
  const silent = new Set<Socket>()
  const hold = (held: Set<Socket>) => (socket: Socket) => {
    held.add(socket)
    socket.once('close', () => held.delete(socket))
  }
  server.on('connection', hold(all))
  server.on(opened, hold(open))
  server.on(opened, hold(silent))
  const answers = new Set<ServerResponse>()
  server.prependListener('request', ({ socket }, response: ServerResponse) => {
    silent.delete(socket)
    answers.add(response)
    response.once('close', () => answers.delete(response))
  })
  server.on('connection', (arrived: Socket) => {
    if (all.size > server.maxConnections * CROWDED) makeRoom(server, silent, arrived)
  })
  return { all, open, silent, answers }
}

/** A flood of connections that ask nothing, or send their headers a byte at a time, shuts nobody out: it is the oldest of these that goes. */
function makeRoom(server: Server, silent: ReadonlySet<Socket>, arrived: Socket): void {
  for (const oldest of silent) {
    if (oldest === arrived) continue
    oldest.destroy()
    return
  }
  server.closeIdleConnections()
}

/** `performance.now()` of the look at which an answer first waited for its reader. */
const waiting = new WeakMap<Socket, number>()

/** Node bounds how long a request may take to come, and not how long an answer may take to go. */
export function cutUnread({ open }: Connections, unreadMs: number): void {
  const now = performance.now()
  for (const socket of open) {
    const since = waiting.get(socket)
    if (socket.writableLength === 0) {
      if (since !== undefined) waiting.delete(socket)
    } else if (since === undefined) waiting.set(socket, now)
    else if (now - since >= unreadMs) socket.destroy()
  }
}

/** Stops accepting and lets what is in flight end, for at most so long; then cuts it. What is idle may stay for `lingerMs`. */
export async function close(server: Server, { all, silent, answers }: Connections, graceMs: number, lingerMs: number): Promise<void> {
  for (const response of answers) endsConnection(response)
  server.prependListener('request', (_request, response: ServerResponse) => endsConnection(response))
  // Not the HTTP server's own, which cuts idle connections at once.
  const closed = new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve()))
  let lingering = lingerMs > 0
  const letIdleGo = () => {
    if (lingering) return
    server.closeIdleConnections()
    for (const socket of silent) socket.destroy()
  }
  letIdleGo()
  // A connection that becomes idle while the server closes would otherwise stay for its keep-alive time.
  const idle = setInterval(letIdleGo, IDLE_CHECK_MS)
  const lingered = setTimeout(() => {
    lingering = false
  }, lingerMs)
  const late = setTimeout(() => {
    for (const socket of all) socket.destroy()
  }, graceMs)
  await closed
  for (const timer of [idle, lingered, late]) clearTimeout(timer)
}

/** RFC 9112 §9.6: the client sends nothing more on this connection. */
function endsConnection(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('connection', 'close')
}
