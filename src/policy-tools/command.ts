import { Command, InvalidArgumentError } from 'commander'
import { withConnection } from '../cli/connect.js'
import type { Shell } from '../cli/index.js'
import { seconds } from '../cli/parse.js'
import type { CheckOptions } from './check.js'
import type { SimulateOptions } from './simulate.js'
import type { TestOptions } from './test.js'

const LIMIT = 10_000

/** `mayfly policy`. What reads policies is imported when it is asked for. */
export function policyCommand(shell: Shell): Command {
  const check = new Command('check')
    .description('what a broker would say of policies when it loads them: file, line, what is wrong')
    .argument('[paths...]', 'files, or folders of *.cedar; absent: those of the configuration')
    .option('--config <file>', 'mayfly.yaml; no secret of it is needed')
    .option('--schema <file>', 'instead: the schema alone; what ids policies name is not checked then')
    .option('--json', 'print JSON')
    .action(async (paths: string[], options: CheckOptions) => (await import('./check.js')).check(paths, options, shell))

  const test = new Command('test')
    .description('ask the policies each case below a folder: allow/*.json, deny/*.json, step-up/*.json')
    .argument('<folder>')
    .requiredOption('--config <file>', 'mayfly.yaml; no secret of it is needed')
    .option('--observed', 'as if what is only observed were binding')
    .option('--json', 'print JSON')
    .action(async (folder: string, options: TestOptions) => (await import('./test.js')).test(folder, options, shell))

  const simulate = withConnection(new Command('simulate'))
    .description('what other policies would change: for recorded requests, or for one; here with --config, else on the broker (operators)')
    .option('--candidate <paths...>', 'files, or folders of *.cedar, in place of every policy file; absent: what is only observed, beside the rest')
    .option('--config <file>', 'mayfly.yaml; no secret of it is needed')
    .option('--events <files...>', 'audit logs (events.jsonl) with the requests; with --config')
    .option('--request <file>', 'one request instead, or a list of them, as cases are written')
    .option('--since <time>', 'of recorded requests: 2030-01-31T12:00:00Z', time)
    .option('--limit <n>', 'the last so many recorded requests', count, LIMIT)
    .option('--timeout <duration>', 'to ask them in; with --config', seconds, 60)
    .addHelpText('after', '\nChanges nothing. Each example in its JSON holds its request, which can be kept as a case of mayfly policy test.')
    .action(async (options: SimulateOptions) => (await import('./simulate.js')).simulate(options, shell))

  return new Command('policy')
    .description('policies: check them, test them, see what a change would do')
    .addCommand(check)
    .addCommand(test)
    .addCommand(simulate)
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('give a whole number of at least 1')
  return value
}

function time(text: string): string {
  const at = Date.parse(text)
  if (!/^\d{4}-/.test(text) || Number.isNaN(at)) throw new InvalidArgumentError('give a time: 2030-01-31T12:00:00Z')
  return new Date(at).toISOString()
}
