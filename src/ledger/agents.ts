import type { Lease, Task } from '../types.js'
import { keys } from './keys.js'
import type { AgentCounts, Ledger } from './ledger.js'
import { leaseOf, taskOf } from './records.js'
import { fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { token } from './selectors.js'
import { partitionsOf, type Store } from './store.js'

const agentsScript = defineScript('agents', 'providers', ['only', 'cursor'])
const reachScript = defineScript('reach', 'providers', ['agent', 'token', 'cursor'])

/** Partition after partition, a page at a time: nothing else waits for more than one page. */
export function agentCalls(store: Store): Pick<Ledger, 'agents' | 'reach'> {
  return {
    agents: async (only = '') => {
      const found = new Map<string, AgentCounts>()
      for (const partition of partitionsOf(store)) {
        for (let cursor = ''; cursor !== 'done'; ) {
          const [next, ...counts] = listOf(await store.run(agentsScript, keys.providers(partition), { only, cursor }))
          cursor = textOf(next)
          for (let i = 0; i < counts.length; i += 4) {
            const agent = textOf(counts[i])
            const { live = 0, closing = 0, tasks = 0 } = found.get(agent) ?? {}
            const more = [1, 2, 3].map((offset) => numberOf(counts[i + offset]))
            found.set(agent, { agent, live: live + (more[0] ?? 0), closing: closing + (more[1] ?? 0), tasks: tasks + (more[2] ?? 0) })
          }
        }
      }
      return [...found.values()].sort((a, b) => (a.agent < b.agent ? -1 : 1))
    },

    reach: async (agent, most) => {
      const tasks = new Map<string, Task>()
      const leases = new Map<string, Lease>()
      const args = { agent, token: token('agent', agent) }
      for (const partition of partitionsOf(store)) {
        for (let cursor = ''; cursor !== 'done'; ) {
          const [next, ...found] = listOf(await store.run(reachScript, keys.providers(partition), { ...args, cursor }))
          cursor = textOf(next)
          for (const [kind, id, record, root] of found.map(listOf)) {
            if (kind === 'task') tasks.set(textOf(id), taskOf(textOf(id), fieldsOf(record), root))
            else leases.set(textOf(id), leaseOf(textOf(id), fieldsOf(record)))
          }
          if (tasks.size > most || leases.size > most)
            return { tasks: [...tasks.values()].slice(0, most), leases: [...leases.values()].slice(0, most), more: true }
        }
      }
      return { tasks: [...tasks.values()], leases: [...leases.values()], more: false }
    },
  }
}
