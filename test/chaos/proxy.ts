import { createConnection, createServer, type NetConnectOpts, type Socket } from 'node:net'
import type { Trouble } from './plan.js'

/** A TCP proxy in front of one server, for one broker: what happens to the network happens here. */
export interface LinkProxy {
  readonly port: number
  /** From now on. Whatever was before is over. */
  trouble(kind: Trouble, amount?: number): void
  /** Everything passes again; what was kept back is sent, and half-open connections are closed as a peer that rebooted would. */
  heal(): void
  close(): Promise<void>
}

interface Pair {
  readonly caller: Socket
  readonly server: Socket
  /** What a one-way failure or a black hole swallowed of it: it can never be right again. */
  lost: boolean
}
const TRICKLE_EVERY_MS = 20

/**
 * - `latency`: `amount` ms each way at a mean, of each connection for itself: what was sent first on one may arrive after what was sent on another.
 *   What a caller sent arrives though it is gone by then, killed or out of patience. `trickle`: `amount` bytes every 20 ms each way, and no more is read meanwhile, so that both feel it.
 * - `reset`, `fin`: every connection ends with RST or FIN, and so does each new one.
 * - `blackhole`: connections are taken and nothing passes. `oneway`: requests arrive, answers do not.
 */
export async function startProxy(target: NetConnectOpts, draw: () => number = Math.random): Promise<LinkProxy> {
  let kind: Trouble | undefined
  let amount = 0
  const pairs = new Set<Pair>()

  const cut = ({ caller, server }: Pair, how: 'reset' | 'fin') => {
    if (how === 'reset') caller.resetAndDestroy()
    else caller.destroySoon()
    server.destroy()
  }
  /** @returns what is on its way */
  const pass = (pair: Pair, from: Socket, to: Socket, isAnswer: boolean) => {
    /** Chunks leave in order, each when its time has come. */
    let last = Promise.resolve()
    let waiting = 0
    from.on('data', (chunk: Buffer) => {
      if (kind === 'blackhole' || (kind === 'oneway' && isAnswer)) {
        pair.lost = true
        return
      }
      if (kind === undefined && waiting === 0) {
        if (!to.write(chunk)) from.pause()
        return
      }
      waiting++
      from.pause()
      last = last
        .then(() => sendLate(chunk, to))
        .finally(() => {
          if (--waiting === 0) from.resume()
        })
    })
    to.on('drain', () => from.resume())
    from.on('end', () => void last.then(() => to.end()))
    return () => last
  }
  const sendLate = async (chunk: Buffer, to: Socket) => {
    if (kind === 'latency') await pause(2 * amount * draw())
    for (let sent = 0; sent < chunk.length; ) {
      const size = kind === 'trickle' ? amount : chunk.length
      if (to.writable) to.write(chunk.subarray(sent, sent + size))
      sent += size
      if (kind === 'trickle') await pause(TRICKLE_EVERY_MS)
    }
  }

  const listener = createServer({ allowHalfOpen: true }, (caller) => {
    const server = createConnection({ allowHalfOpen: true, ...target })
    const pair: Pair = { caller, server, lost: false }
    pairs.add(pair)
    for (const socket of [caller, server]) {
      socket.setNoDelay(true)
      socket.on('error', () => socket.destroy())
    }
    // How the server's end ended is what the caller gets to see.
    server.on('close', (failed) => (failed ? caller.resetAndDestroy() : caller.destroySoon()))
    const asked = pass(pair, caller, server, false)
    pass(pair, server, caller, true)
    caller.on('close', () => {
      pairs.delete(pair)
      void asked().then(() => server.destroy())
    })
    if (kind === 'reset' || kind === 'fin') cut(pair, kind)
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    trouble(next, by = 0) {
      kind = next
      amount = by
      if (next === 'reset' || next === 'fin') for (const pair of pairs) cut(pair, next)
    },
    heal() {
      kind = undefined
      for (const pair of pairs) if (pair.lost) cut(pair, 'reset')
    },
    async close() {
      for (const pair of pairs) cut(pair, 'reset')
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
