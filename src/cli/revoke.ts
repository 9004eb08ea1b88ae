import { Command, Option } from 'commander'
import type { Mayfly } from '../client/index.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { exitOf, follow, inNumbers, type Revocation } from './revocation.js'
import { fetchReport, isRevocation } from './revocation-report.js'
import { inWords, type SelectorOptions, selectorOf, withSelector } from './selector.js'
import { CommandError, type Shell, UsageError } from './shell.js'
import { json, line, table, until } from './text.js'

type RevokeOptions = ConnectOptions &
  SelectorOptions & {
    readonly reason?: string
    readonly dryRun?: boolean
    readonly freeze: boolean
    readonly wait?: boolean
    readonly yes?: boolean
    readonly verify: 'none' | 'sample' | 'all'
    readonly follow?: string
    readonly report?: string
  }

/** `mayfly revoke`: the stop. */
export function revoke(shell: Shell): Command {
  return withSelector(withConnection(new Command('revoke')))
    .description('emergency: freeze what is named and revoke all that is live of it (operators)')
    .option('--reason <text>', 'why; required to revoke')
    .option('--dry-run', 'only count what it would revoke')
    .option('--no-freeze', 'revoke, but let new credentials be issued')
    .addOption(new Option('--verify <whose>', 'ask upstreams whether it is dead').choices(['none', 'sample', 'all']).default('sample'))
    .option('--wait', 'until every lease is settled')
    .option('--follow <revocation>', 'only watch this one, until every lease is settled')
    .option('--report <revocation or file>', 'of that one, what became of every lease; with --wait or --follow, the file to write it to')
    .option('--yes', 'ask nothing')
    .action(async (options: RevokeOptions) => {
      const { operator } = connect(options, shell)
      const selector = selectorOf(options)
      const waits = options.wait || options.follow !== undefined
      if (options.follow !== undefined || (options.report !== undefined && !waits)) {
        if (selector !== undefined) throw new UsageError('--follow and --report are about a revocation that is under way: name nothing else')
        if (options.follow !== undefined) return watch(operator, options.follow, options, shell)
        if (!isRevocation(options.report ?? '')) throw new UsageError('--report which? give the id of a revocation, or --wait with a file')
        return fetchReport(operator, options.report ?? '', undefined, shell)
      }
      if (selector === undefined) throw new UsageError('revoke what? name it (--agent, --task, …) or give --all')
      const { reason, freeze, verify } = options
      if (reason === undefined) throw new UsageError('say why: --reason')
      if (options.dryRun) return dryRun(await operator.dryRun({ selector, reason }, { signal: shell.signal }), options, shell)
      if (options.all && !options.yes) await confirm(shell)
      const answer = await operator.emergencyRevoke({ selector, reason, freeze, verify }, { signal: shell.signal })
      const { revocation, freeze: frozen } = answer
      const what = inWords(revocation.selector)
      if (frozen && frozen.partitions.unreachable > 0) line(shell.stderr, `the freeze does not hold in ${frozen.partitions.unreachable} partitions`)
      line(shell.stderr, `${revocation.id}: revoking ${what}${frozen ? `, frozen by ${frozen.id} until mayfly thaw ${frozen.id}` : ''}`)
      const last = options.wait ? await follow(operator, revocation.id, shell) : revocation
      if (wantsJson(options, shell)) json(shell.stdout, { ...answer, revocation: last })
      else line(shell.stdout, inNumbers(last))
      shell.exitWith(exitOf(last, frozen?.partitions.unreachable ?? 0))
      if (options.report !== undefined) await fetchReport(operator, last.id, options.report, shell)
    })
}

async function watch(operator: Mayfly['operator'], id: string, options: RevokeOptions, shell: Shell): Promise<void> {
  const last: Revocation = await follow(operator, id, shell)
  if (wantsJson(options, shell)) json(shell.stdout, { revocation: last })
  else line(shell.stdout, inNumbers(last))
  shell.exitWith(exitOf(last, 0))
  if (options.report !== undefined) await fetchReport(operator, id, options.report, shell)
}

function dryRun(answer: Awaited<ReturnType<Mayfly['operator']['dryRun']>>, options: RevokeOptions, shell: Shell): void {
  if (wantsJson(options, shell)) {
    json(shell.stdout, answer)
    return
  }
  line(shell.stdout, `would revoke ${answer.matched}`)
  const rows = answer.providers.map(({ provider, live, revocation, residual_until }) => [
    provider,
    live,
    revocation,
    residual_until === undefined ? '' : until(residual_until),
  ])
  if (rows.length > 0) table(shell.stdout, ['provider', 'live', 'revocation', 'usable at most'], rows)
}

async function confirm(shell: Shell): Promise<void> {
  if (!shell.interactive) return
  const answer = await shell.ask('This revokes every live credential of every agent. Type "revoke all" to go on: ')
  if (answer.trim() !== 'revoke all') throw new CommandError('aborted', 'nothing was revoked')
}
