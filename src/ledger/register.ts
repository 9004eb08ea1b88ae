import { LRUCache } from 'lru-cache'
import type { Lock, Register, RegisterEntry } from '../types.js'
import { messageOf } from './connection.js'
import { hashed, keys, partitionFor, partitionOfKey } from './keys.js'
import type { Ledger } from './ledger.js'
import { type Answer, createTurns, type Question, type ReadList, readList } from './register-reader.js'
import { notReplicated } from './replication.js'
import { listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import type { Store } from './store.js'

const addScript = defineScript('register-add', 'register', ['list', 'hash', 'id', 'valid_until'])
const readScript = defineScript('register-read', 'register', ['list', 'hash', 'seen', 'token', 'after', 'offset', 'look', 'limit'])
const lockScript = defineScript('register-lock', 'register', ['list', 'ms'])
const releaseScript = defineScript('register-release', 'register', ['list', 'token'])

/** Two clocks may run this much apart, and Redis counts whole milliseconds. */
const DRIFT = 0.01
const LEAST_MARGIN_MS = 2

/** Of one broker, all lists together: about 800,000 entries of the usual length. What was longest not read is read from its beginning. */
const MOST_KEPT_BYTES = 128 * 1024 * 1024

export function registerCalls(store: Store): Pick<Ledger, 'register'> {
  const kept = new LRUCache<string, ReadList>({ maxSize: MOST_KEPT_BYTES, sizeCalculation: ({ bytes }) => bytes })
  const inTurn = createTurns<ReadList>()
  return {
    register: (provider) => {
      const hash = hashed(provider)
      const key = keys.register(partitionFor(hash, store.options.partitions), hash)
      return registerAt(store, key, (list) => {
        const name = `${key}:${hashed(list)}`
        return inTurn(name, async () => {
          const now = await readList((question) => askList(store, key, list, question), kept.get(name))
          kept.set(name, now)
          return now
        })
      })
    },
  }
}

/** One call of a read. */
export async function askList(store: Pick<Store, 'run'>, key: string, list: string, question: Question): Promise<Answer> {
  const [now, version, token, offset, reached, told] = listOf(await store.run(readScript, key, { list, hash: hashed(list), ...question }))
  const isPage = numberOf(offset) >= 0
  const found = listOf(told)
  const entries: RegisterEntry[] = []
  for (let i = 0; i < found.length; i += 2) {
    // What has gone since it was changed.
    if (found[i + 1] === null) continue
    const text = textOf(found[i])
    entries.push({ id: isPage ? text.slice(1) : text, until: numberOf(found[i + 1]) })
  }
  return { now: numberOf(now), version: numberOf(version), token: textOf(token), offset: numberOf(offset), reached: numberOf(reached), entries }
}

/** All lists of one provider are in one partition; a list's name enters its key hashed. */
function registerAt(store: Store, key: string, read: (list: string) => Promise<ReadList>): Register {
  return {
    add: async (list, { id, until }) => {
      await store.run(addScript, key, { list, hash: hashed(list), id, valid_until: Math.ceil(until) })
      // What counts as revoked by it is settled in another partition, whose server may keep what this one loses.
      if (store.replication && !(await store.replication.of(partitionOfKey(key), 'withdrawn'))) throw notReplicated()
    },
    read: async (list) => {
      const { version, entries } = await read(list)
      return { version, entries }
    },
    lists: () => store.ask(partitionOfKey(key), (redis) => redis.smembers(`${key}:lists`)),
    lock: async (list, ms) => {
      const sentAt = performance.now()
      const token = numberOf(await store.run(lockScript, key, { list, ms: Math.floor(ms) }))
      return token === 0 ? undefined : lockOf(store, key, list, token, sentAt + ms - Math.max(LEAST_MARGIN_MS, ms * DRIFT))
    },
  }
}

/** `endsAt` is this process's monotonic clock's, counted from before Redis could have begun to count. */
function lockOf(store: Store, key: string, list: string, token: number, endsAt: number): Lock {
  let isReleased = false
  return {
    token,
    left: () => (isReleased ? 0 : Math.max(0, endsAt - performance.now())),
    release: async () => {
      if (isReleased) return
      isReleased = true
      // What could not be given back runs out by itself.
      await store.run(releaseScript, key, { list, token }).catch((error: unknown) => {
        store.log('warn', 'a lock was not given back; it runs out by itself', { list, error: messageOf(error) })
      })
    },
  }
}
