import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import type { Shell } from './shell.js'
import { json, line, table, until } from './text.js'

/** `mayfly whoami`: who the broker thinks the caller is. */
export function whoami(shell: Shell): Command {
  return withConnection(new Command('whoami'))
    .description('who the broker thinks you are')
    .option('--task <id>', 'and what you could obtain for it, or what stands in the way')
    .action(async (options: ConnectOptions & { task?: string }) => {
      const answer = await connect(options, shell).whoami({ task: options.task, signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      const { kind, id, instance, issuer, groups = [], token_expires_at } = answer.principal
      const more = [instance === undefined ? '' : ` (${instance})`, groups.length === 0 ? '' : `, groups ${groups.join(' ')}`].join('')
      line(shell.stdout, `${kind} ${id}${more}, by issuer ${issuer}; the token is good for ${until(token_expires_at)}`)
      if (answer.task && answer.task.state !== 'active') line(shell.stdout, `task ${answer.task.id} is ${answer.task.state}`)
      const rows = answer.obtainable?.map(({ role, decision, ttl, policies, reasons, next }) => {
        return [role, decision, ttl === undefined ? '' : `${ttl}s`, policies.join(' '), reasons.join('; '), next]
      })
      if (rows) table(shell.stdout, ['role', 'decision', 'ttl', 'policies', 'reasons', 'next'], rows)
    })
}
