import { Redis, type RedisOptions } from 'ioredis'
import { MayflyError } from '../errors.js'
import type { HostAndPort, Login, RedisAddress, SentinelAddress } from './address.js'

export type Log = (level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>) => void

/** A broker that cannot reach Redis says so at once: nothing queues, nothing is sent twice behind the caller's back. */
export const COMMAND_TIMEOUT_MS = 2_000
const CONNECT_TIMEOUT_MS = 5_000
const MOST_RECONNECT_MS = 1_000
/** A connection on which nothing comes, while answers are due, leads nowhere: its other end went without a word. */
const SILENCE_MS = 10_000

/** Of one server: a Cluster is several of these. */
export type OneAddress = Exclude<RedisAddress, { readonly cluster: unknown }> | { readonly server: HostAndPort & Login }

/** Connects by itself, and anew for as long as it is not disconnected. */
export function open(address: OneAddress, log: Log, overrides: RedisOptions = {}): Redis {
  const options: RedisOptions = {
    lazyConnect: true,
    // RESP3 would answer some commands in other shapes.
    protocol: 2,
    commandTimeout: COMMAND_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_MS,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    enableAutoPipelining: false,
    retryStrategy: (times) => Math.min(times * 50, MOST_RECONNECT_MS),
    reconnectOnError: isDemoted(),
    ...overrides,
  }
  const redis = redisOf(address, options)
  let trouble = ''
  redis.on('error', (error: Error) => {
    if (error.message === trouble) return
    trouble = error.message
    log('warn', 'the connection to Redis has trouble', { error: error.message })
  })
  redis.on('ready', () => {
    trouble = ''
  })
  return redis
}

/** Connected and ready, or an error that says what is wrong. Reconnects by itself for as long as it is not disconnected. */
export async function connect(address: OneAddress, log: Log, overrides: RedisOptions = {}): Promise<Redis> {
  const redis = open(address, log, overrides)
  try {
    await redis.connect()
  } catch (error) {
    redis.disconnect()
    throw unreachable(error)
  }
  return redis
}

export function unreachable(error: unknown): MayflyError {
  return new MayflyError('ledger_unavailable', 'Redis cannot be reached', {
    next: 'check the address of the ledger and that Redis runs there',
    internal: messageOf(error),
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause: error,
  })
}

function redisOf(address: OneAddress, options: RedisOptions): Redis {
  if ('socketPath' in address) return new Redis({ path: address.socketPath, ...options })
  if ('server' in address) {
    const { tls, ...server } = address.server
    return new Redis({ ...server, ...(tls && { tls: { ...tls } }), ...options })
  }
  if ('url' in address) return new Redis(address.url.replace(/^unix:(\/\/)?/, ''), options)
  /** State: whether the Sentinels ever led anywhere. Before, that they do not is an answer; later, it is to be waited for. */
  let isKnown = false
  const redis = new Redis({ ...sentinelOptions(address.sentinel, () => isKnown), ...options })
  redis.once('ready', () => {
    isKnown = true
  })
  return redis
}

function sentinelOptions(
  { name, nodes, username, password, sentinelUsername, sentinelPassword, tls }: SentinelAddress,
  isKnown: () => boolean,
): RedisOptions {
  return {
    sentinels: [...nodes],
    name,
    username,
    password,
    sentinelUsername,
    sentinelPassword,
    ...(tls && { tls: { ...tls }, sentinelTLS: { ...tls }, enableTLSForSentinelMode: true }),
    sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
    sentinelRetryStrategy: (times) => (isKnown() ? Math.min(times * 50, MOST_RECONNECT_MS) : null),
  }
}

/**
 * Whether to connect anew because of an error: a primary that became a replica keeps its connections, and says READONLY for ever, while
 * its address leads to another by now. Once a second at most, since the others' answers are lost with the connection.
 */
function isDemoted(): (error: Error) => boolean {
  let last = Number.NEGATIVE_INFINITY
  return ({ message }) => {
    if (!message.startsWith('READONLY') || performance.now() - last < MOST_RECONNECT_MS) return false
    last = performance.now()
    return true
  }
}

export const RETRY_AFTER_SECONDS = 1

/** Answers of Redis that say it cannot work now. Everything else is a defect of ours. */
const UNABLE =
  /^(OOM|READONLY|LOADING|MISCONF|NOREPLICAS|CLUSTERDOWN|MASTERDOWN|BUSY|TRYAGAIN|MOVED|ASK|UNBLOCKED|NOAUTH|WRONGPASS|NOPERM|-?ERR max number of clients)/
const UNREACHABLE =
  /Command timed out|Connection is closed|Stream isn't writeable|ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|max retries per request|Socket timeout|sentinels are unreachable/i

export function asLedgerError(error: unknown): unknown {
  if (error instanceof MayflyError) return error
  const text = messageOf(error)
  // A script that fails inside says `ERR … OOM`, or the command's own error, depending on the version.
  if (!UNABLE.test(text) && !UNREACHABLE.test(text) && !/\bOOM command not allowed/.test(text)) return error
  return new MayflyError('ledger_unavailable', 'the ledger is unavailable', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    internal: text.slice(0, 300),
    cause: error,
  })
}

export function messageOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error)
}
