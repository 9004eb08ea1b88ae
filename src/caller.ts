import { MayflyError } from './errors.js'
import type { House } from './house.js'
import type { Agent, Gateway } from './types.js'

/** Who calls tools, and who asks whether it may. */
export interface Caller {
  readonly agent: Agent
  /** The agent itself, or a gateway in its stead. */
  readonly principal: Agent | Gateway
  /** Whoever asks stands in front of the tool: the answer binds. From an agent it is advice, and evidence. */
  readonly enforced: boolean
}

/** In whose stead a gateway asks: an agent by its name, or whoever holds a lease. */
export type Represented = { readonly agent: string; readonly issuer?: string; readonly instance?: string } | { readonly lease: string }

export function ownCaller(agent: Agent): Caller {
  return { agent, principal: agent, enforced: false }
}

/**
 * The agent in whose stead a gateway asks, as the configuration has it: a gateway's word says which one it is, and nothing about it.
 * Refused before anything is counted against the agent, which had no part in it.
 * @throws MayflyError `denied` where it is not exactly one, or none that the gateway asks for
 */
export async function representedBy(house: House, gateway: Gateway, whom: Represented): Promise<Caller> {
  const named = 'lease' in whom ? await holderOf(house, whom.lease) : { id: whom.agent, issuer: whom.issuer, instance: whom.instance }
  if (named && !asksFor(gateway, named.id)) throw notIts()
  const [agent, another] = named ? house.roster(named) : []
  if (!agent)
    throw new MayflyError('denied', 'there is no such agent', { next: 'name the agent, and its instance where it has one, as `whoami` does' })
  if (another) throw new MayflyError('denied', 'there are several such agents', { next: 'name its issuer too' })
  return { agent, principal: gateway, enforced: true }
}

function asksFor({ agents }: Gateway, id: string): boolean {
  if (agents === undefined) return true
  return agents.some((pattern) => pattern === '*' || pattern === id || (pattern.endsWith('/*') && id.startsWith(pattern.slice(0, -1))))
}

function notIts(): MayflyError {
  const next = 'ask for the agents that the configuration gives this gateway'
  return new MayflyError('denied', 'this gateway does not ask in the stead of that agent', { next })
}

async function holderOf({ ledger }: House, id: string): Promise<{ id: string; issuer: string; instance?: string } | undefined> {
  const lease = await ledger.lease(id)
  if (lease?.state !== 'active' || lease.expiresAt <= ledger.now()) return undefined
  return { id: lease.agent, issuer: lease.issuer, instance: lease.instance }
}
