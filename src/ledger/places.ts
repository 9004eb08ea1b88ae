import { hashed, keys, partitionFor, partitionOfKey } from './keys.js'
import type { NewLease } from './ledger.js'
import { numberOf } from './reply.js'
import { defineScript } from './script.js'
import type { Store } from './store.js'

/** Live leases of one agent over all partitions. They are counted at a partition of the agent's own. */

const enterScript = defineScript('enter-agent', 'agent-live', ['lease', 'over_at', 'limit', 'instead'])

/** Two hashes for a name that comes again and again; emptied when it is full, since agents are few and come back. */
const agentKeys = new Map<string, string>()
const MOST_AGENT_KEYS = 10_000

export function agentKey(agent: string, partitions: number): string {
  const name = `${partitions} ${agent}`
  const known = agentKeys.get(name)
  if (known !== undefined) return known
  const hash = hashed(agent)
  const key = keys.agentLive(partitionFor(hash, partitions), hash)
  if (agentKeys.size >= MOST_AGENT_KEYS) agentKeys.clear()
  agentKeys.set(name, key)
  return key
}

/** Gives an agent's place back. Best effort: a place that stays is free again when its lease would have been over. */
export function leaveAgent(store: Store, agent: string, lease: string): void {
  const key = agentKey(agent, store.options.partitions)
  store
    .ask(partitionOfKey(key), (redis) => redis.zrem(key, lease))
    .catch(() => store.log('warn', "an agent's place was not given back; it heals at the lease's latest end", { lease }))
}

/** Takes a place for a lease, beside the one that it takes the place of. Answers false when the agent has no more. */
export async function enterAgent(store: Store, lease: NewLease, instead = ''): Promise<boolean> {
  const args = { lease: lease.id, over_at: overAt(store, lease), limit: lease.limits.perAgentLive, instead }
  return numberOf(await store.run(enterScript, agentKey(lease.agent.id, store.options.partitions), args)) === 1
}

/** When a lease is over whatever happens. */
export function overAt(store: Store, lease: NewLease): number {
  return store.clock.now() + Math.max(lease.maxLifetimeSeconds, lease.shortestLifeSeconds ?? 0) * 1000 + lease.mintMs + store.options.skewMarginMs
}
