import { setTimeout as pause } from 'node:timers/promises'
import { isAssigned, policyRequest } from './authorize.js'
import { narrow } from './envelope.js'
import { event } from './event.js'
import type { House } from './house.js'
import { behalfOf } from './on-behalf.js'
import { closeLease } from './revoke.js'
import {
  type Approval,
  type Cause,
  type Decision,
  type Lease,
  type LeaseState,
  type Principal,
  type RequestContext,
  type Task,
  UNKNOWN_VERSION,
} from './types.js'

/** Obtained nothing lately. */
const NONE = { read: 0, write: 0, escalate: 0 }

/** Why a lease may not go on; a decision where the policy said so. */
export interface Objection {
  readonly because: string
  readonly decision?: Decision
}

/**
 * Whether a lease that lives may go on: what `authorize` asks of a request, asked of what was issued, on the facts of now. It is one request
 * for what is left of it, of a task that has not obtained it yet. Who asked is what the configuration says of that agent, and an agent that
 * is no longer there has nothing. `consent`: what humans agreed to, which holds for as long as the facts do.
 */
export async function objectionTo(house: House, lease: Lease, task: Task, consent?: Approval): Promise<Objection | undefined> {
  const role = house.roles.get(lease.role)
  const upstream = house.upstreams.get(lease.provider)
  const entry = task.envelope.find((candidate) => candidate.role === lease.role)
  if (!role || !upstream || !entry || role.provider !== lease.provider || role.access !== lease.access) return { because: 'the role is another' }
  const left = Math.max(1, Math.floor((lease.expiresAt - house.ledger.now()) / 1000))
  const narrowed = narrow(role, entry, { ttl: left, scope: lease.scope })
  if ('outside' in narrowed) return { because: narrowed.outside }
  if (narrowed.ttlSeconds < left) return { because: 'it lives longer than its role allows now' }
  const agents = house.roster({ id: lease.agent, issuer: lease.issuer, instance: lease.instance })
  if (agents.length === 0) return { because: 'the agent is not configured' }
  const behalf = behalfOf(lease, task)
  const humanProof = behalf.humanProof && behalf.human !== undefined ? house.humans.standing(behalf.human, behalf.humanProof) : undefined
  if (behalf.humanProof && !humanProof) return { because: 'the human on whose behalf it is has to be shown anew' }
  for (const agent of agents) {
    if (!isAssigned(task, agent)) return { because: 'the agent is not assigned to the task' }
    // A budget is for what is asked for, and this is there: how risky its agent has become is another matter.
    const conduct = { ...(await house.risk.of(agent.id)), recent: NONE }
    const asked = { agent: { ...agent, conduct }, task: { ...withoutIt(task, lease), human: behalf.human, humanProof }, role, upstream, narrowed }
    const request = policyRequest(asked, {})
    const first = await house.policy.decide(request)
    const given = first.outcome === 'step-up' ? groupsOf(consent, first) : undefined
    const decision = given ? await house.policy.decide({ ...request, consent: given }) : first
    if (decision.outcome !== 'allow') return { because: 'the policy does not allow it', decision }
    if ((decision.maxTtlSeconds ?? left) < left) return { because: 'it lives longer than the policy allows now', decision }
  }
  return undefined
}

/** What humans agreed to of this lease, for as long as the facts are those that they saw. */
async function consentTo({ ledger }: House, lease: Lease, task: Task): Promise<Approval | undefined> {
  const approval = lease.approval === undefined ? undefined : await ledger.approval(lease.approval)
  return approval?.contextVersion === task.contextVersion ? approval : undefined
}

/** The groups that agreed, where they are all that is asked for now. */
function groupsOf(approval: Approval | undefined, { stepUp = [] }: Decision): string[] | undefined {
  const agreed = (group: string) => approval?.consents.filter(({ groups }) => groups.includes(group)).length ?? 0
  return stepUp.every(({ group, approvals }) => agreed(group) >= approvals) ? stepUp.map(({ group }) => group) : undefined
}

/**
 * What the tree obtained besides this lease: nothing speaks against a lease only because it is there. How often its kind was obtained is for who
 * asks for more of it: what was issued within a budget is not past it because of what came after. What took a human's consent may be.
 */
function withoutIt(task: Task, { access, sensitivity, approval }: Lease): Task {
  const others = Math.max(0, task.counts[access] - 1)
  const obtained = others > 0 ? task.obtained : task.obtained.filter((one) => one !== `${access}:${sensitivity}`)
  return { ...task, counts: { ...task.counts, [access]: approval === undefined ? 0 : others }, obtained }
}

export interface Reviewed {
  readonly kept: number
  readonly closing: readonly { readonly lease: string; readonly state: Promise<LeaseState> }[]
}

/**
 * Decides anew about leases whose facts changed, and closes what may not go on. What is decided here and not reaffirmed, because this broker
 * dies or the ledger is away, the sweeper closes when its term is over.
 */
export async function reviewTree(house: House, leases: readonly Lease[], by: Principal, context: RequestContext): Promise<Reviewed> {
  const tasks = await tasksOf(house, leases)
  const reviews = await Promise.all(
    leases.map(async (lease) => {
      const task = tasks.get(lease.task)
      // Whatever ended it takes its leases too.
      if (task?.state !== 'active') return undefined
      const objection = await objectionTo(house, lease, task, await consentTo(house, lease, task))
      if (!objection) {
        const { ok } = await house.ledger.reaffirm(lease.id, task.contextVersion)
        house.metrics.reviewed.inc({ why: 'context', outcome: ok ? 'kept' : 'left' })
        // Changed again meanwhile, or closed for another reason: not ours to say.
        return ok ? 'kept' : undefined
      }
      const told = event('lease.closing', context, by, toldOf(lease, objection))
      const closed = await closeLease(house, lease.id, 'context_changed', told)
      house.metrics.reviewed.inc({ why: 'context', outcome: 'closed' })
      return closed && { lease: lease.id, state: closed.outcome }
    }),
  )
  return { kept: reviews.filter((one) => one === 'kept').length, closing: reviews.filter((one) => one !== 'kept' && one !== undefined) }
}

async function tasksOf({ ledger }: House, leases: readonly Lease[]): Promise<Map<string, Task | undefined>> {
  const ids = [...new Set(leases.map(({ task }) => task))]
  return new Map(await Promise.all(ids.map(async (id) => [id, await ledger.task(id, { fresh: true })] as const)))
}

function toldOf({ id, task, role, provider }: Lease, { decision, because }: Objection, cause: Cause = 'context_changed') {
  return { task, lease: id, role, provider, cause, decision, detail: { because } } as const
}

const PAGE = 200
/** Between two pages: at most 4,000 leases a second are looked at, so that nothing else waits for it. */
const PAUSE_MS = 50
/** And at least so many times what the page took: with millions of leases this goes on for minutes, and is never most of what a broker does. */
const PAUSES = 2
/** The ledger may be away for a while. */
const RETRY_MS = 1_000

/**
 * Decides anew about every live lease, as after a change of policy. Page by page; another broker that does the same finds less to do. What
 * is closed is left to the sweepers, which are fair to every upstream. Goes on until it is through, or `over`.
 */
export async function reviewAll(house: House, over: AbortSignal): Promise<void> {
  let cursor: string | undefined
  do {
    const began = performance.now()
    try {
      const page = await house.ledger.leases({ state: 'active' }, { limit: PAGE, cursor })
      const tasks = await tasksOf(house, page.leases)
      await Promise.all(page.leases.map((lease) => reviewOne(house, lease, tasks.get(lease.task), 'reload')))
      cursor = page.cursor
      if (cursor === undefined) return
      const rest = Math.max(PAUSE_MS, PAUSES * (performance.now() - began))
      await pause(rest, undefined, { ref: false, signal: over }).catch(() => undefined)
    } catch (error) {
      house.log.warn({ error: error instanceof Error ? error.message : 'unknown' }, 'live leases could not all be decided anew; it goes on')
      await pause(RETRY_MS, undefined, { ref: false, signal: over }).catch(() => undefined)
    }
  } while (!over.aborted)
}

/**
 * Decides anew about what one agent holds, now that it is riskier. Every replica that sees its risk rise does. Without `limits.per_agent_live`
 * nobody knows what is held by whom, so that all live leases are looked through.
 */
export async function reviewAgent(house: House, agent: string): Promise<void> {
  if (house.limits.perAgentLive > 0) return reviewPage(house, await house.ledger.leasesOfAgent(agent))
  for (let cursor: string | undefined; ; ) {
    const page = await house.ledger.leases({ agent, state: 'active' }, { limit: PAGE, cursor })
    await reviewPage(house, page.leases)
    cursor = page.cursor
    if (cursor === undefined) return
    await pause(PAUSE_MS, undefined, { ref: false })
  }
}

async function reviewPage(house: House, leases: readonly Lease[]): Promise<void> {
  const active = leases.filter(({ state }) => state === 'active')
  const tasks = await tasksOf(house, active)
  await Promise.all(active.map((lease) => reviewOne(house, lease, tasks.get(lease.task), 'risk')))
}

const CAUSES = { reload: 'context_changed', risk: 'risk_raised' } as const

async function reviewOne(house: House, lease: Lease, task: Task | undefined, why: keyof typeof CAUSES): Promise<void> {
  if (task?.state !== 'active') return
  const objection = await objectionTo(house, lease, task, await consentTo(house, lease, task))
  if (why === 'reload' && objection?.decision && isOpen(objection.decision)) throw new Error(objection.decision.error)
  house.metrics.reviewed.inc({ why, outcome: objection ? 'closed' : 'kept' })
  if (!objection) return
  const told = event('lease.closing', undefined, undefined, toldOf(lease, objection, CAUSES[why]))
  await house.ledger.close(lease.id, CAUSES[why], told, { left: true })
}

/**
 * Nothing changed but who decides, and that is not known: a policy engine that starts a moment after the broker must not end everything. One that
 * is there has its policies a moment later still, and until then no decision about anything.
 */
function isOpen({ error, unavailable, policyVersion }: Decision): boolean {
  return error !== undefined && (unavailable === true || policyVersion === UNKNOWN_VERSION)
}
