import { createConnection, createServer, type Server, type Socket } from 'node:net'

const HOST = '127.0.0.1'

export interface StallingServer {
  readonly port: number
  /** Connections taken so far. */
  connections(): number
  close(): Promise<void>
}

/** Takes every connection and says nothing at all; or says `answer`, whatever it was asked or before it is, and nothing more. */
export async function startStallingServer(answer?: string | Buffer, speaksFirst = false): Promise<StallingServer> {
  let taken = 0
  const { server, sockets } = listening((caller) => {
    taken++
    if (answer !== undefined && speaksFirst) return void caller.write(answer)
    caller.on('data', () => answer !== undefined && caller.write(answer))
  })
  return { port: await portOf(server), connections: () => taken, close: () => closed(server, sockets) }
}

/** The messages of PostgreSQL by which it takes any login, and says that it is ready. */
const WELCOME = Buffer.from('520000000800000000' + '5a0000000549', 'hex')

/** A PostgreSQL that takes every login, and resets the connection at the first statement. */
export async function startResettingDatabase(): Promise<StallingServer> {
  let taken = 0
  const { server, sockets } = listening((caller) => {
    taken++
    caller.once('data', () => {
      caller.write(WELCOME)
      caller.once('data', () => caller.resetAndDestroy())
    })
  })
  return { port: await portOf(server), connections: () => taken, close: () => closed(server, sockets) }
}

/** A port on which nobody listens. */
export async function closedPort(): Promise<number> {
  const { server, sockets } = listening(() => undefined)
  const port = await portOf(server)
  await closed(server, sockets)
  return port
}

export interface PausingProxy {
  readonly port: number
  /** Keeps back what a caller sends, from the next chunk that holds `text`. */
  pauseAt(text: string): void
  /** Resolves once something is kept back. */
  paused(): Promise<void>
  /** Sends on what was kept back, though its caller may be gone; resolves when the upstream has answered or closed. */
  resume(): Promise<void>
  close(): Promise<void>
}

/** A TCP proxy that delivers a request late: the network's, or a stopped process's, way of being slow. */
export async function startPausingProxy(target: { host: string; port: number }): Promise<PausingProxy> {
  let pattern: string | undefined
  let onPause: () => void = () => undefined
  let kept: { caller: Socket; upstream: Socket; chunks: Buffer[] } | undefined
  let nextPause = Promise.resolve()
  const upstreams = new Set<Socket>()
  const { server, sockets } = listening((caller) => {
    const upstream = createConnection(target)
    upstreams.add(upstream)
    upstream.on('error', () => upstream.destroy())
    upstream.on('close', () => caller.destroy())
    upstream.on('data', (chunk) => caller.writable && caller.write(chunk))
    caller.on('data', (chunk) => {
      if (kept?.upstream === upstream) return kept.chunks.push(chunk)
      if (pattern === undefined || !chunk.includes(pattern)) return upstream.write(chunk)
      pattern = undefined
      kept = { caller, upstream, chunks: [chunk] }
      return onPause()
    })
    caller.on('close', () => kept?.upstream !== upstream && upstream.destroy())
  })
  return {
    port: await portOf(server),
    pauseAt(text) {
      nextPause = new Promise((resolve) => {
        onPause = resolve
      })
      pattern = text
    },
    paused: () => nextPause,
    async resume() {
      const late = kept
      if (late === undefined) throw new Error('nothing was kept back')
      const answered = new Promise<void>((resolve) => {
        late.upstream.once('data', () => resolve())
        late.upstream.once('close', () => resolve())
      })
      for (const chunk of late.chunks) late.upstream.write(chunk)
      await answered
      kept = undefined
      if (late.caller.destroyed) late.upstream.end()
    },
    async close() {
      for (const upstream of upstreams) upstream.destroy()
      await closed(server, sockets)
    },
  }
}

function listening(take: (caller: Socket) => void): { server: Server; sockets: Set<Socket> } {
  const sockets = new Set<Socket>()
  const server = createServer((caller) => {
    sockets.add(caller)
    caller.on('error', () => caller.destroy())
    caller.on('close', () => sockets.delete(caller))
    take(caller)
  })
  return { server, sockets }
}

function portOf(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, HOST, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}

async function closed(server: Server, sockets: Set<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => server.close(resolve))
}
