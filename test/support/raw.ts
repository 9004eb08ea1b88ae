import { connect } from 'node:net'

/**
 * Sends bytes as they are, for what no client library would send, and answers everything that came back once the other side closed
 * (or `end` says that enough has come).
 */
export function exchange(url: string, bytes: string | Buffer, enough: (received: string) => boolean = () => false): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(bytes))
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      if (enough(received)) socket.destroy()
    })
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)))
    socket.on('close', () => resolve(received))
  })
}

/** How many answers a connection got, by their status lines. */
export function statuses(received: string): number[] {
  return [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
}
