import { Command } from 'commander'
import type { Approval } from '../api.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import type { Shell } from './shell.js'
import { json, line, table, until } from './text.js'

const PAGE = 500

/** `mayfly approvals`: what waits for a human. */
export function approvals(shell: Shell): Command {
  return withConnection(new Command('approvals'))
    .description('list what waits for a human (operators)')
    .action(async (options: ConnectOptions) => {
      const { operator } = connect(options, shell)
      const found: Approval[] = []
      for (let cursor: string | undefined; ; ) {
        const page = await operator.approvals({ limit: PAGE, cursor }, { signal: shell.signal })
        found.push(...page.approvals)
        cursor = page.next_cursor
        if (cursor === undefined) break
      }
      if (wantsJson(options, shell)) return json(shell.stdout, { approvals: found })
      if (found.length === 0) return line(shell.stdout, 'nothing waits for anybody')
      const rows = found.map((one) => [one.id, one.state, one.agent, whatOf(one), neededBy(one), until(one.expires_at), wordsOf(one)])
      table(shell.stdout, ['approval', 'state', 'agent', 'asks for', 'agreed', 'left', 'the agent says (unchecked)'], rows)
    })
}

/** `mayfly approve` */
export function approve(shell: Shell): Command {
  return deciding('approve', 'agree to what an agent asks for (operators)', shell)
}

/** `mayfly deny` */
export function deny(shell: Shell): Command {
  return deciding('deny', 'say no to what an agent asks for: final until the context of its task changes (operators)', shell)
}

function deciding(verb: 'approve' | 'deny', description: string, shell: Shell): Command {
  return withConnection(new Command(verb))
    .description(description)
    .argument('<approval>', 'its id, from mayfly approvals')
    .option('--reason <text>', 'why, for the record')
    .action(async (id: string, options: ConnectOptions & { reason?: string }) => {
      const decided = await connect(options, shell).operator[verb](id, { reason: options.reason }, { signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, { approval: decided })
      line(shell.stdout, `${decided.id} is ${decided.state}: ${decided.agent}, ${whatOf(decided)} (${neededBy(decided)})`)
    })
}

function whatOf({ role, request }: Approval): string {
  const scope = Object.entries(request.scope).map(([key, value]) => `${key}=${[value].flat().join(',')}`)
  return [`${role} (${request.access}, ${request.sensitivity}) for ${request.ttl} s`, ...scope].join(' ')
}

function neededBy({ needs }: Approval): string {
  return needs.map(({ group, given, approvals }) => `${group} ${given}/${approvals}`).join(', ')
}

function wordsOf({ claimed: { intent, reason, tool, destination } }: Approval): string {
  return [reason, intent && `about: ${intent}`, tool && `tool: ${tool}`, destination && `to: ${destination}`].filter(Boolean).join('; ')
}
