import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Decision } from '../types.js'
import { requestOf, written } from './case.js'
import type { Policy } from './policy.js'

/** Folders of cases: their name is the outcome that each case in them expects. */
const OUTCOMES = ['allow', 'deny', 'step-up'] as const
export interface CaseResult {
  /** `deny/freeze-by-agent.json` */
  readonly file: string
  readonly passed: boolean
  /** What was expected and what came, where they differ; what is wrong with the file, where it cannot be read. */
  readonly problem?: string
  readonly decision?: Decision
}

/** Only these are compared, and only those that are there. */
const expected = z
  .strictObject({
    policies: z.array(z.string()).optional(),
    reasons: z.array(z.string()).optional(),
    max_ttl: z.int().nullable().optional(),
    max_live: z.int().nullable().optional(),
    step_up: z.array(z.strictObject({ group: z.string(), approvals: z.int() })).optional(),
  })
  .prefault({})
const ask = written({ about: z.string().min(1), expect: expected })

/**
 * Asks the policy every case below `folder`: `allow/*.json`, `deny/*.json`, `step-up/*.json`, in this order and by name. What a case leaves
 * out has its most restrictive value.
 */
export async function runCases(policy: Policy, folder: string): Promise<CaseResult[]> {
  const results: CaseResult[] = []
  const folders = await readdir(folder)
  for (const outcome of OUTCOMES.filter((one) => folders.includes(one))) {
    for (const name of (await readdir(join(folder, outcome))).filter((one) => one.endsWith('.json')).sort()) {
      const file = `${outcome}/${name}`
      const read = ask.safeParse(json(await readFile(join(folder, file), 'utf8')))
      if (!read.success) results.push({ file, passed: false, problem: z.prettifyError(read.error) })
      else results.push(compare(file, outcome, read.data.expect, await policy.decide(requestOf(read.data))))
    }
  }
  return results
}

/** What isn't JSON is no case either. */
function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function compare(file: string, outcome: Decision['outcome'], expect: z.infer<typeof expected>, decision: Decision): CaseResult {
  const pairs: [string, unknown, unknown][] = [
    ['outcome', outcome, decision.outcome],
    ['error', undefined, decision.error],
    ['policies', expect.policies, decision.policies],
    ['reasons', expect.reasons, decision.reasons],
    ['max_ttl', expect.max_ttl, decision.maxTtlSeconds ?? null],
    ['max_live', expect.max_live, decision.maxLive ?? null],
    ['step_up', expect.step_up, decision.stepUp ?? []],
  ]
  const differ = pairs.filter(([what, wanted, got]) => {
    return (wanted !== undefined || what === 'error') && JSON.stringify(wanted) !== JSON.stringify(got)
  })
  if (differ.length === 0) return { file, passed: true, decision }
  const problem = differ.map(([what, wanted, got]) => `${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`).join('; ')
  return { file, passed: false, problem: `${problem} (decided by ${decision.policies.join(', ') || 'no policy'})`, decision }
}
