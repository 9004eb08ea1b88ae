import { withHuman } from './issuing.js'
import { keys } from './keys.js'
import type { CallRefusal, Ledger } from './ledger.js'
import { countsText, obtainedText } from './records.js'
import { expected, listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { token } from './selectors.js'
import { partitionOfTask, type Store } from './store.js'

const callScript = defineScript('call-tool', 'task', [
  'task',
  'agent',
  'instance',
  'tool',
  'tag',
  'freezable',
  'context_version',
  'obtained',
  'counts',
  'lease',
  'max_calls',
  'event',
  'outbox_limit',
  'mark',
])

export function callCalls(store: Store): Pick<Ledger, 'callTool'> {
  return {
    callTool: async ({ task, agent, tool, lease, maxCalls, facts, ...behalf }, event) => {
      const partition = partitionOfTask(store, task)
      if (partition === undefined) return { ok: false, refused: 'not_found' }
      await store.readyToIssue(partition)
      const reply = listOf(
        await store.run(callScript, keys.task(partition, task), {
          task,
          agent: agent.id,
          instance: agent.instance === undefined ? '' : encodeURIComponent(agent.instance),
          tool: tool.name,
          tag: `${tool.access}:${tool.sensitivity}`,
          freezable: withHuman(`${token('agent', agent.id)} ${token('issuer', agent.issuer)} ${token('owner', agent.owner)}`, behalf),
          context_version: facts.contextVersion,
          obtained: obtainedText(facts.obtained),
          counts: countsText(facts.counts),
          lease: lease ?? '',
          max_calls: maxCalls ?? -1,
          event: JSON.stringify(event),
          outbox_limit: store.outboxLimit,
          mark: store.witness.mark(partition),
        }),
      )
      const word = textOf(reply[0])
      if (word !== 'ok') {
        // What was read of the task may be what is wrong.
        store.tasks.delete(task)
        return { ok: false, refused: expected(word, CALL_REFUSALS), detail: textOf(reply[1]) || undefined }
      }
      const obtained = textOf(reply[1])
      const cached = obtained === '' ? undefined : store.tasks.get(task)
      if (cached) store.tasks.set(task, { ...cached, obtained: obtained.split(',') })
      return { ok: true }
    },
  }
}

const CALL_REFUSALS = [
  'quarantined',
  'not_found',
  'ended',
  'not_assigned',
  'frozen',
  'stale',
  'lease',
  'calls',
  'outbox_full',
] as const satisfies readonly CallRefusal[]
