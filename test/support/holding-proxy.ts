import { createConnection, createServer, type Socket } from 'node:net'

/** A TCP proxy that can keep an upstream's answer back: the upstream has done its work, and the caller does not know. */
export interface HoldingProxy {
  readonly port: number
  /** From the next time that a caller sends `text`, nothing of the upstream's answers on that connection gets through. */
  holdAfter(text: string): void
  /** Resolves when `text` was seen. */
  held(): Promise<void>
  /** Lets everything through again. */
  release(): void
  close(): Promise<void>
}

export async function startHoldingProxy(target: { host: string; port: number }): Promise<HoldingProxy> {
  let pattern: string | undefined
  let seen: () => void = () => {}
  let seenOnce = new Promise<void>((resolve) => (seen = resolve))
  const sockets = new Set<Socket>()
  const parked = new Set<() => void>()

  const server = createServer((caller) => {
    const upstream = createConnection(target)
    let holding = false
    const kept: Buffer[] = []
    for (const socket of [caller, upstream]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        caller.destroy()
        upstream.destroy()
      })
    }
    caller.on('data', (chunk) => {
      if (pattern !== undefined && chunk.includes(pattern)) {
        holding = true
        pattern = undefined
        parked.add(() => {
          holding = false
          for (const answer of kept.splice(0)) caller.write(answer)
        })
        seen()
      }
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => (holding ? kept.push(chunk) : caller.write(chunk)))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    holdAfter(text) {
      seenOnce = new Promise((resolve) => (seen = resolve))
      pattern = text
    },
    held: () => seenOnce,
    release() {
      pattern = undefined
      for (const letGo of parked) letGo()
      parked.clear()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
