import { setPriority } from 'node:os'
import type { Fleet } from '../fleet.js'
import { load, type Request } from '../load.js'
import { type Paced, pace } from '../pace.js'
import { round } from '../support.js'
import { allRevoked, type FreezeTimes, startStops, stop, stopOthers } from './stop.js'

const AGENTS = 1_000
const LEASES_PER_TASK = 50
const CONCURRENCY = 32
const LOAD_ROLE = 'role-0'
/** Before the upstream, which shares the core of the load here and nowhere else. */
export const LOAD_PRIORITY = -5
/** Of what the broker issues at most. */
const SHARE = 0.7

export interface Loaded {
  readonly leases: number
  readonly freeze_ms: { readonly under_load: FreezeTimes; readonly of_the_stop: number; readonly while_closing: FreezeTimes }
  readonly seconds: number
  readonly revokes_per_s: number
  readonly load: Paced & { readonly share: number }
  readonly orphans: number
}

/** Live leases of each of some roles, as agents obtain them: over many tasks and agents, each role at its own pace. */
export async function issue(fleet: Fleet, roles: readonly string[], leases: number): Promise<void> {
  await Promise.all(roles.map((role) => issueOf(fleet, role, Math.ceil(leases / roles.length), CONCURRENCY / roles.length)))
}

async function issueOf(fleet: Fleet, role: string, leases: number, concurrency: number): Promise<void> {
  const tasks = await fleet.openTasks(Math.ceil(leases / LEASES_PER_TASK), (n) => ({ agents: [`agent-${n % AGENTS}`], roles: [role] }))
  const tokens = await Promise.all(tasks.map((_, n) => fleet.token(`agent-${n % AGENTS}`)))
  const asks = Array.from({ length: leases }, (_, n) => {
    const at = n % tasks.length
    return { token: tokens[at] ?? '', body: JSON.stringify({ task: tasks[at], role }) }
  })
  const { statuses } = await load(fleet.port, '/v1/leases', asks, concurrency)
  if (statuses['201'] !== leases) throw new Error(`not every lease was issued: ${JSON.stringify(statuses)}`)
}

/** What other agents go on asking for meanwhile. */
export async function neighbours(fleet: Fleet): Promise<() => Request> {
  const agents = Array.from({ length: AGENTS }, (_, n) => `neighbour-${n}`)
  const tasks = await fleet.openTasks(AGENTS, (n) => ({ agents: [`agent-${agents[n]}`], roles: [LOAD_ROLE] }))
  const asks = await Promise.all(
    tasks.map(async (task, n) => ({ token: await fleet.token(`agent-${agents[n]}`), body: JSON.stringify({ task, role: LOAD_ROLE }) })),
  )
  return () => asks[Math.floor(Math.random() * asks.length)] ?? { token: '', body: '' }
}

/** Requests a second, with nothing else to do. */
export async function capacity(fleet: Fleet, ask: () => Request, requests: number): Promise<number> {
  const once = () => load(fleet.port, '/v1/leases', Array.from({ length: requests }, ask), CONCURRENCY)
  await once()
  return (await once()).rps
}

/** The stop of one provider while others issue at their share of what the broker can do: how long operators wait, and how long it takes. */
export async function stopUnderLoad(
  fleet: Fleet,
  what: {
    providers: readonly string[]
    leases: number
    most: number
    ask: () => Request
    others: number
    left: () => Promise<number>
  },
): Promise<Loaded> {
  const { providers, leases, most, others } = what
  setPriority(LOAD_PRIORITY)
  const beside = pace(fleet.port, most * SHARE, { path: '/v1/leases', next: what.ask })
  const before = await stopOthers(fleet, others)
  const meanwhile = await startStops(fleet)
  const stopped = await stop(fleet, { provider: providers })
  await meanwhile.begin()
  const seconds = await allRevoked(fleet, stopped, leases)
  const while_closing = await meanwhile.end()
  const paced = await beside.stop()
  setPriority(0)
  return {
    leases,
    freeze_ms: { under_load: before, of_the_stop: round(stopped.freeze_ms), while_closing },
    seconds,
    revokes_per_s: round(leases / seconds, 0),
    load: { ...paced, share: SHARE },
    orphans: await what.left(),
  }
}
