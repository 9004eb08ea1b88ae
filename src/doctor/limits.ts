import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config } from '../config.js'
import type { Finding } from './finding.js'

/** Limits that are off or do nothing, and places that must be writable. */
export async function limitFindings(config: Config): Promise<Finding[]> {
  const { limits, roles } = config
  const findings: Finding[] = []
  if (limits.perAgentLive === 0) {
    const what = 'limits.per_agent_live is 0: one agent may hold credentials without end'
    findings.push({ area: 'limits', level: 'warn', what, mend: 'set it to what an agent needs at once' })
  }
  for (const { name, maxTtlSeconds } of roles) {
    if (maxTtlSeconds <= limits.maxTaskSeconds) continue
    const what = `roles.${name}.max_ttl is longer than limits.max_task, so that it is never reached`
    findings.push({ area: 'limits', level: 'warn', what, mend: 'shorten it: it says more than it gives' })
  }
  findings.push(...(await sinkFindings(config)).filter(({ level }) => level !== 'ok'))
  return findings.length > 0 ? findings : [{ area: 'limits', level: 'ok', what: `at most ${limits.perAgentLive} live leases for one agent` }]
}

/** Audit sinks alone: what cannot be recorded is not issued. */
export async function sinkFindings({ sinks }: Pick<Config, 'sinks'>): Promise<Finding[]> {
  const looked = await Promise.all(sinks.map(async ({ name, path }) => ({ name, path, ok: await writable(path) })))
  return looked.map(({ name, path, ok }) => {
    if (ok) return { area: 'limits', level: 'ok', what: `audit.sinks.${name} can be written` }
    const what = `audit.sinks.${name}: nothing can be written below ${path}`
    return { area: 'limits', level: 'fail', what, mend: 'give the broker the right to: what cannot be recorded is not issued for long' }
  })
}

/** The folder, or the nearest one above it that exists: the broker makes the rest. */
async function writable(path: string): Promise<boolean> {
  const found = await access(path, constants.W_OK).then(
    () => 'yes' as const,
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? ('missing' as const) : ('no' as const)),
  )
  return found === 'missing' && dirname(path) !== path ? writable(dirname(path)) : found === 'yes'
}
