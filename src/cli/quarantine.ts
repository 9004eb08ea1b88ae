import { Command } from 'commander'
import type { Mayfly } from '../client/index.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { EXIT, type Shell } from './shell.js'
import { json, line, table } from './text.js'

type Quarantine = Awaited<ReturnType<Mayfly['operator']['quarantine']>>

const REASONS = {
  behind: 'Redis went backwards: it was emptied, an older copy was restored, or a failover lost what was acknowledged',
  lost: 'the ledger was lost, and made anew',
  another: 'this is not the ledger that brokers remember: it was made anew, or is at another address',
} as const

/** `mayfly quarantine`: what a Redis that went backwards has forgotten; and the word to go on. */
export function quarantine(shell: Shell): Command {
  const lift = withConnection(new Command('lift'))
    .description('let issuing go on (operators)')
    .requiredOption('--reason <text>', 'why')
    .action(async (options: ConnectOptions & { reason: string }) => {
      const lifted = await connect(options, shell).operator.liftQuarantine({ reason: options.reason }, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, { quarantine: lifted })
      else line(shell.stdout, `lifted; what the ledger does not know is found by mayfly reconcile`)
    })
  return withConnection(new Command('quarantine'))
    .description('whether Redis went backwards, what it has forgotten and what was done again; exit 1 while nothing is issued (operators)')
    .action(async (options: ConnectOptions) => {
      const seen = await connect(options, shell).operator.quarantine({ signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, { quarantine: seen })
      else told(seen, shell)
      shell.exitWith(seen.state === 'quarantined' || seen.state === 'lost' ? EXIT.failed : EXIT.done)
    })
    .addCommand(lift)
}

function told(seen: Quarantine, { stdout }: Shell): void {
  for (const text of linesOf(seen)) line(stdout, text)
  const behind = seen.behind ?? []
  const rows = behind.map(({ partition, found, known }) => [partition, found, known])
  if (rows.length > 0) table(stdout, ['partition', 'found', 'known'], rows)
}

function linesOf(seen: Quarantine): string[] {
  if (seen.state === 'none') return ['no quarantine']
  if (seen.state === 'lost') return ['lost: Redis holds no ledger. Restore it; where there is nothing to restore, mayfly ledger init --after-loss']
  const lines = [`${seen.state} since ${seen.entered_at}: ${seen.reason ? REASONS[seen.reason] : ''}`]
  if (seen.lifted) lines.push(`lifted by ${seen.lifted.by} at ${seen.lifted.at}: ${seen.lifted.reason}`)
  lines.push(seen.since === undefined ? 'all that was told before may be lost' : `what was told from ${seen.since} on may be lost`)
  const logs = seen.logs ?? []
  if (logs.length === 0) lines.push('no broker has read its audit log again yet')
  return [...lines, ...logs.flatMap(linesOfLog)]
}

function linesOfLog({ broker, applied, gaps, unknown }: NonNullable<Quarantine['logs']>[number]): string[] {
  const { ended, frozen, thawed, closed, extended, revocations } = applied
  const tasks = `${ended} ends of tasks, ${frozen} freezes, ${thawed} thaws`
  return [
    `log of ${broker}: done again ${tasks}, ${closed} leases taken back, ${extended} renewals, ${revocations} emergencies`,
    ...gaps.map((gap) => `  may lack something: ${gap}`),
    ...unknown.map(({ provider, leases, until }) => {
      const last = until === undefined ? '' : `, the last of them until ${until}`
      return `  the ledger does not know ${leases} leases of ${provider}${last}`
    }),
  ]
}
