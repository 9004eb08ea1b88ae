import type { Config } from '../config.js'
import { openPolicy, PolicyProblems } from '../policy/index.js'
import { type Finding, messageOf } from './finding.js'

export async function policyFindings({ policy }: Config): Promise<Finding[]> {
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
