import type { Config } from '../config.js'
import { openChannel } from '../identity/channel.js'
import { isOpa, type OpaOptions, openEngine, openPolicy, PolicyProblems, probe } from '../policy/index.js'
import { type Finding, messageOf } from './finding.js'

export async function policyFindings({ policy }: Config): Promise<Finding[]> {
  if (isOpa(policy)) return opaFindings(policy)
  try {
    const opened = await openPolicy(policy)
    opened.close()
    return [{ area: 'policy', level: 'ok', what: `${policy.files.length} files, version ${opened.version}` }]
  } catch (error) {
    const mend = 'until it is mended nothing is decided, so nothing is issued'
    if (!(error instanceof PolicyProblems)) return [{ area: 'policy', level: 'fail', what: messageOf(error), mend }]
    return error.problems.map(({ path, message }) => ({ area: 'policy', level: 'fail', what: `${path}: ${message}`, mend }))
  }
}

/** Asked once about each action: an OPA that is away, or answers something else, is found before agents find it. */
async function opaFindings(options: OpaOptions): Promise<Finding[]> {
  const where = `${options.url}, ${options.path}`
  const mend = 'until it answers nothing is decided, so nothing is issued: docs/opa.md has the decision document'
  try {
    const policy = await openEngine(options, { open: openChannel })
    try {
      const problems = await probe(policy)
      if (problems.length > 0)
        return problems.map(({ path, message }) => ({ area: 'policy', level: 'fail', what: `${path}: ${message} (${where})`, mend }))
      return [{ area: 'policy', level: 'ok', what: `OPA at ${where} decides every action, version ${policy.version}` }]
    } finally {
      policy.close()
    }
  } catch (error) {
    return [{ area: 'policy', level: 'fail', what: `policies.url: ${messageOf(error)}`, mend }]
  }
}
