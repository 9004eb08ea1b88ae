import type { Agent, Cause, Claim, Event, Facts } from '../types.js'
import { hashed, keys, newId, partitionFor } from './keys.js'
import type { Ledger, NewLease, ReserveRefusal } from './ledger.js'
import { claimOf, countsText, flag, leaseOf, leaseStateOf, obtainedText } from './records.js'
import { fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { token } from './selectors.js'
import { partitionOfLease, partitionOfTask, type Store } from './store.js'

const ISSUE = [
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
  'ttl_ms',
  'life_ms',
  'mint_ms',
  'shortest_ms',
  'renewable_until',
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
] as const
const reserveScript = defineScript('reserve', 'lease', ISSUE)
const grantScript = defineScript('grant', 'lease', ISSUE)
const activateScript = defineScript('activate', 'lease', [
  'lease',
  'handle',
  'sealed_by',
  'expires',
  'usable',
  'event',
  'skew',
  'visibility',
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
  'revocation',
  'residual',
  'ends_use',
  'freezable',
  'human',
  'context_version',
])
const withdrawScript = defineScript('withdraw', 'lease', ['lease', 'event', 'retention'])
const renewScript = defineScript('renew', 'lease', [
  'lease',
  'ttl_ms',
  'context_version',
  'obtained',
  'counts',
  'freezable',
  'event',
  'outbox_limit',
  'skew',
])
const reaffirmScript = defineScript('reaffirm', 'lease', ['id', 'context_version', 'skew'])
const closeScript = defineScript('close', 'lease', ['lease', 'cause', 'event', 'skew', 'visibility'])
const settleScript = defineScript('settle', 'lease', [
  'lease',
  'attempt',
  'result',
  'error',
  'random',
  'base_ms',
  'most_ms',
  'skew',
  'retention',
  'event',
])
const enterAgent = defineScript('enter-agent', 'agent-live', ['lease', 'over_at', 'limit', 'instead'])
const leasesOfTaskScript = defineScript('leases-of-task', 'task', [])

/** How long an Idempotency-Key is remembered. */
const IDEMPOTENCY_SECONDS = 86_400
/** Full jitter between nothing and a bound that doubles from the first to the second. */
const BACKOFF_BASE_MS = 500
const BACKOFF_MOST_MS = 60_000
const LONGEST_ERROR = 300

type LeaseCalls = Pick<Ledger, 'newLeaseId' | 'reserve' | 'grant' | 'activate' | 'renew' | 'reaffirm' | 'close' | 'settle' | 'lease' | 'leasesOfTask'>

export function leaseCalls(store: Store): LeaseCalls {
  const { partitions, visibilityMs, skewMarginMs, settledRetentionSeconds } = store.options

  /** Reserve or grant, with the agent's place asked for at the same time where it has a limit over all partitions. */
  const issue = async (script: typeof grantScript, lease: NewLease, event: Event): ReturnType<Ledger['grant']> => {
    const partition = partitionOfTask(store, lease.task)
    if (partition === undefined || partition !== partitionOfLease(store, lease.id)) return { ok: false, refused: 'not_found' }
    await store.readyToIssue()
    const told = JSON.stringify(event)
    const places = lease.limits.perAgentLive > 0 ? agentKey(lease.agent.id, partitions) : ''
    const here = places.startsWith(keys.prefix(partition)) ? places : ''
    const written = store.run(script, keys.lease(partition, lease.id), issueArgs(store, lease, told, here))
    if (places === here) return answered(store, lease, listOf(await written))

    const [place, reply] = await Promise.allSettled([enter(store, lease, lease.supersedes), written])
    if (reply.status === 'rejected') throw reply.reason
    const answer = answered(store, lease, listOf(reply.value))
    if (!answer.ok) {
      // `conflict`: there is a lease of this id, and the place is its.
      const isTaken = answer.refused === 'conflict'
      if (place.status === 'fulfilled' && place.value && !isTaken) leaveAgent(store, lease.agent.id, lease.id)
      return answer
    }
    if (place.status === 'fulfilled' && place.value) return answer
    // Which lease an Idempotency-Key stood for is known only now.
    const first = answer.superseded.find((claim) => claim.lease.id !== lease.supersedes)
    if (place.status === 'fulfilled' && first && (await enter(store, lease, first.lease.id))) return answer
    // Written, but over the limit, or nobody knows: nobody has seen this lease yet, and it ends before anybody does.
    const args = { lease: lease.id, event: told, retention: settledRetentionSeconds }
    await store.run(withdrawScript, keys.lease(partition, lease.id), args)
    store.tasks.delete(lease.task)
    if (place.status === 'rejected') throw place.reason
    return { ok: false, refused: 'quota', detail: 'live leases of the agent' }
  }

  return {
    newLeaseId: (task) => newId('lease', partitionOfTask(store, task) ?? 0),
    reserve: (lease, event) => issue(reserveScript, lease, event),
    grant: (lease, event) => issue(grantScript, lease, event),

    activate: async (lease, minted, event) => {
      const partition = partitionOfLease(store, lease.id)
      if (partition === undefined) throw new RangeError(`"${lease.id}" is no id of a lease`)
      const reply = listOf(
        await store.run(activateScript, keys.lease(partition, lease.id), {
          ...identityOf(lease),
          freezable: freezable(lease.agent, lease.role.name, lease.role.provider),
          handle: JSON.stringify(minted.handle),
          sealed_by: minted.sealedBy ?? '',
          expires: minted.expiresAt,
          usable: Math.ceil(minted.usableUntil ?? 0),
          event: JSON.stringify(event),
          skew: skewMarginMs,
          visibility: visibilityMs,
          human: lease.human ?? '',
          context_version: lease.facts.contextVersion,
        }),
      )
      if (reply[0] === 'active') return { state: 'active' }
      store.tasks.delete(lease.task)
      return { state: 'closing', cause: textOf(reply[1]) as Cause, claim: claimOf(reply[2]) }
    },

    renew: async (id, { ttlSeconds, facts }, event) => {
      const partition = partitionOfLease(store, id)
      const fields = partition === undefined ? {} : await store.ask((redis) => redis.hgetall(keys.lease(partition, id)))
      if (partition === undefined || fields.s === undefined) return { ok: false, refused: 'not_found' }
      await store.readyToIssue()
      const known = leaseOf(id, fields)
      const reply = listOf(
        await store.run(renewScript, keys.lease(partition, id), {
          lease: id,
          ttl_ms: ttlSeconds * 1000,
          ...factArgs(facts),
          freezable: freezable({ id: known.agent, issuer: known.issuer, owner: known.owner }, known.role, known.provider),
          event: JSON.stringify(event),
          outbox_limit: store.outboxLimit,
          skew: skewMarginMs,
        }),
      )
      const word = textOf(reply[0])
      if (word === 'ok') return { ok: true, lease: leaseOf(id, fieldsOf(reply[1])) }
      store.tasks.delete(known.task)
      return { ok: false, refused: expected(word, RENEW_REFUSALS), detail: textOf(reply[1]) || undefined }
    },

    reaffirm: async (id, contextVersion) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      const args = { id, context_version: contextVersion, skew: skewMarginMs }
      const word = textOf(await store.run(reaffirmScript, keys.lease(partition, id), args))
      return word === 'ok' ? { ok: true } : { ok: false, refused: expected(word, REAFFIRM_REFUSALS) }
    },

    close: async (id, cause, event) => {
      const partition = partitionOfLease(store, id)
      const args = { lease: id, cause, event: JSON.stringify(event), skew: skewMarginMs, visibility: visibilityMs }
      const reply = partition === undefined ? undefined : await store.run(closeScript, keys.lease(partition, id), args)
      if (!reply) return { ok: false, refused: 'not_found' }
      const [record, claim] = listOf(reply)
      return { ok: true, lease: leaseOf(id, fieldsOf(record)), claim: claim ? claimOf(claim) : undefined }
    },

    settle: async ({ lease: id, attempt }, outcome, event) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) throw new RangeError(`"${id}" is no id of a lease`)
      const reply = await store.run(settleScript, keys.lease(partition, id), {
        lease: id,
        attempt,
        result: outcome.result,
        error: outcome.result === 'failed' ? outcome.error.slice(0, LONGEST_ERROR) : '',
        random: Math.random(),
        base_ms: BACKOFF_BASE_MS,
        most_ms: BACKOFF_MOST_MS,
        skew: skewMarginMs,
        retention: settledRetentionSeconds,
        event: JSON.stringify(event),
      })
      // Its record has gone since it was settled.
      if (!reply) return { state: 'revoked' }
      const [state, due, agent] = listOf(reply)
      if (agent) leaveAgent(store, textOf(agent), id)
      return { state: leaseStateOf(textOf(state)), dueAt: numberOf(due) || undefined }
    },

    lease: async (id) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) return undefined
      const fields = await store.ask((redis) => redis.hgetall(keys.lease(partition, id)))
      return fields.s === undefined ? undefined : leaseOf(id, fields)
    },

    leasesOfTask: async (task) => {
      const partition = partitionOfTask(store, task)
      if (partition === undefined) return []
      return listOf(await store.run(leasesOfTaskScript, keys.task(partition, task), {})).map((one) => {
        const [id, fields] = listOf(one)
        return leaseOf(textOf(id), fieldsOf(fields))
      })
    },
  }

  /** The agent's count is at a partition of its own. */
  async function enter(ledger: Store, lease: NewLease, instead = ''): Promise<boolean> {
    const args = { lease: lease.id, over_at: overAt(ledger, lease), limit: lease.limits.perAgentLive, instead }
    return numberOf(await ledger.run(enterAgent, agentKey(lease.agent.id, partitions), args)) === 1
  }
}

/** When a lease is over whatever happens. */
function overAt(store: Store, lease: NewLease): number {
  return store.clock.now() + Math.max(lease.maxLifetimeSeconds, lease.shortestLifeSeconds ?? 0) * 1000 + lease.mintMs + store.options.skewMarginMs
}

/** Two hashes for a name that comes again and again; emptied when it is full, since agents are few and come back. */
const agentKeys = new Map<string, string>()
const MOST_AGENT_KEYS = 10_000

function agentKey(agent: string, partitions: number): string {
  const name = `${partitions} ${agent}`
  const known = agentKeys.get(name)
  if (known !== undefined) return known
  const hash = hashed(agent)
  const key = keys.agentLive(partitionFor(hash, partitions), hash)
  if (agentKeys.size >= MOST_AGENT_KEYS) agentKeys.clear()
  agentKeys.set(name, key)
  return key
}

/** Gives an agent's place back. Best effort: a place that stays is free again when its lease would have been over. */
export function leaveAgent(store: Store, agent: string, lease: string): void {
  store
    .ask((redis) => redis.zrem(agentKey(agent, store.options.partitions), lease))
    .catch(() => store.log('warn', "an agent's place was not given back; it heals at the lease's latest end", { lease }))
}

function identityOf(lease: NewLease) {
  return {
    lease: lease.id,
    task: lease.task,
    agent: lease.agent.id,
    instance: lease.agent.instance === undefined ? '' : encodeURIComponent(lease.agent.instance),
    owner: lease.agent.owner,
    issuer: lease.agent.issuer,
    role: lease.role.name,
    provider: lease.role.provider,
    access: lease.role.access,
    sensitivity: lease.role.sensitivity,
    scope: Object.keys(lease.scope).length === 0 ? '' : JSON.stringify(lease.scope),
    revocation: lease.revocation,
    residual: lease.residualSeconds,
    ends_use: flag(lease.expiryEndsUse),
  }
}

/** What a freeze may cover of a lease, besides its task: `dimension=value`, spaces between them. */
function freezable(agent: Pick<Agent, 'id' | 'issuer' | 'owner'>, role: string, provider: string): string {
  const { id, issuer, owner } = agent
  return `${token('agent', id)} ${token('role', role)} ${token('provider', provider)} ${token('issuer', issuer)} ${token('owner', owner)}`
}

function factArgs(facts: Facts) {
  return { context_version: facts.contextVersion, obtained: obtainedText(facts.obtained), counts: countsText(facts.counts) }
}

/** One flat literal: this is made for every lease, and spreading objects into it costs more than all else in this process. */
function issueArgs(store: Store, lease: NewLease, event: string, places: string) {
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
    ttl_ms: lease.ttlSeconds * 1000,
    life_ms: lease.maxLifetimeSeconds * 1000,
    mint_ms: lease.mintMs,
    shortest_ms: (lease.shortestLifeSeconds ?? 0) * 1000,
    renewable_until: lease.renewableUntil ?? 0,
    context_version: facts.contextVersion,
    obtained: obtainedText(facts.obtained),
    counts: countsText(facts.counts),
    per_task: limits.perTaskLive,
    max_live: limits.maxLive ?? -1,
    max_leases: limits.maxLeases ?? -1,
    idempotency: lease.idempotency ?? '',
    idempotency_seconds: IDEMPOTENCY_SECONDS,
    supersedes: lease.supersedes ?? '',
    freezable: freezable(agent, role.name, role.provider),
    places,
    places_limit: limits.perAgentLive,
    over_at: overAt(store, lease),
    event,
    outbox_limit: store.outboxLimit,
    skew: store.options.skewMarginMs,
    visibility: store.options.visibilityMs,
  }
}

type Issued = Awaited<ReturnType<Ledger['grant']>>

function answered(store: Store, lease: NewLease, reply: unknown[]): Issued {
  const word = textOf(reply[0])
  if (word !== 'ok') {
    // What was read of the task may be what is wrong.
    store.tasks.delete(lease.task)
    return { ok: false, refused: expected(word, RESERVE_REFUSALS), detail: textOf(reply[1]) || undefined }
  }
  const [, issued, expires, renewable, mint, obtained, claims] = reply
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
  'not_found',
  'ended',
  'frozen',
  'quota',
  'stale',
  'not_assigned',
  'outbox_full',
  'conflict',
  'closed',
] as const satisfies ReserveRefusal[]
const RENEW_REFUSALS = ['not_found', 'closed', 'ended', 'frozen', 'limit', 'stale', 'outbox_full'] as const
const REAFFIRM_REFUSALS = ['not_found', 'stale', 'ended'] as const

function expected<Word extends string>(word: string, words: readonly Word[]): Word {
  const known = words.find((one) => one === word)
  if (known === undefined) throw new Error(`the ledger refused with "${word}", which is no refusal of this call`)
  return known
}
