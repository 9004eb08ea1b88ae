import { type Config, ConfigError, loadConfig } from '../config.js'
import { classifierFindings } from './classifier.js'
import type { Finding } from './finding.js'
import { messageOf } from './finding.js'
import { identityFindings } from './identity.js'
import { ledgerFindings } from './ledger.js'
import { limitFindings } from './limits.js'
import { policyFindings } from './policy.js'
import { providerFindings } from './providers.js'

export interface DoctorOptions {
  /** Explains this token: which check fails, and why. It is read, and shown to nobody. */
  readonly tokenFile?: string
}

/** Looks at a configuration and at all that it names, changing nothing. In order of what depends on what; the slow ones at once. */
export async function doctor(path: string, env: Readonly<Record<string, string | undefined>>, { tokenFile }: DoctorOptions = {}): Promise<Finding[]> {
  let config: Config
  try {
    config = await loadConfig(path, env)
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [messageOf(error)]
    const mend = `mend ${path} first, then ask again: config/mayfly.yaml documents every field`
    const last = problems.length - 1
    return problems.map((what, index) => ({ area: 'config', level: 'fail', what, mend: index === last ? mend : undefined }))
  }
  const { roles, providers } = config
  const read: Finding = { area: 'config', level: 'ok', what: `${path}: ${providers.length} providers, ${roles.length} roles` }
  const looked = await Promise.all([
    listenerFindings(config),
    policyFindings(config),
    ledgerFindings(config),
    identityFindings(config, tokenFile),
    classifierFindings(config),
    providerFindings(config),
    limitFindings(config),
  ])
  return [read, ...looked.flat()]
}

function listenerFindings({ listeners }: Config): Finding[] {
  const findings: Finding[] = []
  for (const name of ['public', 'operator'] as const) {
    const listener = listeners[name]
    if (listener === undefined || listener.tls !== undefined || isLoopback(listener.address.host)) continue
    const what = `listeners.${name} is plain HTTP on ${listener.address.host}: tokens and credentials can be read on the way`
    findings.push({ area: 'config', level: 'warn', what, mend: 'give it tls, or make sure that a mesh encrypts what reaches it' })
  }
  if (listeners.operator === undefined) {
    const what = 'operators share the public listener: a flood of requests is in their way too'
    findings.push({ area: 'config', level: 'warn', what, mend: 'give listeners.operator an address of its own' })
  }
  return findings
}

function isLoopback(host: string): boolean {
  return host === '::1' || host === 'localhost' || host.startsWith('127.')
}
