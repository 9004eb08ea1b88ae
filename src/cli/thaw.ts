import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { inWords } from './selector.js'
import { EXIT, type Shell } from './shell.js'
import { json, line, until } from './text.js'

/** `mayfly thaw`: takes one freeze back. */
export function thaw(shell: Shell): Command {
  return withConnection(new Command('thaw'))
    .description('take a freeze back (operators)')
    .argument('<freeze>', 'its id, from mayfly freeze')
    .requiredOption('--reason <text>', 'why')
    .action(async (id: string, options: ConnectOptions & { reason: string }) => {
      const answer = await connect(options, shell).operator.thaw(id, { reason: options.reason }, { signal: shell.signal })
      const { freeze, asked } = answer
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else if (!asked) line(shell.stdout, `${freeze.id} is thawed: ${inWords(freeze.selector)}`)
      if (!asked) return
      const needed = asked.needs.map(({ group, approvals, given }) => `${approvals - given} more of ${group}`).join(', ')
      line(shell.stderr, `${freeze.id} is frozen still: ${needed} must say mayfly thaw ${freeze.id} too, within ${until(asked.expires_at)}`)
      shell.exitWith(EXIT.approvalPending)
    })
}
