import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { inWords } from './selector.js'
import type { Shell } from './shell.js'
import { json, line } from './text.js'

/** `mayfly thaw`: takes one freeze back. */
export function thaw(shell: Shell): Command {
  return withConnection(new Command('thaw'))
    .description('take a freeze back (operators)')
    .argument('<freeze>', 'its id, from mayfly freeze')
    .requiredOption('--reason <text>', 'why')
    .action(async (id: string, options: ConnectOptions & { reason: string }) => {
      const thawed = await connect(options, shell).operator.thaw(id, { reason: options.reason }, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, { freeze: thawed })
      else line(shell.stdout, `${thawed.id} is thawed: ${inWords(thawed.selector)}`)
    })
}
