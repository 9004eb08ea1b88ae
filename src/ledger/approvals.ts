import { freezable } from './issuing.js'
import { keys, newId, partitionOf } from './keys.js'
import type { Ledger } from './ledger.js'
import { approvalOf, approvalStateOf } from './records.js'
import { expected, fieldsOf, listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { partitionOfTask, type Store } from './store.js'

const askScript = defineScript('ask-approval', 'approval', [
  'approval',
  'task',
  'agent',
  'instance',
  'issuer',
  'role',
  'digest',
  'context_version',
  'needs',
  'shown',
  'ttl_ms',
  'most',
  'most_of_agent',
  'retention',
  'freezable',
  'event',
  'outbox_limit',
])
const giveScript = defineScript('give-approval', 'approval', [
  'approval',
  'operator',
  'issuer',
  'groups',
  'persons',
  'reason',
  'granted_ms',
  'event',
  'outbox_limit',
])
const denyScript = defineScript('deny-approval', 'approval', ['approval', 'operator', 'issuer', 'reason', 'event'])
const readScript = defineScript('read-approval', 'approval', [])

type ApprovalCalls = Pick<Ledger, 'newApprovalId' | 'askApproval' | 'giveApproval' | 'denyApproval' | 'approval'>

export function approvalCalls(store: Store): ApprovalCalls {
  const { partitions, settledRetentionSeconds } = store.options
  const homeOf = (id: string) => partitionOf(id, 'approval', partitions)

  return {
    newApprovalId: (task) => newId('approval', partitionOfTask(store, task) ?? 0),

    askApproval: async (asked, event) => {
      const partition = partitionOfTask(store, asked.task)
      if (partition === undefined || partition !== homeOf(asked.id)) return { ok: false, refused: 'not_found' }
      await store.readyToIssue(partition)
      const { agent, role, request } = asked
      const reply = listOf(
        await store.run(askScript, keys.approval(partition, asked.id), {
          approval: asked.id,
          task: asked.task,
          agent: agent.id,
          instance: agent.instance ?? '',
          issuer: agent.issuer,
          role,
          digest: asked.digest,
          context_version: asked.contextVersion,
          needs: JSON.stringify(asked.needs),
          shown: JSON.stringify(request),
          ttl_ms: asked.ttlSeconds * 1000,
          most: asked.most,
          most_of_agent: asked.mostOfAgent,
          retention: settledRetentionSeconds,
          freezable: freezable(agent, role, request.provider, request),
          event: JSON.stringify(event),
          outbox_limit: store.outboxLimit,
        }),
      )
      const word = textOf(reply[0])
      if (word === 'asked' || word === 'known')
        return { ok: true, approval: approvalOf(textOf(reply[1]), fieldsOf(reply[2])), created: word === 'asked' }
      store.tasks.delete(asked.task)
      if (word === 'denied') return { ok: false, refused: 'approval_denied' }
      return { ok: false, refused: expected(word, ASK_REFUSALS), detail: textOf(reply[1]) || undefined }
    },

    giveApproval: async (id, { id: operator, issuer, groups, persons = [], reason = '', grantedMs }, event) => {
      const partition = homeOf(id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      await store.readyToIssue(partition)
      const by = { approval: id, operator, issuer, groups: groups.join(' '), persons: persons.join(' '), reason, granted_ms: grantedMs }
      const args = { ...by, event: JSON.stringify(event), outbox_limit: store.outboxLimit }
      const [word, record] = listOf(await store.run(giveScript, keys.approval(partition, id), args))
      if (word === 'ok') return { ok: true, approval: approvalOf(id, fieldsOf(record)) }
      return { ok: false, refused: expected(textOf(word), GIVE_REFUSALS), detail: detailOf(textOf(word), textOf(record)) }
    },

    denyApproval: async (id, { id: operator, issuer, reason = '' }, event) => {
      const partition = homeOf(id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      const args = { approval: id, operator, issuer, reason, event: JSON.stringify(event) }
      const [word, record] = listOf(await store.run(denyScript, keys.approval(partition, id), args))
      if (word === 'ok') return { ok: true, approval: approvalOf(id, fieldsOf(record)) }
      return { ok: false, refused: expected(textOf(word), DENY_REFUSALS), detail: detailOf(textOf(word), textOf(record)) }
    },

    approval: async (id) => {
      const partition = homeOf(id)
      const reply = partition === undefined ? undefined : await store.run(readScript, keys.approval(partition, id), {})
      if (!reply) return undefined
      const [fields, over] = listOf(reply)
      return approvalOf(id, fieldsOf(fields), textOf(over))
    },
  }
}

function detailOf(word: string, detail: string): string | undefined {
  return word === 'decided' ? approvalStateOf(detail) : detail || undefined
}

const ASK_REFUSALS = ['not_found', 'ended', 'frozen', 'stale', 'quota', 'outbox_full'] as const
const GIVE_REFUSALS = ['not_found', 'decided', 'over', 'twice', 'outbox_full'] as const
const DENY_REFUSALS = ['not_found', 'decided', 'over'] as const
