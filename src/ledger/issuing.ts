import type { Agent, Cause, Claim, Event, Lease } from '../types.js'
import { keys } from './keys.js'
import type { Ledger, NewLease, ReserveRefusal } from './ledger.js'
import { agentKey, enterAgent, leaveAgent, overAt } from './places.js'
import { claimOf, countsText, flag, obtainedText, proofText } from './records.js'
import { notReplicated } from './replication.js'
import { expected, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { folded, token } from './selectors.js'
import { partitionOfLease, partitionOfTask, type Store } from './store.js'

/** What makes up a record, from the first script that writes it to the last that may have to write it again. */
const LEASE = [
  'lease',
  'task',
  'agent',
  'instance',
  'owner',
  'issuer',
  'role',
  'provider',
  'access',
  'sensitivity',
  'scope',
  'handle',
  'revocation',
  'residual',
  'ends_use',
  'human',
  'human_key',
  'human_proof',
] as const
const ISSUE = [
  ...LEASE,
  'ttl_ms',
  'life_ms',
  'mint_ms',
  'shortest_ms',
  'renewable_until',
  'token_issued',
  'token_skew',
  'max_renewals',
  'context_version',
  'obtained',
  'counts',
  'per_task',
  'max_live',
  'max_leases',
  'idempotency',
  'idempotency_seconds',
  'supersedes',
  'freezable',
  'places',
  'places_limit',
  'over_at',
  'event',
  'outbox_limit',
  'skew',
  'visibility',
  'approval',
  'approval_digest',
  'mark',
] as const
const reserveScript = defineScript('reserve', 'lease', ISSUE)
const grantScript = defineScript('grant', 'lease', ISSUE)
const activateScript = defineScript('activate', 'lease', [
  ...LEASE,
  'context_version',
  'freezable',
  'expires',
  'usable',
  'sealed_by',
  'event',
  'skew',
  'visibility',
  'mark',
])
const withdrawScript = defineScript('withdraw', 'lease', ['lease', 'event', 'retention'])

/** How long an Idempotency-Key is remembered. */
const IDEMPOTENCY_SECONDS = 86_400
/** By how much the clock of whoever issues workload tokens may be behind, when it is asked whether one was issued since the last renewal. */
export const TOKEN_SKEW_MS = 30_000

export function issuingCalls(store: Store): Pick<Ledger, 'reserve' | 'grant' | 'activate'> {
  const { partitions, settledRetentionSeconds } = store.options

  const { replication } = store
  /** What the loss of the primary could undo is not handed out. */
  const kept = async (script: typeof grantScript, lease: NewLease, event: Event): ReturnType<Ledger['grant']> => {
    const answer = await issue(script, lease, event)
    if (answer.ok && !(await replication?.of(partitionOfTask(store, lease.task) ?? 0, 'issued'))) throw notReplicated()
    return answer
  }

  /** Reserve or grant, with the agent's place asked for at the same time where it has a limit over all partitions. */
  const issue = async (script: typeof grantScript, lease: NewLease, event: Event): ReturnType<Ledger['grant']> => {
    const partition = partitionOfTask(store, lease.task)
    if (partition === undefined || partition !== partitionOfLease(store, lease.id)) return { ok: false, refused: 'not_found' }
    await store.readyToIssue(partition)
    const told = JSON.stringify(event)
    const places = lease.limits.perAgentLive > 0 ? agentKey(lease.agent.id, partitions) : ''
    const here = places.startsWith(keys.prefix(partition)) ? places : ''
    const written = store.run(script, keys.lease(partition, lease.id), argsOf(store, lease, partition, told, here))
    if (places === here) return answered(store, lease, partition, listOf(await written))

    const [place, reply] = await Promise.allSettled([enterAgent(store, lease, lease.supersedes), written])
    if (reply.status === 'rejected') throw reply.reason
    const answer = answered(store, lease, partition, listOf(reply.value))
    if (!answer.ok) {
      // `conflict`: there is a lease of this id, and the place is its.
      const isTaken = answer.refused === 'conflict'
      if (place.status === 'fulfilled' && place.value && !isTaken) leaveAgent(store, lease.agent.id, lease.id)
      return answer
    }
    if (place.status === 'fulfilled' && place.value) return answer
    // Which lease an Idempotency-Key stood for is known only now.
    const first = answer.superseded.find((claim) => claim.lease.id !== lease.supersedes)
    if (place.status === 'fulfilled' && first && (await enterAgent(store, lease, first.lease.id))) return answer
    // Written, but over the limit, or nobody knows: nobody has seen this lease yet, and it ends before anybody does.
    const args = { lease: lease.id, event: told, retention: settledRetentionSeconds }
    await store.run(withdrawScript, keys.lease(partition, lease.id), args)
    store.tasks.delete(lease.task)
    if (place.status === 'rejected') throw place.reason
    return { ok: false, refused: 'quota', detail: 'live leases of the agent' }
  }

  return {
    reserve: replication ? (lease, event) => kept(reserveScript, lease, event) : (lease, event) => issue(reserveScript, lease, event),
    grant: replication ? (lease, event) => kept(grantScript, lease, event) : (lease, event) => issue(grantScript, lease, event),

    activate: async (lease, minted, event) => {
      const partition = partitionOfLease(store, lease.id)
      if (partition === undefined) throw new RangeError(`"${lease.id}" is no id of a lease`)
      const reply = listOf(
        await store.run(activateScript, keys.lease(partition, lease.id), {
          ...argsOf(store, lease, partition, JSON.stringify(event)),
          handle: JSON.stringify(minted.handle),
          sealed_by: minted.sealedBy ?? '',
          expires: minted.expiresAt,
          usable: Math.ceil(minted.usableUntil ?? 0),
        }),
      )
      if (reply[0] === 'active') {
        store.witness.saw(partition, textOf(reply[1]))
        if (replication && !(await replication.of(partition, 'issued'))) throw notReplicated()
        return { state: 'active' }
      }
      store.tasks.delete(lease.task)
      return { state: 'closing', cause: textOf(reply[1]) as Cause, claim: claimOf(reply[2]) }
    },
  }
}

/** One flat literal: this is made for every lease, and spreading objects into it costs more than all else in this process. */
function argsOf(store: Store, lease: NewLease, partition: number, event: string, places = '') {
  const { agent, role, facts, limits } = lease
  return {
    lease: lease.id,
    task: lease.task,
    agent: agent.id,
    instance: agent.instance === undefined ? '' : encodeURIComponent(agent.instance),
    owner: agent.owner,
    issuer: agent.issuer,
    role: role.name,
    provider: role.provider,
    access: role.access,
    sensitivity: role.sensitivity,
    scope: Object.keys(lease.scope).length === 0 ? '' : JSON.stringify(lease.scope),
    handle: JSON.stringify(lease.handle),
    revocation: lease.revocation,
    residual: lease.residualSeconds,
    ends_use: flag(lease.expiryEndsUse),
    human: lease.human ?? '',
    human_key: keyOfHuman(lease.human),
    human_proof: proofText(lease.humanProof),
    ttl_ms: lease.ttlSeconds * 1000,
    life_ms: lease.maxLifetimeSeconds * 1000,
    mint_ms: lease.mintMs,
    shortest_ms: (lease.shortestLifeSeconds ?? 0) * 1000,
    renewable_until: lease.renewableUntil ?? 0,
    token_issued: agent.tokenIssuedAt ?? 0,
    token_skew: TOKEN_SKEW_MS,
    max_renewals: lease.maxRenewals ?? -1,
    context_version: facts.contextVersion,
    obtained: obtainedText(facts.obtained),
    counts: countsText(facts.counts),
    per_task: limits.perTaskLive,
    max_live: limits.maxLive ?? -1,
    max_leases: limits.maxLeases ?? -1,
    idempotency: lease.idempotency ?? '',
    idempotency_seconds: IDEMPOTENCY_SECONDS,
    supersedes: lease.supersedes ?? '',
    freezable: freezable(agent, role.name, role.provider, lease),
    places,
    places_limit: limits.perAgentLive,
    over_at: overAt(store, lease),
    event,
    outbox_limit: store.outboxLimit,
    skew: store.options.skewMarginMs,
    visibility: store.options.visibilityMs,
    approval: lease.approval?.id ?? '',
    approval_digest: lease.approval?.digest ?? '',
    mark: store.witness.mark(partition),
  }
}

/** What a freeze may cover of a lease, besides its task: `dimension=value`, spaces between them. */
export function freezable(
  agent: Pick<Agent, 'id' | 'issuer' | 'owner'>,
  role: string,
  provider: string,
  behalf: Pick<Lease, 'human' | 'humanProof'> = {},
): string {
  const { id, issuer, owner } = agent
  const tokens = `${token('agent', id)} ${token('role', role)} ${token('provider', provider)} ${token('issuer', issuer)} ${token('owner', owner)}`
  return withHuman(tokens, behalf)
}

/** Besides, what a freeze may cover of the human on whose behalf something is done. */
export function withHuman(tokens: string, { human, humanProof }: Pick<Lease, 'human' | 'humanProof'>): string {
  if (human === undefined) return tokens
  const named = `${tokens} ${token('human', human)}`
  // Whoever has the keys of the issuer of people says who they are.
  return humanProof ? `${named} ${token('issuer', humanProof.issuer)}` : named
}

/** The name under which a stop finds a human, where it is another than it was written. */
function keyOfHuman(human: string | undefined): string {
  if (human === undefined) return ''
  const key = folded(human)
  return key === human ? '' : key
}

type Issued = Awaited<ReturnType<Ledger['grant']>>

function answered(store: Store, lease: NewLease, partition: number, reply: unknown[]): Issued {
  const word = textOf(reply[0])
  if (word !== 'ok') {
    // What was read of the task may be what is wrong.
    store.tasks.delete(lease.task)
    return { ok: false, refused: expected(word, RESERVE_REFUSALS), detail: textOf(reply[1]) || undefined }
  }
  const [, issued, expires, renewable, mint, obtained, claims, told] = reply
  store.witness.saw(partition, textOf(told))
  remember(store, lease, textOf(obtained))
  const superseded: Claim[] = listOf(claims).map(claimOf)
  const times = { issuedAt: numberOf(issued), expiresAt: numberOf(expires), renewableUntil: numberOf(renewable), mintUntil: numberOf(mint) }
  return { ok: true, ...times, superseded }
}

/** What the tree obtained, for the next decision. Counts are kept only where a policy reads them: others never compare them. */
function remember(store: Store, { task, role, facts }: NewLease, obtained: string): void {
  if (obtained === '' && !facts.counts) return
  const cached = store.tasks.get(task)
  if (!cached) return
  const counts = { ...cached.counts, [role.access]: cached.counts[role.access] + 1 }
  store.tasks.set(task, { ...cached, counts, obtained: obtained ? obtained.split(',') : cached.obtained })
}

const RESERVE_REFUSALS = [
  'quarantined',
  'not_found',
  'ended',
  'frozen',
  'quota',
  'stale',
  'not_assigned',
  'outbox_full',
  'conflict',
  'closed',
  'approval_invalid',
  'renewals',
  'token_not_fresh',
  'human_not_fresh',
] as const satisfies ReserveRefusal[]
