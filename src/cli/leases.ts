import { Command, Option } from 'commander'
import type { Lease, LeasesQuery } from '../api.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { type Out, type Shell, UsageError } from './shell.js'
import { json, line, table, until } from './text.js'

const STATES = ['pending', 'active', 'closing', 'revoked', 'expired']
const PAGE = 500

interface LeasesOptions extends ConnectOptions, Pick<LeasesQuery, 'task' | 'agent' | 'role' | 'provider' | 'state'> {
  readonly limit: string
}

/** `mayfly leases`: who holds what. */
export function leases(shell: Shell): Command {
  return withConnection(new Command('leases'))
    .description('list leases (operators)')
    .option('--task <id>')
    .option('--agent <id>')
    .option('--role <name>')
    .option('--provider <name>')
    .addOption(new Option('--state <state>').choices(STATES))
    .option('--limit <n>', 'at most this many', '100')
    .action(async (options: LeasesOptions) => {
      const limit = Number(options.limit)
      if (!Number.isInteger(limit) || limit < 1) throw new UsageError('--limit is a whole number of at least 1')
      const { found, more } = await list(options, limit, shell)
      if (wantsJson(options, shell)) return json(shell.stdout, { leases: found, more })
      if (found.length === 0) return line(shell.stdout, 'no leases')
      leaseTable(shell.stdout, found)
      if (more) line(shell.stderr, `there are more than ${limit}: raise --limit, or narrow the question`)
    })
}

async function list(options: LeasesOptions, limit: number, shell: Shell): Promise<{ found: Lease[]; more: boolean }> {
  const { operator } = connect(options, shell)
  const { task, agent, role, provider, state } = options
  const found: Lease[] = []
  let cursor: string | undefined
  do {
    const query = { task, agent, role, provider, state, cursor, limit: Math.min(PAGE, limit - found.length) }
    const page = await operator.leases(query, { signal: shell.signal })
    found.push(...page.leases)
    cursor = page.next_cursor
  } while (cursor !== undefined && found.length < limit)
  return { found, more: cursor !== undefined }
}

export function leaseTable(out: Out, leases: readonly Lease[]): void {
  const rows = leases.map((lease) => [lease.id, lease.state, lease.agent, lease.role, lease.provider, until(lease.expires_at), noteOf(lease)])
  table(out, ['lease', 'state', 'agent', 'role', 'provider', 'expires', ''], rows)
}

/** What may still be usable is said so. */
function noteOf({ cause, last_error, revocation, state }: Lease): string {
  if (last_error !== undefined) return `${cause ?? ''} (${last_error})`
  if (state === 'closing' && revocation.mode !== 'immediate') return `${cause ?? ''} (usable up to ${revocation.residual_seconds} s)`
  return cause ?? ''
}
