import { freezable, issuingCalls, TOKEN_SKEW_MS } from './issuing.js'
import { keys, newId } from './keys.js'
import type { Ledger } from './ledger.js'
import { leaveAgent } from './places.js'
import { claimOf, countsText, leaseOf, leaseStateOf, obtainedText, proofText } from './records.js'
import { notReplicated } from './replication.js'
import { expected, fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { partitionOfLease, partitionOfTask, type Store } from './store.js'

const renewScript = defineScript('renew', 'lease', [
  'lease',
  'ttl_ms',
  'context_version',
  'obtained',
  'counts',
  'freezable',
  'token_issued',
  'token_skew',
  'max_renewals',
  'human_proof',
  'event',
  'outbox_limit',
  'skew',
  'approval',
  'approval_digest',
  'mark',
])
const reaffirmScript = defineScript('reaffirm', 'lease', ['id', 'context_version', 'skew'])
const closeScript = defineScript('close', 'lease', ['lease', 'cause', 'event', 'skew', 'visibility'])
const settleScript = defineScript('settle', 'lease', [
  'lease',
  'attempt',
  'result',
  'verified',
  'error',
  'random',
  'base_ms',
  'most_ms',
  'skew',
  'retention',
  'event',
])
const extendScript = defineScript('extend', 'lease', ['lease', 'expires', 'skew'])
const leasesOfTaskScript = defineScript('leases-of-task', 'task', [])
const frozenAmongScript = defineScript('frozen-among', 'task', [], { rest: 'freezables' })

/** Full jitter between nothing and a bound that doubles from the first to the second. */
const BACKOFF_BASE_MS = 500
const BACKOFF_MOST_MS = 60_000
const LONGEST_ERROR = 300

type LeaseCalls = Pick<
  Ledger,
  | 'newLeaseId'
  | 'reserve'
  | 'grant'
  | 'activate'
  | 'renew'
  | 'reaffirm'
  | 'close'
  | 'settle'
  | 'lease'
  | 'leasesOfTask'
  | 'frozenAmong'
  | 'restoreExpiry'
>

export function leaseCalls(store: Store): LeaseCalls {
  const { visibilityMs, skewMarginMs, settledRetentionSeconds } = store.options

  return {
    ...issuingCalls(store),
    newLeaseId: (task) => newId('lease', partitionOfTask(store, task) ?? 0),

    renew: async (id, { ttlSeconds, facts, tokenIssuedAt, maxRenewals, humanProof, approval }, event) => {
      const partition = partitionOfLease(store, id)
      const fields = partition === undefined ? {} : await store.ask(partition, (redis) => redis.hgetall(keys.lease(partition, id)))
      if (partition === undefined || fields.s === undefined) return { ok: false, refused: 'not_found' }
      await store.readyToIssue(partition)
      const known = leaseOf(id, fields)
      const reply = listOf(
        await store.run(renewScript, keys.lease(partition, id), {
          lease: id,
          ttl_ms: ttlSeconds * 1000,
          context_version: facts.contextVersion,
          obtained: obtainedText(facts.obtained),
          counts: countsText(facts.counts),
          freezable: freezable({ id: known.agent, issuer: known.issuer, owner: known.owner }, known.role, known.provider, {
            human: known.human,
            humanProof: humanProof ?? known.humanProof,
          }),
          token_issued: tokenIssuedAt,
          token_skew: TOKEN_SKEW_MS,
          max_renewals: maxRenewals ?? -1,
          human_proof: proofText(humanProof),
          event: JSON.stringify(event),
          outbox_limit: store.outboxLimit,
          skew: skewMarginMs,
          approval: approval?.id ?? '',
          approval_digest: approval?.digest ?? '',
          mark: store.witness.mark(partition),
        }),
      )
      const word = textOf(reply[0])
      if (word === 'ok') {
        store.witness.saw(partition, textOf(reply[2]))
        if (store.replication && !(await store.replication.of(partition, 'renewed'))) throw notReplicated()
        return { ok: true, lease: leaseOf(id, fieldsOf(reply[1])) }
      }
      store.tasks.delete(known.task)
      return { ok: false, refused: expected(word, RENEW_REFUSALS), detail: textOf(reply[1]) || undefined }
    },

    restoreExpiry: async (id, expiresAt) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) return false
      return numberOf(await store.run(extendScript, keys.lease(partition, id), { lease: id, expires: expiresAt, skew: skewMarginMs })) === 1
    },

    reaffirm: async (id, contextVersion) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      const args = { id, context_version: contextVersion, skew: skewMarginMs }
      const word = textOf(await store.run(reaffirmScript, keys.lease(partition, id), args))
      return word === 'ok' ? { ok: true } : { ok: false, refused: expected(word, REAFFIRM_REFUSALS) }
    },

    close: async (id, cause, event, { left = false } = {}) => {
      const partition = partitionOfLease(store, id)
      const args = { lease: id, cause, event: JSON.stringify(event), skew: skewMarginMs, visibility: left ? 0 : visibilityMs }
      const reply = partition === undefined ? undefined : await store.run(closeScript, keys.lease(partition, id), args)
      if (!reply) return { ok: false, refused: 'not_found' }
      const [record, claim] = listOf(reply)
      if (partition !== undefined) void store.replication?.of(partition, 'closed')
      return { ok: true, lease: leaseOf(id, fieldsOf(record)), claim: claim ? claimOf(claim) : undefined }
    },

    settle: async ({ lease: id, attempt }, outcome, event) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) throw new RangeError(`"${id}" is no id of a lease`)
      const reply = await store.run(settleScript, keys.lease(partition, id), {
        lease: id,
        attempt,
        result: outcome.result,
        verified: ('verified' in outcome && outcome.verified) || '',
        error: 'error' in outcome ? outcome.error.slice(0, LONGEST_ERROR) : '',
        random: Math.random(),
        base_ms: BACKOFF_BASE_MS,
        most_ms: BACKOFF_MOST_MS,
        skew: skewMarginMs,
        retention: settledRetentionSeconds,
        event: JSON.stringify(event),
      })
      // Its record has gone since it was settled.
      if (!reply) return { state: 'revoked', here: false }
      const [state, due, agent] = listOf(reply)
      if (agent) leaveAgent(store, textOf(agent), id)
      return { state: leaseStateOf(textOf(state)), dueAt: numberOf(due) || undefined, here: agent !== undefined }
    },

    lease: async (id) => {
      const partition = partitionOfLease(store, id)
      if (partition === undefined) return undefined
      const fields = await store.ask(partition, (redis) => redis.hgetall(keys.lease(partition, id)))
      return fields.s === undefined ? undefined : leaseOf(id, fields)
    },

    frozenAmong: async (task, asks) => {
      const partition = partitionOfTask(store, task)
      if (partition === undefined || asks.length === 0) return asks.map(() => false)
      const tokens = asks.map(({ agent, role, provider }) => freezable(agent, role, provider))
      return listOf(await store.run(frozenAmongScript, keys.task(partition, task), {}, tokens)).map((one) => one === 1)
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
}

const RENEW_REFUSALS = [
  'quarantined',
  'not_found',
  'closed',
  'ended',
  'frozen',
  'limit',
  'renewals',
  'token_not_fresh',
  'human_not_fresh',
  'stale',
  'outbox_full',
  'approval_invalid',
] as const
const REAFFIRM_REFUSALS = ['not_found', 'stale', 'ended'] as const
