import { keys } from './keys.js'
import type { Ledger, LedgerStatus } from './ledger.js'
import { check, type Wanted } from './preflight.js'
import { listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { ofReachable, type Store } from './store.js'

const summaryScript = defineScript('summary', 'providers', ['grace_ms'])

/** A revoke is given this long before it is told of as late. */
const LATE_AFTER_MS = 10_000

export function statusCalls(store: Store, wanted: Wanted): Pick<Ledger, 'status'> {
  return {
    status: async () => {
      try {
        const [{ answers, unreachable }, checked] = await Promise.all([
          ofReachable(store, (partition) => store.run(summaryScript, keys.providers(partition), { grace_ms: LATE_AFTER_MS })),
          check(store.nodes, wanted),
        ])
        const texts = checked.problems.map(({ problem, mend }) => `${problem}: ${mend}`)
        if (unreachable.length > 0) texts.unshift(`partitions cannot be reached: ${unreachable.join(', ')}`)
        const { redisVersion, held } = checked
        return { reachable: true, redisVersion, durability: held, problems: texts, ...sum([...answers.values()].map(listOf), store.clock.now()) }
      } catch (error) {
        const problem = error instanceof Error ? error.message : 'unknown'
        return { reachable: false, outboxLength: 0, live: 0, stuck: [], problems: [problem] }
      }
    },
  }
}

function sum(summaries: readonly unknown[][], now: number): Pick<LedgerStatus, 'outboxLength' | 'live' | 'stuck'> {
  let outboxLength = 0
  let live = 0
  const late = new Map<string, { leases: number; since: number }>()
  for (const [events, leases, ...rest] of summaries) {
    outboxLength += numberOf(events)
    live += numberOf(leases)
    for (let i = 0; i < rest.length; i += 3) {
      const provider = textOf(rest[i])
      const before = late.get(provider) ?? { leases: 0, since: now }
      late.set(provider, { leases: before.leases + numberOf(rest[i + 1]), since: Math.min(before.since, numberOf(rest[i + 2])) })
    }
  }
  const stuck = [...late].map(([provider, { leases, since }]) => ({ provider, leases, oldestMs: Math.max(0, now - since) }))
  return { outboxLength, live, stuck }
}
