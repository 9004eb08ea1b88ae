import { setTimeout as pause } from 'node:timers/promises'
import { type CanaryTask, canary } from './canary.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { ProviderError } from './providers/provider.js'
import type { Agent, Role } from './types.js'
import type { Upstream } from './upstream.js'

/** A credential that is minted to see how soon it dies. */
export interface Drill {
  readonly role: Role
  /** In whose name; what policy says of it holds here too. */
  readonly agent: Agent
  readonly task: CanaryTask
  readonly everyMs: number
}
/**
 * `dead`: the upstream refuses it; where it cannot be asked (`probed: false`), it has confirmed the revoke. `expires`: as its provider declares,
 * it ends by its own expiry alone. `alive`: it still worked when the time was over. `failed`: there was nothing to look at.
 */
export interface Drilled {
  readonly role: string
  readonly provider: string
  readonly agent: string
  readonly outcome: 'dead' | 'expires' | 'alive' | 'failed'
  readonly probed: boolean
  readonly lease?: string
  /** From the end of its task, ms. */
  readonly confirmedMs?: number
  readonly deadMs?: number
  readonly detail?: string
}

/** Beyond what the provider says that it takes. */
const PATIENCE_MS = 30_000
/** Nobody waits longer for one answer. */
const MOST_MS = 120_000
const LOOK_EVERY_MS = 25

/** Mints one credential, ends its task and looks until the upstream refuses it. Told as an event, and in the metrics that alerts rest on. */
export async function drill(house: House, { role, agent, task }: Drill): Promise<Drilled> {
  const about = { role: role.name, provider: role.provider, agent: agent.id }
  const upstream = house.upstreams.get(role.provider)
  const found = upstream ? await tried(house, upstream, role, agent, task) : failed(`provider "${role.provider}" is not configured`)
  const drilled = { ...about, ...found }
  const { outcome, lease, confirmedMs, deadMs, probed, detail } = drilled
  house.metrics.drills.inc({ provider: role.provider, outcome })
  if (deadMs !== undefined) house.metrics.timeToRefused.observe({ provider: role.provider }, deadMs / 1000)
  if (outcome === 'dead') house.metrics.drillSucceeded.set({ provider: role.provider }, Math.floor(house.ledger.now() / 1000))
  else if (outcome !== 'expires') house.log.error({ ...about, outcome, lease, detail }, 'a drill found that a credential does not die as it should')
  const told = { lease, role: role.name, provider: role.provider, detail: { agent: agent.id, outcome, probed, confirmedMs, deadMs, why: detail } }
  // The measurement stands, and the metrics have it, also where it cannot be recorded.
  const recorded = await house.ledger.record(event('drill.finished', undefined, undefined, told)).catch(() => undefined)
  if (!recorded?.ok) house.log.warn({ ...about, outcome, lease }, 'a drill could not be recorded')
  return drilled
}

type Found = Pick<Drilled, 'outcome' | 'probed' | 'lease' | 'confirmedMs' | 'deadMs' | 'detail'>

async function tried(house: House, upstream: Upstream, role: Role, agent: Agent, task: CanaryTask): Promise<Found> {
  try {
    const { lease, endedAt } = await canary(house, agent, role, task, 'drill', (id) => mustBeAlive(house, upstream, id))
    return { lease, ...(await lookUntilDead(house, upstream, lease, endedAt)) }
  } catch (error) {
    if (error instanceof MayflyError) return failed(`${error.code}: ${error.message}`)
    if (error instanceof ProviderError) return failed(`the probe: ${error.message}`)
    throw error
  }
}

function failed(detail: string): Found {
  return { outcome: 'failed', probed: false, detail }
}

/** A probe that calls dead what lives would prove nothing afterwards. */
async function mustBeAlive({ ledger }: House, upstream: Upstream, id: string): Promise<void> {
  const lease = await ledger.lease(id)
  const found = lease && (await upstream.verify(lease))
  if (found === 'dead') throw new ProviderError('broken', 'it calls a credential dead that was just minted')
}

async function lookUntilDead({ ledger }: House, upstream: Upstream, id: string, endedAt: number): Promise<Omit<Found, 'lease'>> {
  const { revocation, residualSeconds } = upstream.provider
  const probed = upstream.provider.verify !== undefined
  if (revocation === 'at-expiry') return { outcome: 'expires', probed: false, detail: 'it cannot be taken back before it expires' }
  const late = endedAt + Math.min(MOST_MS, residualSeconds * 1000 + PATIENCE_MS)
  let confirmedMs: number | undefined
  let trouble: string | undefined
  for (;;) {
    const lease = await ledger.lease(id)
    const ms = () => Math.round(performance.now() - endedAt)
    if (!lease || lease.state === 'revoked' || lease.state === 'expired') confirmedMs ??= ms()
    if (!probed && confirmedMs !== undefined) return { outcome: 'dead', probed, confirmedMs, deadMs: confirmedMs }
    if (probed && lease) {
      const found = await upstream.verify(lease).catch((error: unknown) => {
        if (!(error instanceof ProviderError)) throw error
        trouble = error.message
        return undefined
      })
      if (found === 'dead') {
        const deadMs = ms()
        if (confirmedMs !== undefined) return { outcome: 'dead', probed, confirmedMs, deadMs }
        const confirmed = await settledBy(ledger, id, late)
        if (confirmed) return { outcome: 'dead', probed, confirmedMs: ms(), deadMs }
      }
    }
    if (performance.now() > late) return { outcome: 'alive', probed, confirmedMs, detail: lease?.lastError ?? trouble ?? 'it was still accepted' }
    await pause(LOOK_EVERY_MS)
  }
}

/** The upstream refuses it already: only the ledger has to hear of it. */
async function settledBy(ledger: House['ledger'], id: string, late: number): Promise<boolean> {
  while (performance.now() <= late) {
    const lease = await ledger.lease(id)
    if (!lease || lease.state === 'revoked' || lease.state === 'expired') return true
    await pause(LOOK_EVERY_MS)
  }
  return false
}

export interface DrillTimer {
  stop(): Promise<void>
}

const TICK_MS = 15_000

/** Runs each drill when its time has come, on one replica: whoever gets the lock that lasts until the next time. */
export function startDrills(house: () => House, options: { tickMs?: number } = {}): DrillTimer {
  const stopping = new AbortController()
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      for (const one of house().drills) {
        if (stopping.signal.aborted) return
        // A provider's name has no "@".
        const lock = await house()
          .ledger.register('@drills')
          .lock(`${one.role.name} ${one.agent.id}`, one.everyMs)
          // A ledger that cannot be reached is told elsewhere; the next tick asks again.
          .catch(() => undefined)
        if (lock)
          await drill(house(), one).catch((error: unknown) => house().log.error({ role: one.role.name, error: String(error) }, 'a drill failed'))
      }
      await pause(options.tickMs ?? TICK_MS, undefined, { ref: false, signal: stopping.signal }).catch(() => undefined)
    }
  }
  const running = loop()
  return {
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}
