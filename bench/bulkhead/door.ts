import { createConnection, createServer, type Socket } from 'node:net'

/** A way to an upstream that can be shut: then connections are refused, and those that there were are reset. */
export interface Door {
  readonly url: string
  shut(): Promise<void>
  open(): Promise<void>
}

export async function startDoor(url: string): Promise<Door> {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Socket>()
  const held = (socket: Socket, other: Socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => other.destroy())
    socket.on('close', () => {
      sockets.delete(socket)
      other.destroy()
    })
  }
  const server = createServer((caller) => {
    const upstream = createConnection(Number(port), hostname)
    held(caller, upstream)
    held(upstream, caller)
    caller.pipe(upstream)
    upstream.pipe(caller)
  })
  const listen = (at: number) => new Promise<void>((resolve) => server.listen(at, '127.0.0.1', () => resolve()))
  await listen(0)
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  const mine = new URL(url)
  mine.port = String(address.port)
  return {
    url: mine.href,
    async shut() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.resetAndDestroy()
      await closed
    },
    open: () => listen(address.port),
  }
}
