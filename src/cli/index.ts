import type { Command } from 'commander'
import { agents } from './agents.js'
import { approvals, approve, deny } from './approvals.js'
import { breakGlass } from './break-glass.js'
import { drill } from './drill.js'
import { freeze } from './freeze.js'
import { get } from './get.js'
import { leases } from './leases.js'
import { login } from './login.js'
import { quarantine } from './quarantine.js'
import { reconcile } from './reconcile.js'
import { revoke } from './revoke.js'
import type { Shell } from './shell.js'
import { task } from './task.js'
import { thaw } from './thaw.js'
import { tool } from './tool.js'
import { whoami } from './whoami.js'

/** Every command that speaks to a broker, or makes what one is spoken to with. A new one is added here, with its row in docs/cli.md. */
export function clientCommands(shell: Shell): Command[] {
  return [
    get,
    task,
    tool,
    leases,
    agents,
    approvals,
    approve,
    deny,
    freeze,
    thaw,
    quarantine,
    revoke,
    drill,
    reconcile,
    breakGlass,
    whoami,
    login,
  ].map((command) => command(shell))
}

export { report } from './report.js'
export { CommandError, EXIT, type ExitCode, type Out, type Shell, UsageError } from './shell.js'
