import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import type { Config } from '../config.js'
import { MayflyError } from '../errors.js'
import { checkMeta } from '../ledger/meta.js'
import { connectNodes } from '../ledger/nodes.js'
import { check, refuseUnfit } from '../ledger/preflight.js'
import { type Finding, messageOf } from './finding.js'

export async function ledgerFindings({ ledger, instance, dataDir }: Config): Promise<Finding[]> {
  if ('embedded' in ledger.redis) return embeddedFindings(dataDir)
  const { partitions, durability } = ledger
  try {
    const nodes = await connectNodes(ledger.redis, partitions, () => {})
    try {
      await refuseUnfit(nodes)
      const { problems } = await check(nodes, ledger)
      const findings = problems.map(({ problem, mend }): Finding => ({ area: 'ledger', level: 'warn', what: problem, mend }))
      const ill = await checkMeta(nodes.meta().redis, { instance, partitions }).then(() => [], failures)
      if (ill.length + findings.length > 0) return [...ill, ...findings]
      return [{ area: 'ledger', level: 'ok', what: `Redis is fit for a ledger, durability ${durability}` }]
    } finally {
      await nodes.disconnect()
    }
  } catch (error) {
    return failures(error)
  }
}

function failures(error: unknown): Finding[] {
  const { next, internal } = error instanceof MayflyError ? error.details : {}
  const what = internal === undefined ? messageOf(error) : `${messageOf(error)} (${internal})`
  return [{ area: 'ledger', level: 'fail', what, mend: next }]
}

/** It is started with the broker; here it is only asked whether it could be. */
async function embeddedFindings(dataDir: string): Promise<Finding[]> {
  const mode = constants.R_OK | constants.W_OK | constants.X_OK
  const usable = await access(dataDir, mode).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  )
  if (!usable)
    return [{ area: 'ledger', level: 'fail', what: `the data folder ${dataDir} cannot be written`, mend: 'give it to the user that runs the broker' }]
  const what = `an embedded Redis in ${dataDir}: one broker only`
  return [{ area: 'ledger', level: 'warn', what, mend: 'for more than one, or to survive the loss of this machine, give ledger.redis an URL' }]
}
