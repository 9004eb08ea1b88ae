import type { ReadyAnswer } from '../api.js'
import type { House } from '../house.js'
import type { LedgerStatus } from '../ledger/ledger.js'
import type { Surroundings } from './surroundings.js'
import { timeView } from './view.js'

/** Anybody may ask for readiness: it costs the ledger at most one look a second. */
const FRESH_MS = 1_000
/** A ledger that takes longer is told as unreachable; nobody waits for it here. */
const PATIENCE_MS = 1_000
const UNREACHABLE: LedgerStatus = { reachable: false, outboxLength: 0, live: 0, stuck: [], problems: [] }

const looks = new WeakMap<House['ledger'], { readonly at: number; readonly status: Promise<LedgerStatus> }>()

/** The ledger's state, at most a second old. Never throws, never hangs. */
export function ledgerStatus({ ledger }: House): Promise<LedgerStatus> {
  const last = looks.get(ledger)
  if (last && performance.now() - last.at < FRESH_MS) return last.status
  const status = withPatience(ledger.status(), UNREACHABLE)
  looks.set(ledger, { at: performance.now(), status })
  return status
}

/** Whatever an upstream does, the broker is ready: an outage must never take the stop away. */
export async function readiness({ house, around }: { house: House; around: Surroundings }): Promise<ReadyAnswer> {
  const { reachable, durability, problems } = await ledgerStatus(house)
  const state = around.isDraining() ? 'draining' : around.isReady() ? 'ready' : 'starting'
  return {
    state,
    ledger: { reachable, durability, problems: problems.length, quarantine: quarantineIn(house) },
    issuers: around
      .identity()
      .status()
      .map(({ name, state, keys, authorities }) => ({ name, state, keys, authorities })),
    policy: { version: house.policy.version, circuit: house.policy.state?.() },
    providers: [...house.upstreams.values()].map((upstream) => ({ name: upstream.name, circuit: upstream.state() })),
  }
}

function quarantineIn({ ledger }: House): ReadyAnswer['ledger']['quarantine'] {
  const quarantine = ledger.quarantined()
  return quarantine === 'lost' ? { reason: 'lost' } : quarantine && { reason: quarantine.reason, since: timeView(quarantine.at) }
}

/** What is measured by looking, for a scrape. */
export async function lookAround({ house, around }: { house: House; around: Surroundings }): Promise<void> {
  const { metrics, policy, upstreams } = house
  const { reachable, live, outboxLength, stuck } = await ledgerStatus(house)
  metrics.ledgerUp.set(reachable ? 1 : 0)
  metrics.quarantined.set(house.ledger.quarantined() ? 1 : 0)
  if (reachable) {
    metrics.live.set(live)
    metrics.outboxLength.set(outboxLength)
    const late = new Map(stuck.map((one) => [one.provider, one]))
    for (const provider of new Set([...upstreams.keys(), ...late.keys()])) {
      metrics.stuckLeases.set({ provider }, late.get(provider)?.leases ?? 0)
      metrics.stuckSeconds.set({ provider }, (late.get(provider)?.oldestMs ?? 0) / 1000)
    }
    const freezes = await withPatience(house.ledger.freezes(), undefined)
    if (freezes) metrics.frozen.set(freezes.length)
  }
  metrics.memo.set(ratio(policy.memo))
  metrics.policyState.set(policy.state?.() === 'open' ? 1 : 0)
  metrics.tokenCache.set(ratio(around.identity().cache))
  for (const [provider, upstream] of upstreams) metrics.upstreamState.set({ provider }, upstream.state() === 'open' ? 1 : 0)
}

function ratio({ hits, misses }: { readonly hits: number; readonly misses: number }): number {
  return hits + misses === 0 ? 0 : hits / (hits + misses)
}

async function withPatience<T, Otherwise>(work: Promise<T>, otherwise: Otherwise): Promise<T | Otherwise> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Otherwise>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), PATIENCE_MS)
  })
  try {
    return await Promise.race([work.catch(() => otherwise), late])
  } finally {
    clearTimeout(timer)
  }
}
