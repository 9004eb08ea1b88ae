import { Redis } from 'ioredis'
import type { SentinelAddress } from './address.js'
import { COMMAND_TIMEOUT_MS } from './connection.js'

const RETRY_MS = 1_000
/** Each Sentinel tells of the same change. */
const SAME_CHANGE_MS = 1_000
const CHANNEL = '+switch-master'

/**
 * Hears from the Sentinels that another server is the primary now. One that hangs keeps its connections, and whoever has them would wait for
 * it. ioredis's own way to hear it leaves its connections behind when a client quits, and prints when a Sentinel is away.
 */
export function watchSwitch({ name, nodes, sentinelUsername, sentinelPassword, tls }: SentinelAddress, onSwitch: () => void): { stop(): void } {
  let heardAt = Number.NEGATIVE_INFINITY
  const hear = (_channel: string, message: string): void => {
    if (!message.startsWith(`${name} `) || performance.now() - heardAt < SAME_CHANGE_MS) return
    heardAt = performance.now()
    onSwitch()
  }
  const sentinels = nodes.map(({ host, port }) => {
    const sentinel = new Redis({
      host,
      port,
      username: sentinelUsername,
      password: sentinelPassword,
      ...(tls && { tls: { ...tls } }),
      protocol: 2,
      connectTimeout: COMMAND_TIMEOUT_MS,
      enableReadyCheck: false,
      maxRetriesPerRequest: null,
      retryStrategy: () => RETRY_MS,
    })
    // One that is away is no trouble while another can be asked; when none can, connecting says so.
    sentinel.on('error', () => undefined)
    sentinel.on('message', hear)
    sentinel.subscribe(CHANNEL).catch(() => undefined)
    return sentinel
  })
  return {
    stop: () => {
      for (const sentinel of sentinels) sentinel.disconnect()
    },
  }
}
