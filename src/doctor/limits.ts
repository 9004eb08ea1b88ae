import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config } from '../config.js'
import type { Finding } from './finding.js'

/** Limits that are off or do nothing, and places that must be writable. */
export async function limitFindings(config: Config): Promise<Finding[]> {
  const { limits, roles, sinks } = config
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
  for (const { name, path } of sinks) {
    if (await writable(path)) continue
    const what = `audit.sinks.${name}: nothing can be written below ${path}`
    findings.push({ area: 'limits', level: 'fail', what, mend: 'give the broker the right to: what cannot be recorded is not issued for long' })
  }
  return findings.length > 0 ? findings : [{ area: 'limits', level: 'ok', what: `at most ${limits.perAgentLive} live leases for one agent` }]
}

/** The folder, or the nearest one above it that exists: the broker makes the rest. */
async function writable(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    return true
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    return missing && dirname(path) !== path ? writable(dirname(path)) : false
  }
}
