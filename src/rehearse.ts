import { setTimeout as pause } from 'node:timers/promises'
import { pino } from 'pino'
import { createBroker } from './broker.js'
import { canary } from './canary.js'
import type { Config } from './config.js'
import { MayflyError } from './errors.js'
import type { House } from './house.js'
import type { Agent, Role, Task } from './types.js'

/** What became of one role. */
export interface Rehearsed {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly what: string
  readonly mend?: string
}

const WAIT_MS = 30_000
const LOOK_EVERY_MS = 100

/**
 * A real credential of each role, minted and taken back.
 * @throws MayflyError where the ledger cannot be used
 */
export async function rehearse(config: Config, agent: Agent, asked: readonly { role: Role; task: Task }[]): Promise<Rehearsed[]> {
  if ('embedded' in config.ledger.redis) {
    const mend = 'rehearse against an installation with a Redis of its own'
    return [{ level: 'fail', what: "an embedded ledger is its broker's alone", mend }]
  }
  const broker = await createBroker(config, { log: pino({ level: 'silent' }) })
  try {
    const results: Rehearsed[] = []
    for (const one of asked) results.push(await rehearseRole(broker.house(), agent, one.role, one.task))
    return results
  } finally {
    await broker.stop()
  }
}

async function rehearseRole(house: House, agent: Agent, role: Role, task: Task): Promise<Rehearsed> {
  try {
    const { lease, endedAt } = await canary(house, agent, role, task, 'rehearsal')
    return await outcomeOf(house, role, lease, endedAt)
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error
    return { level: 'fail', what: `${role.name}: ${error.code}: ${error.message}`, mend: error.details.next }
  }
}

async function outcomeOf(house: House, { name, provider }: Role, id: string, started: number): Promise<Rehearsed> {
  const upstream = house.upstreams.get(provider)
  const late = started + WAIT_MS
  for (;;) {
    const lease = await house.ledger.lease(id)
    const ms = Math.round(performance.now() - started)
    if (!lease || lease.state === 'revoked') return { level: 'ok', what: `${name}: minted, and revoked ${ms} ms after the end of its task` }
    if (upstream?.provider.revocation === 'at-expiry') {
      const until = new Date(lease.usableUntil ?? lease.expiresAt).toISOString()
      return { level: 'warn', what: `${name}: minted, and as declared not taken back: it ends by itself at ${until}` }
    }
    if (performance.now() > late) {
      const what = `${name}: minted, and not revoked in ${WAIT_MS / 1000} s${lease.lastError ? `: ${lease.lastError}` : ''}`
      return { level: 'fail', what, mend: 'the brokers go on trying; mend the upstream, or the right of the broker to revoke there' }
    }
    await pause(LOOK_EVERY_MS)
  }
}
