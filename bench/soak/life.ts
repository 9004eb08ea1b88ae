import type { Answer, Request } from '../connection.js'
import type { Fleet } from '../fleet.js'
import type { Pool } from './pool.js'

export const ROLES = ['role-0', 'works-read'] as const
export const TOOLS = ['reports.read']
export const AGENTS = 1_000
/** One in so many tasks is never ended by anybody: its deadline does. */
const ABANDONED = 10
const DEADLINE_MS = 30_000

export interface Lives {
  /** A task from its opening to its end: credentials of both kinds, tool calls, a renewal, one given back; `rest` between use and end. */
  live(rest: number): Promise<void>
  /** Answers by what was asked and their status. */
  readonly answers: ReadonlyMap<string, number>
  requests(): number
}

export async function createLives(fleet: Fleet, pool: Pool): Promise<Lives> {
  const tokens = await Promise.all(Array.from({ length: AGENTS }, (_, n) => fleet.token(`agent-${n}`)))
  const flows = await fleet.token('flows')
  const answers = new Map<string, number>()
  let requests = 0
  let lives = 0

  const ask = async (what: string, request: Request): Promise<Answer | undefined> => {
    requests++
    const answer = await pool.ask(request).catch(() => undefined)
    const key = `${what} ${answer?.status ?? 'lost'}`
    answers.set(key, (answers.get(key) ?? 0) + 1)
    return answer?.status.startsWith('2') ? answer : undefined
  }
  return {
    answers,
    requests: () => requests,
    async live(rest) {
      const n = lives++
      const agent = `agent-${n % AGENTS}`
      const token = tokens[n % AGENTS] ?? ''
      const isAbandoned = n % ABANDONED === 0
      const opened = await ask('open', { token: flows, path: '/v1/tasks', body: JSON.stringify(taskFor(agent, isAbandoned)) })
      if (!opened) return
      const task = (JSON.parse(opened.body) as { task: { id: string } }).task.id
      const issue = (role: string) => ask('issue', { token, path: '/v1/leases', body: JSON.stringify({ task, role }) })
      const issued = [await issue(ROLES[0]), await issue(ROLES[0]), await issue(ROLES[1])]
      const [first, second] = issued.map((answer) => answer && (JSON.parse(answer.body) as { lease: { id: string } }).lease.id)
      for (const target of ['monday', 'tuesday']) {
        const call = { tool: TOOLS[0], action: 'read', target: `reports/${n}/${target}` }
        await ask('call', { token, path: `/v1/tasks/${task}/tool-calls`, body: JSON.stringify(call) })
      }
      await new Promise((resolve) => setTimeout(resolve, rest))
      if (first) await ask('renew', { token: await fleet.token(agent), path: `/v1/leases/${first}/renew`, body: '{}' })
      if (second) await ask('release', { token, path: `/v1/leases/${second}`, method: 'DELETE', body: '' })
      if (!isAbandoned) await ask('complete', { token: flows, path: `/v1/tasks/${task}/complete`, body: '{}' })
    },
  }
}

function taskFor(agent: string, isAbandoned: boolean) {
  return {
    intent: 'data-report',
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: [{ agent }],
    envelope: ROLES.map((role) => ({ role })),
    tools: TOOLS.map((tool) => ({ tool })),
    deadline_at: new Date(Date.now() + (isAbandoned ? DEADLINE_MS : 3_600_000)).toISOString(),
  }
}
