import { ACTIONS, type Action, type Family, familyOf } from '../actions.js'
import { requestOf, written } from '../case.js'
import type { Policy, PolicyRequest } from '../policy.js'
import type { Problem } from '../problems.js'

const read = written({})
/** The least that can be asked: what becomes of it does not matter, only that there is an answer. */
const LEAST: Readonly<Record<Family, object>> = {
  obtain: { agent: { autonomy: 'autonomous' }, role: { name: 'role' } },
  call: { agent: { autonomy: 'autonomous' }, tool: { name: 'tool' }, call: { action: 'action', target: 'target' } },
  // Somebody else's: one's own ends whatever an OPA says, or does not.
  task: { orchestrator: {}, task: { opened_by: { kind: 'orchestrator', id: 'another' } } },
  delegate: { agent: { autonomy: 'autonomous' }, delegation: { to: 'agent' } },
  approval: { operator: {} },
  operator: { operator: {} },
}

export function least(action: Action): PolicyRequest {
  return requestOf(read.parse({ action, ...LEAST[familyOf(action)] }))
}

/** Asks about each action once. What is wrong with an engine elsewhere, each thing once; empty: it decides. */
export async function probe(policy: Policy): Promise<Problem[]> {
  const found = new Map<string, string[]>()
  for (const action of ACTIONS) {
    const { error, unavailable } = await policy.decide(least(action))
    if (error === undefined) continue
    if (unavailable) return [{ path: 'opa', message: error }]
    found.set(error, [...(found.get(error) ?? []), action])
  }
  return [...found].map(([message, actions]) => ({
    path: `opa: ${actions.length === ACTIONS.length ? 'every action' : actions.join(', ')}`,
    message,
  }))
}
