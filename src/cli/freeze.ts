import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { inWords, type SelectorOptions, selectorOf, withSelector } from './selector.js'
import { EXIT, type Shell, UsageError } from './shell.js'
import { json, line, table } from './text.js'

type FreezeOptions = ConnectOptions & SelectorOptions & { readonly reason?: string }

/** `mayfly freeze`: the durable blocks on issuing; with a selector, sets one. */
export function freeze(shell: Shell): Command {
  return withSelector(withConnection(new Command('freeze')))
    .description('list the freezes, or freeze what is named: nothing more is issued to it (operators)')
    .option('--reason <text>', 'why; required to freeze')
    .action(async (options: FreezeOptions) => {
      const selector = selectorOf(options)
      if (selector === undefined) return list(options, shell)
      if (options.reason === undefined) throw new UsageError('say why: --reason')
      const answer = await connect(options, shell).operator.freeze({ selector, reason: options.reason }, { signal: shell.signal })
      const { holding, unreachable, replicated } = answer.partitions
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else
        line(
          shell.stdout,
          `${answer.freeze.id} freezes ${inWords(answer.freeze.selector)}; holds in ${holding} of ${holding + unreachable} partitions${replicated === false ? ', and not yet with the replicas' : ''}`,
        )
      // Half a freeze is not what was asked for.
      if (unreachable > 0) shell.exitWith(EXIT.failed)
    })
}

async function list(options: FreezeOptions, shell: Shell): Promise<void> {
  if (options.reason !== undefined) throw new UsageError('freeze what? name it (--agent, --role, …) or give --all')
  const freezes = await connect(options, shell).operator.freezes({ signal: shell.signal })
  if (wantsJson(options, shell)) return json(shell.stdout, { freezes })
  if (freezes.length === 0) return line(shell.stdout, 'nothing is frozen')
  const rows = freezes.map(({ id, selector, by, at, reason, partitions }) => [id, inWords(selector), by, at, inPartitions(partitions), reason])
  table(shell.stdout, ['freeze', 'of', 'by', 'at', 'holds in', 'reason'], rows)
}

function inPartitions({ holding, unreachable }: { holding: number; unreachable: number }): string {
  return unreachable === 0 ? 'all partitions' : `${holding} of ${holding + unreachable} partitions`
}
