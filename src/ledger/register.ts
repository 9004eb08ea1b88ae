import type { Lock, Register } from '../types.js'
import { messageOf } from './connection.js'
import { hashed, keys, partitionFor } from './keys.js'
import type { Ledger } from './ledger.js'
import { listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import type { Store } from './store.js'

const addScript = defineScript('register-add', 'register', ['list', 'hash', 'id', 'valid_until'])
const readScript = defineScript('register-read', 'register', ['list', 'hash'])
const lockScript = defineScript('register-lock', 'register', ['list', 'ms'])
const releaseScript = defineScript('register-release', 'register', ['list', 'token'])

/** Two clocks may run this much apart, and Redis counts whole milliseconds. */
const DRIFT = 0.01
const LEAST_MARGIN_MS = 2

export function registerCalls(store: Store): Pick<Ledger, 'register'> {
  return {
    register: (provider) => {
      const hash = hashed(provider)
      return registerAt(store, keys.register(partitionFor(hash, store.options.partitions), hash))
    },
  }
}

/** All lists of one provider are in one partition; a list's name enters its key hashed. */
function registerAt(store: Store, key: string): Register {
  return {
    add: async (list, { id, until }) => {
      await store.run(addScript, key, { list, hash: hashed(list), id, valid_until: Math.ceil(until) })
    },
    read: async (list) => {
      const [version, ...rest] = listOf(await store.run(readScript, key, { list, hash: hashed(list) }))
      const entries = []
      for (let i = 0; i < rest.length; i += 2) entries.push({ id: textOf(rest[i]), until: numberOf(rest[i + 1]) })
      return { version: numberOf(version), entries }
    },
    lists: () => store.ask((redis) => redis.smembers(`${key}:lists`)),
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
