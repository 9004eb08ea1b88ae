import { createHash, randomInt } from 'node:crypto'
import type { Task, TaskEnd, TaskState } from '../types.js'
import { hashed, keys, newId, partitionFor } from './keys.js'
import type { Ledger, NewTask } from './ledger.js'
import { bindingsOf, changeFields, claimOf, classifiedFlag, leaseOf, proofText, taskOf } from './records.js'
import { expected, fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { token } from './selectors.js'
import { partitionOfTask, type Store } from './store.js'

const openTask = defineScript(
  'open-task',
  'task',
  [
    'id',
    'parent',
    'digest',
    'external',
    'opener_kind',
    'opener_id',
    'opener_issuer',
    'opener_instance',
    'intent',
    'stated',
    'classified',
    'confidence',
    'classification',
    'environment',
    'assignees',
    'envelope',
    'tools',
    'check',
    'plan',
    'labels',
    'human',
    'human_proof',
    'external_id',
    'deadline',
    'heartbeat',
    'max_depth',
    'context_version',
    'tokens',
    'event',
    'outbox_limit',
    'opened',
    'opened_limit',
    'retention',
    'mark',
  ],
  { rest: 'bindings' },
)
const findTask = defineScript('find-task', 'task', ['external', 'digest'])
const readTask = defineScript('read-task', 'task', [])
const touchTask = defineScript('touch-task', 'task', ['id'])
const changeTask = defineScript('change-task', 'task', ['id', 'context_version', 'review_ms', 'event', 'outbox_limit'], { rest: 'fields' })
const descendantsScript = defineScript('descendants', 'task', ['id', 'most'])
const endTask = defineScript('end-task', 'task', ['id', 'state', 'cause', 'reason', 'budget', 'event', 'skew', 'visibility', 'retention'])

/** How long a changed task's leases have to be reaffirmed. */
const REVIEW_MS = 5_000
/** Leases that one end closes and hands to its caller; the rest is due at once, for the sweepers. */
const END_BUDGET = 200

export function taskCalls(
  store: Store,
): Pick<Ledger, 'newTaskId' | 'knownTask' | 'openTask' | 'task' | 'descendants' | 'touchTask' | 'changeTask' | 'endTask'> {
  const { partitions, visibilityMs, skewMarginMs, settledRetentionSeconds } = store.options

  const task: Ledger['task'] = async (id, options) => {
    const cached = options?.fresh ? undefined : store.tasks.get(id)
    if (cached) return cached
    const partition = partitionOfTask(store, id)
    if (partition === undefined) return undefined
    const reply = await store.run(readTask, keys.task(partition, id), {})
    if (!reply) {
      store.tasks.delete(id)
      return undefined
    }
    const [record, root, endedAbove] = listOf(reply)
    return remember(store, taskOf(id, fieldsOf(record), root, endedAbove))
  }

  return {
    newTaskId: (from) => {
      if (!from) return newId('task', randomInt(partitions))
      if ('parent' in from) return newId('task', partitionOfTask(store, from.parent) ?? 0)
      if ('agent' in from) return newId('task', partitionFor(hashed(from.agent), partitions))
      return newId('task', partitionFor(hashed(from.orchestrator, from.externalId), partitions))
    },

    knownTask: async (task) => {
      const partition = partitionOfTask(store, task.id)
      if (partition === undefined || task.externalId === undefined) return undefined
      const args = { external: externalOf(task), digest: digestOf(task) }
      const reply = await store.run(findTask, keys.task(partition, task.id), args)
      if (!reply) return undefined
      const [word, known, record, root] = listOf(reply)
      if (textOf(word) !== 'known') return { ok: false, refused: 'conflict', detail: textOf(known) }
      return { ok: true, task: remember(store, taskOf(textOf(known), fieldsOf(record), root)) }
    },

    openTask: async (task, event) => {
      const partition = partitionOfTask(store, task.id)
      if (partition === undefined) throw new RangeError(`"${task.id}" is no id of a task`)
      if (task.parent !== undefined && partitionOfTask(store, task.parent) !== partition) return { ok: false, refused: 'parent_ended' }
      await store.readyToIssue(partition)
      const reply = listOf(
        await store.run(
          openTask,
          keys.task(partition, task.id),
          {
            id: task.id,
            parent: task.parent ?? '',
            digest: digestOf(task),
            external: externalOf(task),
            opener_kind: task.openedBy.kind,
            opener_id: task.openedBy.id,
            opener_issuer: task.openedBy.issuer,
            opener_instance: task.openedBy.instance ?? '',
            intent: task.intent,
            stated: task.statedIntent ?? '',
            classified: classifiedFlag(task),
            confidence: task.confidence,
            classification: task.classification,
            environment: task.environment,
            assignees: JSON.stringify(task.assignees),
            envelope: JSON.stringify(task.envelope),
            tools: task.tools === undefined ? '' : JSON.stringify(task.tools),
            check: task.check ?? '',
            plan: task.plan === undefined ? '' : JSON.stringify(task.plan),
            labels: JSON.stringify(task.labels),
            human: task.human ?? '',
            human_proof: proofText(task.humanProof),
            external_id: task.externalId ?? '',
            deadline: task.deadlineAt,
            heartbeat: task.heartbeatSeconds ?? 0,
            max_depth: task.maxDepth,
            context_version: task.contextVersion ?? '',
            tokens: tokensOf(task),
            event: JSON.stringify(event),
            outbox_limit: store.outboxLimit,
            opened: task.maxOpened === undefined ? '' : keys.agentTasks(partition, hashed(task.openedBy.id)),
            opened_limit: task.maxOpened ?? 0,
            retention: settledRetentionSeconds,
            mark: store.witness.mark(partition),
          },
          bindingsOf(task.assignees),
        ),
      )
      const word = textOf(reply[0])
      if (word !== 'created' && word !== 'known') return { ok: false, refused: refusalOf(word), detail: textOf(reply[1]) || undefined }
      store.witness.saw(partition, textOf(reply[4]))
      const opened = remember(store, taskOf(textOf(reply[1]), fieldsOf(reply[2]), reply[3]))
      return { ok: true, task: opened, created: word === 'created' }
    },

    task,

    descendants: async (id, most) => {
      const partition = partitionOfTask(store, id)
      if (partition === undefined) return { tasks: [], more: false }
      const [found, more] = listOf(await store.run(descendantsScript, keys.task(partition, id), { id, most }))
      const tasks = listOf(found).map((one) => {
        const [child, fields] = listOf(one)
        return taskOf(textOf(child), fieldsOf(fields), [])
      })
      return { tasks, more: numberOf(more) === 1 }
    },

    touchTask: async (id) => {
      const partition = partitionOfTask(store, id)
      const reply = partition === undefined ? undefined : await store.run(touchTask, keys.task(partition, id), { id })
      if (!reply) return { ok: false, refused: 'not_found' }
      const [state, due] = listOf(reply)
      const touched = { state: textOf(state) as TaskState, heartbeatDueAt: numberOf(due) || undefined }
      const cached = store.tasks.get(id)
      if (cached) remember(store, { ...cached, ...touched })
      return { ok: true, ...touched }
    },

    changeTask: async (id, change, event, { contextVersion, narrows = false } = {}) => {
      const partition = partitionOfTask(store, id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      store.tasks.delete(id)
      const args = {
        id,
        context_version: contextVersion ?? '',
        review_ms: REVIEW_MS,
        event: JSON.stringify(event),
        outbox_limit: narrows ? -1 : store.outboxLimit,
      }
      const [word, record, root, live] = listOf(await store.run(changeTask, keys.task(partition, id), args, changeFields(change)))
      store.tasks.delete(id)
      if (word !== 'ok') return { ok: false, refused: expected(textOf(word), CHANGE_REFUSALS) }
      void store.replication?.of(partition, 'changed')
      const leases = listOf(live).map((one) => {
        const [lease, fields] = listOf(one)
        return leaseOf(textOf(lease), fieldsOf(fields))
      })
      return { ok: true, task: remember(store, taskOf(id, fieldsOf(record), root)), live: leases }
    },

    endTask: async (id, end, event) => {
      const partition = partitionOfTask(store, id)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      store.tasks.delete(id)
      const reply = await store.run(endTask, keys.task(partition, id), {
        id,
        state: end.state,
        cause: end.cause,
        reason: end.reason ?? '',
        budget: END_BUDGET,
        event: JSON.stringify(event),
        skew: skewMarginMs,
        visibility: visibilityMs,
        retention: settledRetentionSeconds,
      })
      store.tasks.delete(id)
      if (!reply) return { ok: false, refused: 'not_found' }
      const [state, first, closing, claims, told] = listOf(reply)
      store.witness.saw(partition, textOf(told))
      return {
        ok: true,
        state: textOf(state) as TaskEnd,
        first: numberOf(first) === 1,
        closing: numberOf(closing),
        claims: listOf(claims).map(claimOf),
        replicated: store.replication?.of(partition, 'ended'),
      }
    },
  }
}

function remember(store: Store, task: Task): Task {
  store.tasks.set(task.id, task)
  return task
}

/**
 * What a freeze may name a task by: who opened it, who answers for that, and whose word it rests on, or tasks opened with a stolen issuer's
 * keys would go on for agents of another. What is above it adds its own, in the script.
 */
function tokensOf({ id, openedBy, owner, human, humanProof }: NewTask): string {
  const tokens = [token('task', id), token(openedBy.kind, openedBy.id), token('issuer', openedBy.issuer)]
  if (owner !== undefined) tokens.push(token('owner', owner))
  if (human !== undefined) tokens.push(token('human', human))
  if (humanProof) tokens.push(token('issuer', humanProof.issuer))
  return tokens.join(' ')
}

function externalOf({ externalId, openedBy, parent = '' }: NewTask): string {
  return externalId === undefined ? '' : hashed(openedBy.kind, openedBy.id, parent, externalId)
}

/** Tells two bodies apart, whatever the order of their fields, whatever others made of what was said, and with what token a human was shown to be the same. */
function digestOf({ stated, classifiedBy: _by, statedIntent: _intent, ...task }: NewTask): string {
  const { id: _id, maxDepth: _maxDepth, contextVersion: _contextVersion, owner: _owner, humanProof: _proof, ...body } = { ...task, ...stated }
  return createHash('sha256')
    .update(JSON.stringify(sorted(body)))
    .digest('base64url')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, one]) => [name, sorted(one)]),
  )
}

const CHANGE_REFUSALS = ['not_found', 'ended', 'stale', 'outbox_full'] as const
type OpenRefusal = 'quarantined' | 'conflict' | 'frozen' | 'parent_ended' | 'stale' | 'too_deep' | 'quota' | 'outbox_full'
const OPEN_REFUSALS: readonly string[] = [
  'quarantined',
  'conflict',
  'frozen',
  'parent_ended',
  'stale',
  'too_deep',
  'quota',
  'outbox_full',
] satisfies OpenRefusal[]

function refusalOf(word: string): OpenRefusal {
  if (!OPEN_REFUSALS.includes(word)) throw new Error(`the ledger refused a task with "${word}"`)
  return word as OpenRefusal
}
