import { Command } from 'commander'
import type { Mayfly } from '../client/index.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { collect, seconds } from './parse.js'
import { EXIT, type Shell } from './shell.js'
import { json, line, table, until } from './text.js'

type Options = ConnectOptions & {
  readonly provider?: readonly string[]
  readonly revoke?: boolean
  readonly wait: boolean
  readonly deadline?: number
}
type Provider = Awaited<ReturnType<Mayfly['operator']['reconcile']>>['providers'][number]

/** `mayfly reconcile`: whether anything lives upstream that nothing here tells of. */
export function reconcile(shell: Shell): Command {
  return withConnection(new Command('reconcile'))
    .description('hold what exists upstream against the ledger: credentials that nothing tells of, and leases whose credential is gone (operators)')
    .option('--provider <name>', 'of this provider alone; may be given several times', collect)
    .option('--revoke', 'take back what nothing tells of')
    .option('--no-wait', 'one look: what only a second can tell is left for the next time')
    .option('--deadline <time>', 'how long at most', seconds)
    .action(async (options: Options) => {
      const { provider, revoke, wait, deadline } = options
      const ask = { providers: provider && [...provider], revoke: revoke ?? false, wait, deadline }
      const answer = await connect(options, shell).operator.reconcile(ask, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else show(answer.providers, shell)
      shell.exitWith(answer.providers.every(isClean) ? EXIT.done : EXIT.failed)
    })
}

function show(providers: readonly Provider[], shell: Shell): void {
  const rows = providers.map((one) => {
    const revoked = one.orphans.filter(({ outcome }) => outcome === 'revoked').length
    const notListable = one.outcome === 'not-listable'
    const most = one.usable_until === undefined ? 'it cannot be listed' : `it cannot be listed: usable for at most ${until(one.usable_until)}`
    const counts = notListable ? ['', '', '', '', ''] : [one.listed, one.known, one.orphans_total, revoked, one.missing_total]
    const held = one.held ? 'more orphans than are revoked without an operator' : undefined
    const later = one.seen.length > 0 ? `${one.seen.length} to be looked at again` : undefined
    return [one.provider, one.outcome, ...counts, notListable ? most : (one.error ?? held ?? later)]
  })
  table(shell.stdout, ['provider', 'outcome', 'upstream', 'known', 'orphans', 'revoked', 'missing', 'detail'], rows)
  for (const one of providers) {
    for (const { lease, outcome } of one.orphans) if (outcome !== 'revoked') line(shell.stdout, `${one.provider}: orphan ${lease}: ${outcome}`)
    for (const lease of one.missing ?? []) line(shell.stdout, `${one.provider}: ${lease} is active, and its credential is gone`)
    for (const name of one.foreign) line(shell.stdout, `${one.provider}: ${name} is named like a lease, and can be none of this ledger`)
  }
}

function isClean({ outcome, orphans_total, orphans, seen, missing_total, foreign }: Provider): boolean {
  if (outcome === 'not-listable') return true
  const revoked = orphans.filter((one) => one.outcome === 'revoked').length
  return outcome === 'done' && revoked === orphans_total && seen.length === 0 && (missing_total ?? 0) === 0 && foreign.length === 0
}
