import { createConnection, createServer, type Socket } from 'node:net'

/** A TCP proxy that lets what the target says through this much later, and drops what is still under way when the target dies: a long line. */
export interface LaggingProxy {
  readonly port: number
  close(): Promise<void>
}

export async function startLaggingProxy(targetPort: number, lagMs: number): Promise<LaggingProxy> {
  const sockets = new Set<Socket>()
  const server = createServer((caller) => {
    const target = createConnection({ host: '127.0.0.1', port: targetPort })
    for (const socket of [caller, target]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        caller.destroy()
        target.destroy()
      })
    }
    caller.on('data', (chunk) => target.write(chunk))
    target.on('data', (chunk) => {
      setTimeout(() => {
        if (!caller.destroyed) caller.write(chunk)
      }, lagMs)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
