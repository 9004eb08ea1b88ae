import type { ThawAsk } from '../types.js'
import { hashed, keys, partitionOf } from './keys.js'
import type { Ledger } from './ledger.js'
import { listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import type { Store } from './store.js'

const askScript = defineScript('ask-thaw', 'thaw', ['who', 'ask', 'ttl_ms', 'event'])

/** Who wants a freeze to be thawed, at its own partition. */
export function thawCalls(store: Store): Pick<Ledger, 'askThaw'> {
  return {
    askThaw: async (freeze, ask, ttlMs, event) => {
      const partition = partitionOf(freeze, 'freeze', store.options.partitions)
      if (partition === undefined) throw new RangeError(`"${freeze}" is no id of a freeze`)
      const args = { who: hashed(ask.issuer, ask.by), ask: JSON.stringify(ask), ttl_ms: ttlMs, event: JSON.stringify(event) }
      return listOf(await store.run(askScript, keys.thaw(partition, freeze), args)).map((one) => JSON.parse(textOf(one)) as ThawAsk)
    },
  }
}
