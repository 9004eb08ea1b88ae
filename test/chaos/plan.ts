import { type Random, randomOf } from './random.js'

export const LINKS = ['ledger', 'warehouse', 'cache'] as const
export type Link = (typeof LINKS)[number]
/** What a proxy can do to what passes through it. */
export const TROUBLES = ['latency', 'reset', 'fin', 'blackhole', 'oneway', 'trickle'] as const
export type Trouble = (typeof TROUBLES)[number]
const PROCESS_FAULTS = [
  ...(['broker-kill', 'broker-term', 'broker-pause', 'clock-skew'] as const),
  ...(['redis-kill', 'redis-pause', 'redis-full', 'script-flush', 'postgres-kill', 'cache-pause'] as const),
]
export type FaultKind = (typeof PROCESS_FAULTS)[number] | `${Link}-${Trouble}`
export const FAULTS: readonly FaultKind[] = [...PROCESS_FAULTS, ...LINKS.flatMap((link) => TROUBLES.map((trouble) => `${link}-${trouble}` as const))]

export interface Fault {
  /** Milliseconds since the run began. */
  readonly at: number
  readonly kind: FaultKind
  readonly forMs: number
  /** Whose process or connections; absent: all brokers', or nobody's. */
  readonly broker?: number
  /** How bad: of latency the milliseconds, of a skewed clock likewise, of a trickle the bytes at once. */
  readonly amount?: number
}

export const OPERATIONS = [
  ...(['open', 'child', 'obtain', 'obtain-again', 'renew', 'release', 'use', 'read', 'heartbeat'] as const),
  ...(['context', 'end', 'end-waiting', 'freeze', 'thaw', 'emergency'] as const),
]
export type OperationKind = (typeof OPERATIONS)[number]
/** How often each, in a thousand. */
const WEIGHTS: Readonly<Record<OperationKind, number>> = {
  open: 130,
  child: 40,
  obtain: 330,
  'obtain-again': 30,
  renew: 60,
  release: 50,
  use: 100,
  read: 30,
  heartbeat: 60,
  context: 35,
  end: 60,
  'end-waiting': 45,
  freeze: 8,
  thaw: 40,
  emergency: 10,
}
/** One thing that somebody does. What it is about is chosen by the dice, of what there is by then. */
export interface Step {
  readonly at: number
  readonly kind: OperationKind
  readonly dice: readonly [number, number, number, number]
}

export interface Plan {
  readonly seed: number
  readonly ms: number
  readonly brokers: number
  readonly faults: readonly Fault[]
  readonly steps: readonly Step[]
}

/** Longer than a claim lasts: whoever wakes up from it holds nothing any more, and does not know. */
const PAUSE_MS = [32_000, 36_000] as const
const HOUR_MS = 3_600_000
const FULL_RUN_MS = 120_000
/** Short runs are denser, so that a few seconds see something of everything. */
const DENSEST = 0.3
/** After this much nothing is broken any more: what was begun is to end while the run lasts. */
const QUIET_MS = 1_000

/** All that is done and broken in one run; it follows from these numbers alone. */
export function planOf(seed: number, { ms, brokers, perSecond }: { ms: number; brokers: number; perSecond: number }): Plan {
  const pauses = pausesOf(randomOf(seed, 'pauses'), ms, brokers)
  const density = Math.min(1, Math.max(DENSEST, ms / FULL_RUN_MS))
  const lane = (name: string, kinds: readonly FaultKind[], everyMs: number): Fault[] => {
    const random = randomOf(seed, name)
    const faults: Fault[] = []
    let queue: FaultKind[] = []
    for (let at = random.between(0.2, 1) * everyMs * density; at < ms - QUIET_MS; at += random.between(0.8, 1.2) * everyMs * density) {
      if (queue.length === 0) queue = random.shuffled(kinds)
      const kind = queue.pop()
      if (kind !== undefined) faults.push(faultOf(kind, Math.round(at), random, density, free(brokers, pauses, at)))
    }
    return faults.filter((fault) => fault.at + fault.forMs < ms)
  }
  const troubles = (link: Link) => TROUBLES.map((trouble) => `${link}-${trouble}` as const)
  const faults = [
    ...pauses,
    ...lane('brokers', ['broker-kill', 'broker-term', 'clock-skew'], 13_000),
    ...lane('ledger', ['redis-kill', 'redis-pause', 'redis-full', 'script-flush', ...troubles('ledger')], 8_000),
    ...lane('warehouse', ['postgres-kill', ...troubles('warehouse')], 10_000),
    ...lane('cache', ['cache-pause', ...troubles('cache')], 10_000),
  ]
  return { seed, ms, brokers, faults: faults.sort((a, b) => a.at - b.at), steps: stepsOf(randomOf(seed, 'steps'), ms, perSecond) }
}

function pausesOf(random: Random, ms: number, brokers: number): Fault[] {
  const faults: Fault[] = []
  for (let at = random.between(4_000, 12_000); ; ) {
    const forMs = Math.round(random.between(...PAUSE_MS))
    if (at + forMs + QUIET_MS > ms) return faults
    faults.push({ at: Math.round(at), kind: 'broker-pause', forMs, broker: Math.floor(random.next() * brokers) })
    at += forMs + random.between(4_000, 8_000)
  }
}

/** Brokers that are not stopped at that time, nor soon: nothing else happens to those. */
function free(brokers: number, pauses: readonly Fault[], at: number): number[] {
  const all = Array.from({ length: brokers }, (_, broker) => broker)
  return all.filter((broker) => !pauses.some((one) => one.broker === broker && at > one.at - 5_000 && at < one.at + one.forMs + 1_000))
}

function faultOf(kind: FaultKind, at: number, random: Random, density: number, brokers: readonly number[]): Fault {
  const broker = brokers[Math.floor(random.next() * brokers.length)]
  const lasting = (from: number, to: number) => Math.round(random.between(from, to) * density)
  switch (kind) {
    case 'broker-kill':
      return { at, kind, forMs: lasting(100, 3_000), broker }
    case 'broker-term':
      return { at, kind, forMs: lasting(0, 2_000), broker }
    case 'clock-skew':
      return { at, kind, forMs: 0, broker, amount: random.next() < 0.5 ? HOUR_MS : -HOUR_MS }
    case 'redis-kill':
    case 'postgres-kill':
      return { at, kind, forMs: lasting(100, 3_000) }
    case 'redis-pause':
    case 'cache-pause':
    case 'redis-full':
      return { at, kind, forMs: lasting(500, 6_000) }
    case 'script-flush':
      return { at, kind, forMs: 0 }
    default: {
      const whose = random.next() < 0.7 ? broker : undefined
      if (kind.endsWith('-latency')) return { at, kind, forMs: lasting(2_000, 6_000), broker: whose, amount: Math.round(random.between(20, 1_500)) }
      if (kind.endsWith('-trickle')) return { at, kind, forMs: lasting(2_000, 6_000), broker: whose, amount: Math.round(random.between(1, 400)) }
      if (kind.endsWith('-reset') || kind.endsWith('-fin')) return { at, kind, forMs: lasting(0, 2_000), broker: whose }
      return { at, kind, forMs: lasting(1_000, 6_000), broker: whose }
    }
  }
}

function stepsOf(random: Random, ms: number, perSecond: number): Step[] {
  const steps: Step[] = []
  const urn = OPERATIONS.flatMap((kind) => Array<OperationKind>(WEIGHTS[kind]).fill(kind))
  for (let at = 0; at < ms; at += random.between(0, 2_000 / perSecond)) {
    const kind = urn[Math.floor(random.next() * urn.length)] ?? 'open'
    steps.push({ at: Math.round(at), kind, dice: [random.next(), random.next(), random.next(), random.next()] })
  }
  return steps
}
