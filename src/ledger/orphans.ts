import type { Event } from '../types.js'
import { leasesByPartition } from './by-partition.js'
import { keys } from './keys.js'
import type { Ledger, Sight, Whereabouts } from './ledger.js'
import { claimOf } from './records.js'
import { listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { partitionOfLease, partitionsOf, type Store } from './store.js'

/** What upstreams list, held against what is written here. */

const lookUpScript = defineScript('look-up', 'providers', [], { rest: 'leases' })
const sightScript = defineScript('sight', 'sighted', ['provider', 'listed_from', 'apart', 'outbox_limit', 'keep_ms', 'most', 'event'], {
  rest: 'leases',
})
const adoptScript = defineScript('adopt', 'lease', [
  'lease',
  'provider',
  'handle',
  'sealed_by',
  'revocation',
  'residual',
  'expires',
  'event',
  'skew',
  'visibility',
])
const activesScript = defineScript('actives', 'providers', ['provider', 'minted_before', 'cursor'])

/** Of one partition in one step, so that nothing else waits for it. */
const MOST_AT_ONCE = 500
const KEEP_SIGHTS_MS = 30 * 86_400_000
/** Of one provider, in all partitions: about 40 MB. */
const MOST_SIGHTS = 400_000
/** The last millisecond that a Date can hold: what an upstream says of an end may be anything. */
const LATEST = 8_640_000_000_000_000

const WHEREABOUTS: Readonly<Record<string, Whereabouts>> = { u: 'unknown', s: 'settled', l: 'live', c: 'closing' }
const SIGHTS: Readonly<Record<string, Sight>> = { k: 'known', s: 'seen', f: 'found', o: 'orphan' }

export function orphanCalls(store: Store): Pick<Ledger, 'lookUp' | 'sight' | 'adopt' | 'activesOf'> {
  /** One word of the ledger's for each id that could be one of its own, in as few steps as they have partitions. */
  const asked = async <Word>(
    ids: readonly string[],
    words: Readonly<Record<string, Word>>,
    ask: (partition: number, ids: readonly string[]) => Promise<unknown>,
  ): Promise<Map<string, Word>> => {
    const found = new Map<string, Word>()
    const askOne = async (partition: number, some: readonly string[]): Promise<void> => {
      const letters = listOf(await ask(partition, some))
      for (const [index, id] of some.entries()) {
        const word = words[textOf(letters[index])]
        if (word === undefined) throw new TypeError(`the ledger's script did not say what it knows of ${id}`)
        found.set(id, word)
      }
    }
    await Promise.all(leasesByPartition(store, ids, MOST_AT_ONCE).map(([partition, some]) => askOne(partition, some)))
    return found
  }

  return {
    lookUp: (ids) => asked(ids, WHEREABOUTS, (partition, some) => store.run(lookUpScript, keys.providers(partition), {}, some)),

    sight: (provider, ids, { listedFrom, apartMs }, event) =>
      asked(ids, SIGHTS, (partition, some) => {
        const args = { provider, listed_from: listedFrom, apart: apartMs, outbox_limit: store.outboxLimit, event: JSON.stringify(event) }
        const most = Math.ceil(MOST_SIGHTS / store.options.partitions)
        return store.run(sightScript, keys.sighted(partition, provider), { ...args, keep_ms: KEEP_SIGHTS_MS, most }, some)
      }),

    adopt: async ({ lease, provider, handle, sealedBy, revocation, residualSeconds, expiresAt }, event: Event, { left = false } = {}) => {
      const partition = partitionOfLease(store, lease)
      if (partition === undefined) return { adopted: false }
      const reply = await store.run(adoptScript, keys.lease(partition, lease), {
        lease,
        provider,
        handle: JSON.stringify(handle),
        sealed_by: sealedBy ?? '',
        revocation,
        residual: residualSeconds,
        expires: expiresAt !== undefined && expiresAt > 0 ? Math.min(Math.ceil(expiresAt), LATEST) : store.clock.now(),
        event: JSON.stringify(event),
        skew: store.options.skewMarginMs,
        visibility: left ? 0 : store.options.visibilityMs,
      })
      if (!reply) return { adopted: false }
      const [, claim] = listOf(reply)
      return { adopted: true, claim: claim ? claimOf(claim) : undefined }
    },

    activesOf: async function* (provider, mintedBefore) {
      for (const partition of partitionsOf(store)) {
        for (let cursor = '0'; cursor !== 'done'; ) {
          const [next, ...ids] = listOf(await store.run(activesScript, keys.providers(partition), { provider, minted_before: mintedBefore, cursor }))
          cursor = textOf(next)
          yield ids.map(textOf)
        }
      }
    },
  }
}
