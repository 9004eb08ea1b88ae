import { stat } from 'node:fs/promises'
import { EXIT, type Shell, UsageError } from '../cli/index.js'
import { json, line, table } from '../cli/text.js'
import { type CaseResult, runCases, unbound } from '../policy/index.js'
import { cedarOnly, configured, opened } from './read.js'

export interface TestOptions {
  readonly config: string
  readonly observed?: boolean
  readonly json?: boolean
}

/** `mayfly policy test`: cases as data, each asked of the policies: of files, or of an OPA that runs. */
export async function test(folder: string, options: TestOptions, shell: Shell): Promise<void> {
  const found = await stat(folder).catch(() => undefined)
  if (!found?.isDirectory()) throw new UsageError(`there is no folder ${folder}`)
  const policies = await configured(options.config, shell.env)
  const observed = () => unbound(cedarOnly(policies, 'load the new ones there under a path of their own, and name that path'))
  const policy = await opened(options.observed ? observed() : policies)
  try {
    const results = await runCases(policy, folder)
    const failed = results.filter(({ passed }) => !passed)
    // Cases that nobody finds would pass for ever.
    if (results.length === 0) throw new UsageError(`there are no cases in ${folder}: they are in its folders allow, deny and step-up, as *.json`)
    if (failed.length > 0) shell.exitWith(EXIT.failed)
    if (options.json) return json(shell.stdout, { ok: failed.length === 0, passed: results.length - failed.length, failed: failed.map(viewOf) })
    if (failed.length > 0) table(shell.stdout, ['case', 'what is wrong', 'policies', 'reasons'], failed.map(rowOf))
    line(shell.stdout, `${results.length - failed.length} of ${results.length} cases are decided as their folders say`)
  } finally {
    policy.close()
  }
}

function rowOf({ file, problem, decision }: CaseResult): string[] {
  return [file, problem ?? '', decision?.policies.join(' ') ?? '', decision?.reasons.join('; ') ?? '']
}

function viewOf({ file, problem, decision }: CaseResult): object {
  return { case: file, problem, outcome: decision?.outcome, policies: decision?.policies, reasons: decision?.reasons, error: decision?.error }
}
