import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { openChannel } from '../../src/identity/channel.js'
import { type CaseResult, openEngine, openPolicy, runCases } from '../../src/policy/index.js'
import type { OpaOptions } from '../../src/policy/opa/options.js'
import type { Policy, PolicyRequest } from '../../src/policy/policy.js'
import type { Decision } from '../../src/types.js'
import { opaBinary, REGO, startOpa, type TestOpa } from '../support/opa.js'
import { likely } from './arbitrary.js'
import { obtain, sample, shipped } from './fixtures.js'

const CASES = import.meta.dirname
const withOpa = opaBinary === undefined ? it.skip : it
const files = ['allow', 'deny', 'step-up'].flatMap((folder) => readdirSync(join(CASES, folder)).map((name) => `${folder}/${name}`))

/** What an engine decides; who said so differs. */
const decided = ({ policyVersion: _, decisionIds: __, readsCounts: ___, ...decision }: Decision) => ({
  ...{ maxTtlSeconds: undefined, maxLive: undefined, stepUp: undefined },
  ...decision,
})

let opa: TestOpa | undefined
let inOpa: Policy
let inCedar: Policy
let byOpa: Map<string, CaseResult>
let byCedar: Map<string, CaseResult>
const byFile = (results: readonly CaseResult[]) => new Map(results.map((one) => [one.file, one]))

beforeAll(async () => {
  inCedar = await openPolicy(shipped)
  byCedar = byFile(await runCases(inCedar, CASES))
  if (opaBinary === undefined) return
  opa = await startOpa([REGO])
  const { vocabulary, known } = sample
  const options: OpaOptions = {
    ...{ engine: 'opa', url: opa.url, path: 'mayfly/decision', timeoutMs: 5_000, watchMs: 60_000, stop: [], concurrency: 8, allowHttpLoopback: true },
    ...{ vocabulary, known },
  }
  inOpa = await openEngine(options, { open: openChannel })
  byOpa = byFile(await runCases(inOpa, CASES))
})
afterAll(async () => {
  inCedar?.close()
  inOpa?.close()
  await opa?.stop()
})

describe('Cedar and a real OPA with the policies that are shipped', () => {
  it.each(files)('Cedar answers %s', (file) => {
    expect(byCedar.get(file)).toMatchObject({ passed: true })
  })

  withOpa.each(files)('OPA answers %s, as Cedar does', (file) => {
    const [opas, cedars] = [byOpa.get(file), byCedar.get(file)]
    expect(opas).toMatchObject({ passed: true })
    if (!opas?.decision || !cedars?.decision) throw new Error('not decided')
    expect(decided(opas.decision)).toEqual(decided(cedars.decision))
  })

  withOpa('decide alike whatever is asked, also on behalf of humans and with consent', async () => {
    const outcomes = new Set<string>()
    await fc.assert(
      fc.asyncProperty(likely, async (request) => {
        const [opas, cedars] = await Promise.all([inOpa.decide(request), inCedar.decide(request)])
        outcomes.add(opas.outcome)
        expect(decided(opas)).toEqual(decided(cedars))
      }),
      { numRuns: 1_500 },
    )
    expect([...outcomes].sort()).toEqual(['allow', 'deny', 'step-up'])
  })

  withOpa('take consent as the second answer', async () => {
    const asked = { agent: { team: 'platform' }, role: { access: 'write', sensitivity: 'restricted' } } as const
    const request = obtain(asked) as Extract<PolicyRequest, { role: unknown }>
    expect(await inOpa.decide(request)).toMatchObject({ outcome: 'step-up', stepUp: [{ group: 'sre-oncall', approvals: 1 }] })
    expect(await inOpa.decide({ ...request, consent: ['sre-oncall'] })).toMatchObject({ outcome: 'allow' })
    expect(await inOpa.decide({ ...request, consent: ['security'] })).toMatchObject({ outcome: 'deny', policies: ['restricted-write-needs-a-human'] })
  })

  withOpa('the Rego is formatted, and strict', () => {
    const run = (...args: string[]) => execFileSync(opaBinary ?? '', args, { encoding: 'utf8' })
    expect(run('fmt', '--list', REGO)).toBe('')
    expect(run('check', '--strict', REGO)).toBe('')
  })

  it('each policy in Cedar has its counterpart in Rego, file by file, and the other way round', () => {
    const folder = join(REGO, '..')
    const idsIn = (path: string, id: RegExp) => [...readFileSync(path, 'utf8').matchAll(id)].map(([, one = '']) => one).sort()
    const names = readdirSync(folder).filter((name) => name.endsWith('.cedar'))
    for (const name of names) {
      const ids = idsIn(join(folder, name), /^@id\("(.+)"\)$/gm)
      expect(ids.length).toBeGreaterThan(0)
      expect([name, idsIn(join(REGO, name.replace(/cedar$/, 'rego')), /"id": "([^"]+)"/g)]).toEqual([name, ids])
    }
    const library = ['decision.rego', 'facts.rego']
    expect(readdirSync(REGO).sort()).toEqual([...names.map((name) => name.replace(/cedar$/, 'rego')), ...library].sort())
  })
})
