import type { Fleet } from '../fleet.js'
import { ROLES } from './life.js'
import type { Pool } from './pool.js'

export interface Emergencies {
  readonly revocations: readonly string[]
  stop(): Promise<void>
}

/** Who is stopped does nothing else in this run. */
const ROGUE = 'agent-rogue'

/** Now and then one agent is stopped with what it holds, and thawed a moment later. */
export function startEmergencies(fleet: Fleet, pool: Pool, everyMs: number): Emergencies {
  const revocations: string[] = []
  let stopped = false
  let wake = (): void => {}
  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  const once = async () => {
    const [task] = await fleet.openTasks(1, () => ({ agents: [ROGUE], roles: [...ROLES] }))
    const [agent, oncall] = await Promise.all([fleet.token(ROGUE), fleet.token('oncall')])
    for (const role of [ROLES[0], ROLES[0], ROLES[1], ROLES[1]])
      await pool.ask({ token: agent, path: '/v1/leases', body: JSON.stringify({ task, role }) })
    const body = JSON.stringify({ selector: { agent: [ROGUE] }, reason: 'soak' })
    const answer = await pool.ask({ token: oncall, path: '/v1/emergency/revoke', body })
    if (answer.status !== '202') throw new Error(`no stop: ${answer.body}`)
    const { revocation, freeze } = JSON.parse(answer.body) as { revocation: { id: string }; freeze: { id: string } }
    revocations.push(revocation.id)
    await pause(2_000)
    const thawed = await pool.ask({ token: oncall, path: `/v1/freezes/${freeze.id}/thaw`, body: JSON.stringify({ reason: 'soak' }) })
    if (thawed.status !== '200') throw new Error(`not thawed: ${thawed.body}`)
  }
  const running = (async () => {
    while (!stopped) {
      await once()
      await pause(everyMs)
    }
  })()
  running.catch(() => undefined)
  return {
    revocations,
    async stop() {
      stopped = true
      wake()
      await running
    },
  }
}
