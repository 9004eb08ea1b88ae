import { type Authorized, authorize, chainTo, counted, type LeaseAsk, refuse, subjectOf, tokenLifeOf } from './authorize.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { NewLease, Reserved } from './ledger/ledger.js'
import { inputOf } from './policy-input.js'
import type { Credential, LeasePlan, Minted } from './providers/provider.js'
import { refusal } from './refusals.js'
import { closeLease, drive } from './revoke.js'
import type { Agent, Cause, LeaseRecord, RequestContext } from './types.js'
import { madeNothing } from './upstream.js'

export interface Issued {
  readonly lease: LeaseRecord
  readonly credential: Credential
}

/** Decisions on facts that changed meanwhile are made again, this often at most. */
const MOST_DECISIONS = 3

/**
 * The forward path: may they, written down, minted, active. The principal is verified already; whatever is thrown after the lease was
 * written closes it, and where even that fails the sweeper finds it by its `mint_until`.
 * @throws MayflyError with the codes of `docs/errors.md`
 */
export async function issue(house: House, agent: Agent, ask: LeaseAsk, context: RequestContext, callerGone: () => boolean): Promise<Issued> {
  const written = await counted(house, agent, ask, context, () => reserve(house, agent, ask, context))
  const { lease, upstream, reserved } = written
  for (const claim of reserved.superseded) void drive(house, claim)
  try {
    const minted = await mint(house, written)
    const expiresAt = Math.min(reserved.expiresAt, minted.expiresAt ?? reserved.expiresAt)
    if (!upstream.provider.inProcess) await activate(house, agent, written, minted, expiresAt, context)
    if (callerGone()) throw new MayflyError('caller_gone', 'the caller went away before the credential was sent')
    house.metrics.issued.inc({ provider: upstream.name, access: lease.role.access })
    return {
      lease: recordOf(lease, reserved, expiresAt, minted.usableUntil, ask.renews && (ask.renews.renewals ?? 0) + 1),
      credential: minted.credential,
    }
  } catch (error) {
    throw await abandon(house, agent, lease, error, context)
  }
}

type Written = Authorized & { readonly lease: NewLease; readonly reserved: Reserved }

/** Decides and writes the lease down before anything exists upstream; again when what the decision read has changed meanwhile. */
async function reserve(house: House, agent: Agent, ask: LeaseAsk, context: RequestContext): Promise<Written> {
  for (let round = 1; ; round++) {
    const authorized = await authorize(house, agent, ask, context, { fresh: round > 1 })
    const lease = leaseOf(house, agent, ask, authorized)
    const { inProcess } = authorized.upstream.provider
    const { decision, request } = authorized
    const told = inProcess
      ? event('lease.issued', context, agent, { ...subjectOf(lease), decision, detail: inputOf(request) })
      : event('lease.reserved', context, agent, { ...subjectOf(lease), decision })
    // A lost reply may have written it.
    const written = inProcess ? house.ledger.grant(lease, told) : house.ledger.reserve(lease, told)
    const reserved = await written.catch(async (error: unknown) => Promise.reject(await abandon(house, agent, lease, error, context)))
    if (reserved.ok) return { ...authorized, lease, reserved }
    if (reserved.refused === 'stale' && round < MOST_DECISIONS) continue
    throw await refuse(house, agent, ask, context, refusal(reserved.refused, reserved.detail), { decision, behalf: lease })
  }
}

function leaseOf(house: House, agent: Agent, ask: LeaseAsk, { task, role, upstream, decision, narrowed, approval }: Authorized): NewLease {
  const { provider } = upstream
  const id = house.ledger.newLeaseId(task.id)
  const { scope, ttlSeconds, maxLeases } = narrowed
  const { perAgentLive, perTaskLive } = house.limits
  return {
    id,
    task: task.id,
    agent,
    role,
    scope,
    human: task.human,
    // What came with it, not what the task is known by.
    humanProof: ask.onBehalfOf && task.humanProof,
    chain: chainTo(task, agent),
    handle: provider.plan(planOf({ id, task: task.id, agent, role, scope, human: task.human, chain: chainTo(task, agent) }), role.params),
    revocation: provider.revocation,
    residualSeconds: provider.residualSeconds,
    expiryEndsUse: provider.expiryEndsUse,
    shortestLifeSeconds: Math.max(provider.shortestLifeSeconds ?? 0, provider.blindWindowSeconds ?? 0),
    ttlSeconds: Math.min(ttlSeconds, decision.maxTtlSeconds ?? ttlSeconds, tokenLifeOf(house, agent, task)),
    maxLifetimeSeconds: role.maxLifetimeSeconds,
    mintMs: provider.inProcess ? 0 : upstream.timeoutMs,
    facts: { contextVersion: task.contextVersion, obtained: task.obtained, counts: decision.readsCounts ? task.counts : undefined },
    limits: { perAgentLive, perTaskLive, maxLive: decision.maxLive, maxLeases },
    idempotency: ask.idempotency,
    supersedes: ask.renews?.id,
    approval,
    maxRenewals: role.maxRenewals,
    renewableUntil: ask.renews?.renewableUntil,
  }
}

async function mint(house: House, { upstream, lease, reserved }: Written): Promise<Minted> {
  const { issuedAt, expiresAt, mintUntil: until } = reserved
  const about = { lease: planOf(lease), handle: lease.handle, params: lease.role.params, issuedAt, expiresAt, until }
  if (upstream.provider.inProcess) return upstream.mint({ ...about, deadlineMs: upstream.timeoutMs })
  const done = house.metrics.mintSeconds.startTimer({ provider: upstream.name })
  try {
    const minted = await upstream.mint({ ...about, deadlineMs: until - house.ledger.now() })
    done({ outcome: 'minted' })
    return minted
  } catch (error) {
    done({ outcome: 'failed' })
    throw error
  }
}

/** The lease is active, unless its task ended, a freeze came or the facts changed while the upstream minted. */
async function activate(house: House, agent: Agent, written: Written, minted: Minted, expiresAt: number, context: RequestContext): Promise<void> {
  const { lease, decision, request, upstream } = written
  const told = event('lease.issued', context, agent, { ...subjectOf(lease), decision, detail: inputOf(request) })
  const write = async () =>
    house.ledger.activate(lease, { ...(await upstream.keep(lease, minted)), expiresAt, usableUntil: minted.usableUntil }, told)
  const { state, cause, claim } = await upstream.orGiveBack(minted, write())
  if (claim) void drive(house, claim)
  if (state === 'closing') throw endedBecause(cause)
}

/**
 * Closes what was written and will not be handed out. What made it fail is the caller's to see, not that closing failed too; and where
 * somebody else closed it meanwhile, so that the upstream was told to take it back, that is what made it fail.
 * @returns what the caller is told
 */
async function abandon(house: House, agent: Agent, lease: NewLease, error: unknown, context: RequestContext): Promise<unknown> {
  const cause = error instanceof MayflyError && error.code === 'caller_gone' ? 'caller_gone' : 'mint_failed'
  const told = event('lease.closing', context, agent, { ...subjectOf(lease), cause })
  const closed = await closeLease(house, lease.id, cause, told, madeNothing(error)).catch(() => undefined)
  if (!closed) house.log.warn({ lease: lease.id }, 'the lease could not be closed now; it comes due soon')
  const why = closed?.lease.cause
  return why === undefined || why === cause ? error : endedBecause(why)
}

function endedBecause(cause: Cause | undefined): MayflyError {
  return refusal(cause === 'frozen' || cause === 'emergency' ? 'frozen' : 'ended')
}

function planOf(lease: Pick<NewLease, 'id' | 'task' | 'agent' | 'role' | 'scope' | 'human' | 'chain'>): LeasePlan {
  const { id, task, agent, role, scope, human, chain } = lease
  return { id, task, agent: agent.id, owner: agent.owner, human, chain, role: role.name, scope }
}

function recordOf(lease: NewLease, { issuedAt, renewableUntil }: Reserved, expiresAt: number, usableUntil?: number, renewals?: number): LeaseRecord {
  const { id, task, scope, revocation, residualSeconds, human, humanProof } = lease
  const { name, provider, access } = lease.role
  const times = { issuedAt, expiresAt, renewableUntil, usableUntil, renewals }
  return {
    id,
    task,
    state: 'active',
    agent: lease.agent.id,
    role: name,
    provider,
    access,
    scope,
    human,
    humanProof,
    revocation,
    residualSeconds,
    ...times,
  }
}
