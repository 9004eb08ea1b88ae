import type { House } from './house.js'
import type { EnvelopeEntry, Lease, Revocation, Role, Task } from './types.js'

/** Tasks and leases that one answer looks at. */
const MOST = 500

/** One line of an envelope, and who may draw on it. */
export interface Grant {
  readonly task: Task
  /** Who works on the task: the agent itself, or who it handed the work on to. */
  readonly agent: string
  /** Of what was handed on: the agents between whoever was asked about and who works on it. Of its own: through whom it came. */
  readonly through: readonly string[]
  readonly entry: EnvelopeEntry
  /** Absent: the role is not configured any more, so that nothing is issued. */
  readonly role?: Reached
  /** Its unsettled leases. */
  readonly holds: number
}
export type Reached = Pick<Role, 'name' | 'provider' | 'access' | 'sensitivity'> & {
  readonly revocation?: Revocation
  readonly residualSeconds?: number
}

export interface Reach {
  readonly own: readonly Grant[]
  readonly handedOn: readonly Grant[]
  readonly leases: readonly Lease[]
  /** False: there is more than one answer holds. */
  readonly complete: boolean
}

/**
 * What an agent can touch now, from the ledger: what it holds, and the most that the envelopes of its active tasks let it obtain, itself or
 * through the agents that it handed work on to. Policy may allow less, and a freeze nothing.
 */
export async function reachOf(house: House, agent: string): Promise<Reach> {
  const { tasks, leases, more } = await house.ledger.reach(agent, MOST)
  const grants = tasks.flatMap((task) => workersOf(task).flatMap((worker) => grantsOf(house, task, worker, leases)))
  const own = grants.filter((grant) => grant.agent === agent)
  const others = grants.filter((grant) => grant.agent !== agent && comesFrom(grant.task, agent))
  const handedOn = others.map((grant) => ({ ...grant, through: grant.through.slice(grant.through.indexOf(agent) + 1) }))
  return { own, handedOn, leases, complete: !more }
}

/** What a role is, for whoever asks what could be reached. */
export function reachedOf({ roles, upstreams }: House, name: string): Reached | undefined {
  const role = roles.get(name)
  if (!role) return undefined
  const { provider, access, sensitivity } = role
  const upstream = upstreams.get(provider)?.provider
  return { name, provider, access, sensitivity, revocation: upstream?.revocation, residualSeconds: upstream?.residualSeconds }
}

function workersOf({ assignees }: Task): string[] {
  return [...new Set(assignees.map(({ agent }) => agent))]
}

function grantsOf(house: House, task: Task, agent: string, leases: readonly Lease[]): Grant[] {
  const held = leases.filter((lease) => lease.task === task.id && lease.agent === agent)
  return task.envelope.map((entry) => {
    const holds = held.filter(({ role }) => role === entry.role).length
    return { task, agent, through: task.chain ?? [], entry, role: reachedOf(house, entry.role), holds }
  })
}

/** Whether the work came to whoever does it through this agent. */
function comesFrom({ chain = [], openedBy }: Task, agent: string): boolean {
  return chain.includes(agent) || (openedBy.kind === 'agent' && openedBy.id === agent)
}
