import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { openChannel } from '../../src/identity/channel.js'
import { type CaseResult, openEngine, runCases } from '../../src/policy/index.js'
import type { OpaOptions } from '../../src/policy/opa/options.js'
import type { PolicyFile } from '../../src/policy/options.js'
import type { Policy, PolicyRequest } from '../../src/policy/policy.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import type { Decision } from '../../src/types.js'
import { opaBinary, REGO, startOpa, type TestOpa } from '../support/opa.js'
import { likely, likelyOfPresets } from './arbitrary.js'
import { obtain, sample, shipped } from './fixtures.js'

const FOLDER = join(REGO, '..')
const CASES = import.meta.dirname
const PRESETS = readdirSync(join(CASES, 'presets'))
const OPTIONAL = readdirSync(join(CASES, 'optional'))
const withOpa = opaBinary === undefined ? it.skip : it

/** The same policies for both. */
interface Said {
  readonly cedar: readonly PolicyFile[]
  /** Files and folders. */
  readonly rego: readonly string[]
}
const preset = (name: string): Said => ({
  cedar: [{ name: `presets/${name}.cedar`, text: readFileSync(join(FOLDER, `presets/${name}.cedar`), 'utf8') }],
  rego: [join(FOLDER, `presets/${name}.rego`)],
})
const optional = (name: string): Said => ({
  cedar: [{ name: `optional/${name}.cedar`, text: readFileSync(join(FOLDER, `optional/${name}.cedar`), 'utf8') }],
  rego: [join(FOLDER, `optional/${name}.rego`)],
})
const all: Said = { cedar: shipped.files, rego: [REGO] }
/** As presets are meant: without the grants to start from. */
const base: Said = {
  cedar: shipped.files.filter(({ name }) => name !== 'obtain.cedar'),
  rego: readdirSync(REGO).flatMap((name) => (name === 'obtain.rego' ? [] : [join(REGO, name)])),
}
const together = (...said: readonly Said[]): Said => ({ cedar: said.flatMap(({ cedar }) => cedar), rego: said.flatMap(({ rego }) => rego) })

const casesOf = (folder: string) =>
  ['allow', 'deny', 'step-up']
    .filter((outcome) => readdirSync(folder).includes(outcome))
    .flatMap((outcome) => readdirSync(join(folder, outcome)).map((name) => `${outcome}/${name}`))

/** What an engine decides; who said so differs. */
const decided = ({ policyVersion: _, decisionIds: __, readsCounts: ___, ...decision }: Decision) => ({
  ...{ maxTtlSeconds: undefined, maxLive: undefined, stepUp: undefined },
  ...decision,
})

/** Both engines with the same policies; the second is there where an OPA is. */
function engines(said: Said): { readonly cedar: () => Policy; readonly opa: () => Policy } {
  let inCedar: Policy | undefined
  let inOpa: Policy | undefined
  let server: TestOpa | undefined
  beforeAll(async () => {
    inCedar = preparePolicy({ ...sample, files: said.cedar })
    if (opaBinary === undefined) return
    server = await startOpa(said.rego)
    const { vocabulary, known } = sample
    const options: OpaOptions = {
      ...{ engine: 'opa', url: server.url, path: 'mayfly/decision', timeoutMs: 5_000, watchMs: 60_000, stop: [], concurrency: 8 },
      ...{ vocabulary, known, allowHttpLoopback: true },
    }
    inOpa = await openEngine(options, { open: openChannel })
  })
  afterAll(async () => {
    inCedar?.close()
    inOpa?.close()
    await server?.stop()
  })
  const there = (policy: Policy | undefined): Policy => {
    if (!policy) throw new Error('not opened')
    return policy
  }
  return { cedar: () => there(inCedar), opa: () => there(inOpa) }
}

async function alike({ cedar, opa }: ReturnType<typeof engines>, requests: fc.Arbitrary<PolicyRequest>): Promise<void> {
  const outcomes = new Set<string>()
  await fc.assert(
    fc.asyncProperty(requests, async (request) => {
      const [opas, cedars] = await Promise.all([opa().decide(request), cedar().decide(request)])
      outcomes.add(opas.outcome)
      expect(decided(opas)).toEqual(decided(cedars))
    }),
    { numRuns: 1_500 },
  )
  expect([...outcomes].sort()).toEqual(['allow', 'deny', 'step-up'])
}

const SETS: readonly (readonly [name: string, said: Said, folder: string])[] = [
  ['that are shipped', all, CASES],
  ...PRESETS.map((name) => [`of the preset ${name}`, together(base, preset(name)), join(CASES, 'presets', name)] as const),
  ...OPTIONAL.map((name) => [`of ${name}`, together(base, optional(name)), join(CASES, 'optional', name)] as const),
]

describe.each(SETS)('Cedar and a real OPA with the policies %s', (_name, said, folder) => {
  const both = engines(said)
  const answers = new Map<string, { readonly cedar?: CaseResult; readonly opa?: CaseResult }>()
  beforeAll(async () => {
    const run = async (policy: Policy) => new Map((await runCases(policy, folder)).map((one) => [one.file, one]))
    const cedar = await run(both.cedar())
    const opa = opaBinary === undefined ? new Map<string, CaseResult>() : await run(both.opa())
    for (const file of casesOf(folder)) answers.set(file, { cedar: cedar.get(file), opa: opa.get(file) })
  })

  it.each(casesOf(folder))('Cedar answers %s', (file) => {
    expect(answers.get(file)?.cedar).toMatchObject({ passed: true })
  })

  withOpa.each(casesOf(folder))('OPA answers %s, as Cedar does', (file) => {
    const { cedar, opa } = answers.get(file) ?? {}
    expect(opa).toMatchObject({ passed: true })
    if (!opa?.decision || !cedar?.decision) throw new Error('not decided')
    expect(decided(opa.decision)).toEqual(decided(cedar.decision))
  })
})

describe('Cedar and a real OPA', () => {
  const both = engines(all)
  const withPresets = engines(together(all, ...PRESETS.map(preset)))

  withOpa('decide alike whatever is asked, also on behalf of humans and with consent', () => alike(both, likely))
  withOpa('decide alike with every preset beside the others', () => alike(withPresets, likelyOfPresets))

  withOpa('take consent as the second answer', async () => {
    const asked = { agent: { team: 'platform' }, role: { access: 'write', sensitivity: 'restricted' } } as const
    const request = obtain(asked) as Extract<PolicyRequest, { role: unknown }>
    const opa = both.opa()
    expect(await opa.decide(request)).toMatchObject({ outcome: 'step-up', stepUp: [{ group: 'sre-oncall', approvals: 1 }] })
    expect(await opa.decide({ ...request, consent: ['sre-oncall'] })).toMatchObject({ outcome: 'allow' })
    expect(await opa.decide({ ...request, consent: ['security'] })).toMatchObject({ outcome: 'deny', policies: ['restricted-write-needs-a-human'] })
  })
})

describe('the Rego that is shipped', () => {
  withOpa('is formatted, and strict', () => {
    const run = (...args: string[]) => execFileSync(opaBinary ?? '', args, { encoding: 'utf8' })
    expect(run('fmt', '--list', REGO, join(FOLDER, 'presets'), join(FOLDER, 'optional'))).toBe('')
    expect(run('check', '--strict', REGO, join(FOLDER, 'presets'), join(FOLDER, 'optional'))).toBe('')
  })

  it('has the counterpart of each policy in Cedar, file by file, and no other', () => {
    const idsIn = (path: string, id: RegExp) => [...readFileSync(path, 'utf8').matchAll(id)].map(([, one = '']) => one).sort()
    const cedars = ['.', 'presets'].flatMap((folder) =>
      readdirSync(join(FOLDER, folder)).flatMap((name) => (name.endsWith('.cedar') ? [join(folder, name)] : [])),
    )
    const regoOf = (cedar: string) => join(cedar.startsWith('presets') ? FOLDER : REGO, cedar.replace(/cedar$/, 'rego'))
    for (const cedar of cedars) {
      const ids = idsIn(join(FOLDER, cedar), /^@id\("(.+)"\)$/gm)
      expect(ids.length).toBeGreaterThan(0)
      expect([cedar, idsIn(regoOf(cedar), /"id": "([^"]+)"/g)]).toEqual([cedar, ids])
    }
    const library = ['decision.rego', 'facts.rego'].map((name) => join(REGO, name))
    const folders = [REGO, join(FOLDER, 'presets')]
    const regos = folders.flatMap((folder) => readdirSync(folder).flatMap((name) => (name.endsWith('.rego') ? [join(folder, name)] : [])))
    expect(regos.sort()).toEqual([...cedars.map(regoOf), ...library].sort())
  })
})
