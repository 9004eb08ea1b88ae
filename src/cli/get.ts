import { Command, Option } from 'commander'
import { type ConnectOptions, connect, withConnection } from './connect.js'
import { FORMATS, type Format, formatted } from './formats.js'
import { pairs, seconds } from './parse.js'
import type { Shell } from './shell.js'
import { humanToken } from './token.js'

interface GetOptions extends ConnectOptions {
  readonly task: string
  readonly role: string
  readonly ttl?: number
  readonly scope?: Record<string, string | string[]>
  readonly reason?: string
  readonly approval?: string
  readonly onBehalfOfFile?: string
  readonly wait?: number
  readonly format: Format
}

/** `mayfly get`: one credential, in the shape of the tool that uses it. The secret goes to stdout and nowhere else. */
export function get(shell: Shell): Command {
  return withConnection(new Command('get'))
    .description('obtain one credential for a task')
    .requiredOption('--task <id>', 'what it is for')
    .requiredOption('--role <name>', 'what is needed')
    .option('--ttl <duration>', 'how long (seconds, or 15m); the broker may give less', seconds)
    .option('--scope <key=value>', "narrows the role's scope; may be repeated", pairs)
    .option('--reason <text>', 'for the record, and for the human who has to agree')
    .option('--on-behalf-of-file <file>', 'a token of the human on whose behalf; read anew for each request')
    .option('--approval <id>', 'a granted approval of this very request')
    .option('--wait <duration>', 'how long humans have to agree, where policy asks for one', seconds)
    .addOption(new Option('--format <format>', 'json, env (for eval), aws (credential_process) or pgpass').choices(FORMATS).default('json'))
    .action(async (options: GetOptions) => {
      const { task, role, ttl, scope, reason, approval, onBehalfOfFile, wait, format } = options
      const mayfly = connect(options, shell)
      const behalf = { onBehalfOf: humanToken(onBehalfOfFile), wait, signal: shell.signal }
      const answer = await mayfly.leases.obtain({ task, role, ttl, scope, reason, approval }, behalf)
      const text = await releaseOnThrow(
        () => formatted(format, answer),
        () => mayfly.leases.release(answer.lease.id),
      )
      shell.stdout.write(`${text}\n`)
    })
}

/** A credential that cannot be printed is of no use to anybody. */
async function releaseOnThrow<T>(work: () => T, release: () => Promise<unknown>): Promise<T> {
  try {
    return work()
  } catch (error) {
    await release().catch(() => {})
    throw error
  }
}
