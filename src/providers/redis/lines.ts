import type { Redis } from 'ioredis'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'

/** Connections that are each one caller's while it works: WATCH belongs to a connection. */
export interface Lines {
  use<T>(time: Deadline, work: (redis: Redis) => Promise<T>): Promise<T>
  close(): void
}

/** Keeps at most `spare` idle connections; how many are in use at once is the caller's matter. */
export async function openLines(url: string, spare: number, connectionName: string): Promise<Lines> {
  const { Redis } = await import('ioredis')
  const idle: Redis[] = []
  const all = new Set<Redis>()
  let closed = false

  const dial = async (time: Deadline): Promise<Redis> => {
    const redis = new Redis(url, {
      lazyConnect: true,
      protocol: 2,
      connectionName,
      disableClientInfo: true,
      connectTimeout: time.left(),
      // Nothing is sent later than its caller knows of: no queue, no repeats, no reconnection.
      enableOfflineQueue: false,
      enableReadyCheck: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      retryStrategy: () => null,
    })
    // A refused login comes as an event; the promise of `connect` only says that the connection is gone.
    let said: unknown
    redis.on('error', (error) => {
      said = error
    })
    redis.on('end', () => all.delete(redis))
    all.add(redis)
    await within(time, () => redis.connect()).catch((error: unknown) => {
      hangUp(redis)
      throw error instanceof ProviderError ? error : (said ?? error)
    })
    return redis
  }
  const hangUp = (redis: Redis): void => {
    all.delete(redis)
    if (redis.status !== 'close' && redis.status !== 'end') redis.disconnect()
  }

  return {
    async use(time, work) {
      let redis: Redis | undefined
      let healthy = false
      try {
        while (idle.length > 0 && redis?.status !== 'ready') redis = idle.pop()
        if (redis?.status !== 'ready') redis = await dial(time)
        const line = redis
        const result = await within(time, () => work(line))
        healthy = true
        return result
      } catch (error) {
        throw asProviderError(error)
      } finally {
        if (redis !== undefined) {
          if (healthy && !closed && idle.length < spare) idle.push(redis)
          else hangUp(redis)
        }
      }
    },
    close() {
      closed = true
      for (const redis of all) hangUp(redis)
    },
  }
}

type Kind = ProviderError['kind']
const NOT_PERMITTED = ['refused', "the broker's Redis user lacks a permission: see docs/providers/redis.md"] as const
const BY_WORD: Readonly<Record<string, readonly [Kind, string]>> = {
  WRONGPASS: ['refused', "Redis refused the broker's own login: check the url's user and password"],
  NOAUTH: ['refused', "Redis asks for a login: check the url's user and password"],
  NOPERM: NOT_PERMITTED,
  OOM: ['throttled', 'Redis is out of memory'],
  BUSY: ['throttled', 'Redis is busy with a script'],
  LOADING: ['unreachable', 'Redis is loading its data'],
  READONLY: ['unreachable', 'this Redis is a replica: ACL users belong on the primary'],
}

function asProviderError(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const said = thrown instanceof Error ? thrown.message : ''
  // Not the error itself: ioredis hangs the command on it, and the command may be AUTH.
  const cause = new Error(said)
  if (!(thrown instanceof Error) || thrown.name !== 'ReplyError')
    return new ProviderError('unreachable', 'Redis could not be reached, or did not answer as Redis does', { cause })
  const [kind, message] = BY_WORD[said.split(' ')[0] ?? ''] ?? fallback(said)
  return new ProviderError(kind, message, { cause })
}

function fallback(said: string): readonly [Kind, string] {
  if (/^EXECABORT .*no permissions/.test(said)) return NOT_PERMITTED
  if (said.startsWith('ERR max number of clients')) return ['throttled', 'Redis has too many clients']
  if (said.startsWith('ERR Error in ACL SETUSER')) return ['invalid', 'Redis does not know one of the command rules of this role']
  return ['broken', 'Redis answered with an error']
}
