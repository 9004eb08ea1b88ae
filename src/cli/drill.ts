import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { EXIT, type Shell } from './shell.js'
import { json, table } from './text.js'

/** `mayfly drill`: whether credentials die as they should, and how soon. */
export function drill(shell: Shell): Command {
  return withConnection(new Command('drill'))
    .description('mint a credential, end its task and see how soon the upstream refuses it (operators)')
    .option('--provider <name>', 'the drills of this provider alone')
    .option('--role <name>', 'the drill of this role alone')
    .action(async (options: ConnectOptions & { provider?: string; role?: string }) => {
      const { provider, role } = options
      const drills = await connect(options, shell).operator.drill({ provider, role }, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, { drills })
      else {
        const ms = (value: number | undefined) => (value === undefined ? '' : `${value} ms`)
        const rows = drills.map((one) => [
          one.provider,
          one.role,
          one.outcome,
          one.probed ? 'yes' : 'no',
          ms(one.confirmed_ms),
          ms(one.dead_ms),
          one.detail,
        ])
        table(shell.stdout, ['provider', 'role', 'outcome', 'upstream asked', 'confirmed after', 'dead after', 'detail'], rows)
      }
      shell.exitWith(drills.every(({ outcome }) => outcome === 'dead' || outcome === 'expires') ? EXIT.done : EXIT.failed)
    })
}
