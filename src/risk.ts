import { LRUCache } from 'lru-cache'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { CountedAct, Ledger, RiskRules } from './ledger/ledger.js'
import type { Policy, PolicyRequest } from './policy/policy.js'
import { ApprovalPending, canonical } from './step-up.js'
import type { Access, Agent, Conduct, Principal, RequestContext } from './types.js'

/** What the ledger has counted of agents, on whatever replica, as this broker knows it. */
export interface Risks {
  /** How what an agent does becomes risk; absent: nothing is counted. */
  readonly rules: RiskRules | undefined
  /** At most a second old. @throws MayflyError `ledger_unavailable`: nothing is decided on a guess */
  of(agent: string): Conduct | Promise<Conduct>
  /** What a count was answered with. `before`: its risk without it; where that was lower, what the agent holds is decided anew. */
  learn(agent: string, conduct: Conduct, before: number): void
  /** Stops an agent once, however many of its requests ask for that within a second. Rejects as `work` does, and is then tried again. */
  stop(agent: string, work: () => Promise<void>): Promise<void>
}

/**
 * An agent that asks oftener than this is known from the answers to its own counts, and costs no read. With the time for which a count may wait
 * to go out (`ledger/gather.ts`) it is less than a second.
 */
const MOST_AGE_MS = 700
/** How long one stop of an agent answers for all of its requests. */
const STOP_MS = 1_000
const MOST_AGENTS = 10_000
const NOTHING: Conduct = { risk: 0, recent: { read: 0, write: 0, escalate: 0 } }

/** `rose`: decides anew about what an agent holds that became riskier; not twice at once. */
export function openRisks(ledger: Pick<Ledger, 'risk'>, rules: RiskRules | undefined, rose: (agent: string) => Promise<void>): Risks {
  /** State: what was read or answered lately, what is being read, and whose risk rose (true: again meanwhile). */
  const known = new LRUCache<string, Conduct>({ max: MOST_AGENTS, ttl: MOST_AGE_MS, ttlResolution: MOST_AGE_MS / 100 })
  const reading = new Map<string, Promise<Conduct>>()
  const rising = new Map<string, boolean>()
  const stopped = new LRUCache<string, Promise<void>>({ max: MOST_AGENTS, ttl: STOP_MS })
  const keep = (agent: string, { risk, recent }: Conduct) => {
    known.set(agent, { risk, recent })
  }
  const review = async (agent: string): Promise<void> => {
    rising.set(agent, false)
    await rose(agent)
    if (rising.get(agent)) await review(agent)
  }
  return {
    rules,
    learn: (agent, conduct, before) => {
      keep(agent, conduct)
      if (conduct.risk <= before) return
      if (rising.has(agent)) rising.set(agent, true)
      else void review(agent).finally(() => rising.delete(agent))
    },
    stop: (agent, work) => {
      const stopping = stopped.get(agent) ?? work()
      stopped.set(agent, stopping, { noUpdateTTL: true })
      stopping.catch(() => stopped.delete(agent))
      return stopping
    },
    of: (agent) => {
      if (!rules) return NOTHING
      const conduct = known.get(agent) ?? reading.get(agent)
      if (conduct) return conduct
      const read = ledger.risk(agent, rules).then((found) => {
        // What was counted meanwhile is newer.
        if (!known.has(agent)) keep(agent, found)
        return known.get(agent) ?? found
      })
      reading.set(agent, read)
      const done = () => reading.delete(agent)
      read.then(done, done)
      return read
    },
  }
}

/** Whoever decides about an agent decides on how it behaves: also where nobody thought of it. */
export function withConduct(policy: Policy, risks: Risks): Policy {
  if (!risks.rules) return policy
  return {
    ...policy,
    get version() {
      return policy.version
    },
    decide: (request) => {
      const { principal } = request
      if (principal.kind !== 'agent' || principal.conduct) return policy.decide(request)
      const ask = (conduct: Conduct) => policy.decide({ ...request, principal: { ...principal, conduct } } as PolicyRequest)
      const conduct = risks.of(principal.id)
      return conduct instanceof Promise ? conduct.then(ask) : ask(conduct)
    },
  }
}

/** One thing that an agent did: what it asked for, and what came of it. */
export interface Act {
  /** All that tells two requests of this agent apart. */
  readonly asked: object
  /** What it is about, most important first: a role, a tool, a destination. What was never granted before is new. */
  readonly names: readonly string[]
  /** Of what it asked for; absent: nobody knows. */
  readonly access?: Access
  /** `asked`: not granted, by nobody's no (a human is asked). `failed`: nothing that the agent did. */
  readonly came: 'granted' | 'refused' | 'asked' | 'failed'
  /** What it holds by it. */
  readonly obtained?: Access
  /** How often at once. */
  readonly times?: number
  readonly about?: { readonly task?: string; readonly role?: string }
  /** Who asked in its stead; absent: it did. */
  readonly by?: Principal
}

/**
 * Counts what an agent did, which decides what it is let do next. Nobody waits for it, and it fails nothing: a ledger that cannot count
 * issues nothing either. The counts are of who was verified, whatever the request says.
 */
export function countAct(house: House, agent: Agent, act: Act, context: RequestContext): void {
  const { rules } = house.risk
  if (!rules) return
  const told = event('agent.risk', context, act.by ?? agent, { ...act.about, detail: { agent: agent.id } })
  const counted = house.ledger.countRisk(agent.id, countedOf(agent, act), rules, told).then(
    ({ before, raised, ...conduct }) => {
      house.risk.learn(agent.id, conduct, before)
      for (const signal of raised) house.metrics.riskSignals.inc({ signal })
      if (conduct.risk > before) house.metrics.riskRises.inc({ to: String(conduct.risk) })
    },
    () => house.metrics.riskUncounted.inc(),
  )
  house.background.run('risk', counted)
}

/** Equal for equal requests. What has an order of its own is put in one; all else is written in the order in which the caller of `countAct` does. */
function digestOf(instance: string | undefined, asked: object): string {
  const hasScope = 'scope' in asked && asked.scope !== undefined
  return hasScope ? canonical([instance ?? null, asked]) : JSON.stringify([instance ?? null, asked])
}

function countedOf({ instance, autonomy }: Agent, { asked, names, access, came, obtained, times = 1 }: Act): CountedAct {
  const failed = came === 'failed'
  return {
    digest: digestOf(instance, asked),
    times,
    names: failed ? [] : names,
    granted: came === 'granted',
    refused: came === 'refused' ? times : 0,
    offScript: !failed && autonomy === 'scripted' && access !== undefined && access !== 'read',
    obtained,
  }
}

/** Refusals that say something of who asks, and not only of the moment. */
const REFUSED: readonly string[] = ['denied', 'outside_envelope', 'tool_unknown', 'outside_tools', 'outside_plan', 'not_found']
const ASKED: readonly string[] = ['approval_required', 'approval_denied', 'approval_invalid']

/** What came of what ended with this. */
export function cameOf(error: unknown): Act['came'] {
  if (error instanceof ApprovalPending) return 'asked'
  if (!(error instanceof MayflyError)) return 'failed'
  if (REFUSED.includes(error.code)) return 'refused'
  return ASKED.includes(error.code) ? 'asked' : 'failed'
}
