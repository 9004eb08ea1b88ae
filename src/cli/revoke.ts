import { setTimeout as pause } from 'node:timers/promises'
import { Command } from 'commander'
import type { Mayfly } from '../client/index.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { inWords, type SelectorOptions, selectorOf, withSelector } from './selector.js'
import { CommandError, EXIT, type ExitCode, type Shell, UsageError } from './shell.js'
import { json, line, plain, table, until } from './text.js'

type RevokeOptions = ConnectOptions &
  SelectorOptions & { readonly reason: string; readonly dryRun?: boolean; readonly freeze: boolean; readonly wait?: boolean; readonly yes?: boolean }
type Revocation = Awaited<ReturnType<Mayfly['operator']['revocation']>>

const POLL_MS = 500

/** `mayfly revoke`: the stop. */
export function revoke(shell: Shell): Command {
  return withSelector(withConnection(new Command('revoke')))
    .description('emergency: freeze what is named and revoke all that is live of it (operators)')
    .requiredOption('--reason <text>', 'why')
    .option('--dry-run', 'only count what it would revoke')
    .option('--no-freeze', 'revoke, but let new credentials be issued')
    .option('--wait', 'until every lease is settled')
    .option('--yes', 'ask nothing')
    .action(async (options: RevokeOptions) => {
      const selector = selectorOf(options)
      if (selector === undefined) throw new UsageError('revoke what? name it (--agent, --task, …) or give --all')
      const { operator } = connect(options, shell)
      const { reason, freeze } = options
      if (options.dryRun) return dryRun(await operator.dryRun({ selector, reason }, { signal: shell.signal }), options, shell)
      if (options.all && !options.yes) await confirm(shell)
      const answer = await operator.emergencyRevoke({ selector, reason, freeze }, { signal: shell.signal })
      const { revocation, freeze: frozen } = answer
      const what = inWords(revocation.selector)
      if (frozen && frozen.partitions.unreachable > 0) line(shell.stderr, `the freeze does not hold in ${frozen.partitions.unreachable} partitions`)
      line(shell.stderr, `${revocation.id}: revoking ${what}${frozen ? `, frozen by ${frozen.id} until mayfly thaw ${frozen.id}` : ''}`)
      const last = options.wait ? await follow(operator, revocation, shell) : revocation
      if (wantsJson(options, shell)) json(shell.stdout, { ...answer, revocation: last })
      else line(shell.stdout, inNumbers(last))
      shell.exitWith(exitOf(last, frozen?.partitions.unreachable ?? 0))
    })
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

/** The broker goes on by itself; whoever stops looking stops nothing. */
async function follow(operator: Mayfly['operator'], first: Revocation, shell: Shell): Promise<Revocation> {
  for (let seen = first; ; seen = await operator.revocation(first.id, { signal: shell.signal })) {
    if (shell.stderr.isTerminal) shell.stderr.write(`\r\u001b[2K${plain(inNumbers(seen))}`)
    if (seen.state === 'finished') {
      if (shell.stderr.isTerminal) shell.stderr.write('\r\u001b[2K')
      return seen
    }
    await pause(POLL_MS, undefined, { signal: shell.signal })
  }
}

function inNumbers({ state, matched, revoked, expired, pending, failed, residual_until }: Revocation): string {
  const residual = pending > 0 && residual_until !== undefined ? `, usable for at most ${until(residual_until)}` : ''
  const failing = failed > 0 ? ` (${failed} failed at their last attempt and are tried again)` : ''
  return `${state}: ${matched} matched, ${revoked} revoked, ${expired} expired, ${pending} pending${failing}${residual}`
}

function exitOf({ state, pending }: Revocation, unreachable: number): ExitCode {
  return unreachable > 0 || (state === 'finished' && pending > 0) ? EXIT.failed : EXIT.done
}
