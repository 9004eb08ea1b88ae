import type { Fleet } from '../fleet.js'
import { type Load, load } from '../load.js'
import { allRevoked, stop } from '../revoke/stop.js'

export const CONCURRENCY = 4
export const NEIGHBOURS = 16
/** Each neighbour asks this often, whatever becomes of it: what differs between two runs is the upstream alone. */
const PACE_MS = 250

export interface Run {
  readonly issue: Pick<Load, 'p50_ms' | 'p99_ms'>
  readonly revoke: Pick<Load, 'p50_ms' | 'p99_ms'>
  /** All at once: until half of them, and until the last but one in a hundred. */
  readonly emergency: Pick<Load, 'p50_ms' | 'p99_ms'>
}

/** Leases of a task each, then the end of each task, answered when its lease is confirmed revoked; then as many more, and a stop of whoever holds them. */
export async function measure(fleet: Fleet, leases: number): Promise<Run> {
  const [agent, flows] = await Promise.all([fleet.token('agent-1'), fleet.token('flows')])
  const obtain = async () => {
    const tasks = await fleet.openTasks(leases, () => ({ agents: ['agent-1'], roles: ['works-read'] }))
    const asks = tasks.map((task) => ({ token: agent, body: JSON.stringify({ task, role: 'works-read' }) }))
    const issued = await load(fleet.port, '/v1/leases', asks, CONCURRENCY)
    if (issued.statuses['201'] !== leases) throw new Error(`not all was issued: ${JSON.stringify(issued.statuses)}`)
    return { tasks, issued }
  }
  const { tasks, issued } = await obtain()
  const ends = tasks.map((task) => ({ token: flows, body: '{}', path: `/v1/tasks/${task}/complete?wait=10` }))
  const revoke = await load(fleet.port, '', ends, CONCURRENCY)
  if (revoke.statuses['200'] !== leases) throw new Error(`not all was revoked: ${JSON.stringify(revoke.statuses)}`)
  await obtain()
  const stopped = await stop(fleet, { agent: ['agent-1'] }, { freeze: false })
  const [half, most] = [0.5, 0.99].map((part) => allRevoked(fleet, stopped, Math.ceil(leases * part), 20))
  const emergency = { p50_ms: ((await half) ?? 0) * 1000, p99_ms: ((await most) ?? 0) * 1000 }
  await allRevoked(fleet, stopped, leases)
  return { issue: issued, revoke, emergency }
}

/** Runs it while neighbours obtain from the other upstream, at one pace whatever becomes of it, and end their tasks. */
export async function beside<T>(fleet: Fleet, work: () => Promise<T>): Promise<T> {
  const over = new AbortController()
  const [agent, flows] = await Promise.all([fleet.token('agent-2'), fleet.token('flows')])
  const call = (path: string, token: string, body: string) =>
    fetch(`http://127.0.0.1:${fleet.port}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(PACE_MS * 20),
    })
      .then((answer) => answer.arrayBuffer())
      .catch(() => undefined)
  const neighbour = async () => {
    while (!over.signal.aborted) {
      const [task] = await fleet.openTasks(1, () => ({ agents: ['agent-2'], roles: ['neighbour-read'] }))
      const until = performance.now() + PACE_MS
      await call('/v1/leases', agent, JSON.stringify({ task, role: 'neighbour-read' }))
      await call(`/v1/tasks/${task}/complete`, flows, '{}')
      const left = until - performance.now()
      if (left > 0) await new Promise((resolve) => setTimeout(resolve, left))
    }
  }
  const neighbours = Promise.all(Array.from({ length: NEIGHBOURS }, neighbour))
  const result = await work().finally(() => over.abort())
  await neighbours
  return result
}
