import type { LeasePlan } from './provider.js'

interface Actor {
  readonly sub: string
  readonly act?: Actor
}

/**
 * RFC 8693 §4.1, of what Mayfly signs. On behalf of a human the human is the subject and the agent acts; without one the agent is the subject
 * itself: whoever decides by `sub` sees no other agent's rights. Of a task that was handed on, `act` is the agent and, within it, from whom it
 * came, and so on to the first: who only counts as evidence, never for a decision.
 */
export function actors({ agent, human, chain = [] }: Pick<LeasePlan, 'agent' | 'human' | 'chain'>): Actor {
  const through = chain.at(-1) === agent ? chain.slice(0, -1) : chain
  if (human === undefined && through.length === 0) return { sub: agent }
  const before = through.reduce<Actor | undefined>((act, sub) => ({ sub, ...(act && { act }) }), undefined)
  return { sub: human ?? agent, act: { sub: agent, ...(before && { act: before }) } }
}
