import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { openPolicy, runCases } from '../../src/policy/index.js'
import { sample, shipped } from './fixtures.js'

const FOLDER = join(import.meta.dirname, '../../config/policies/presets')
const NAMES = ['browser-agent', 'code-assistant', 'procurement-bot', 'retrieval-copilot', 'soc-copilot']
const fileOf = (name: string) => ({ name: `presets/${name}.cedar`, text: readFileSync(join(FOLDER, `${name}.cedar`), 'utf8') })
/** What a preset stands on: everything that is shipped but the grants to start from. */
const base = shipped.files.filter(({ name }) => name !== 'obtain.cedar')

it('there are five, each with cases', () => {
  expect(
    readdirSync(FOLDER)
      .filter((name) => name.endsWith('.cedar'))
      .sort(),
  ).toEqual(NAMES.map((name) => `${name}.cedar`))
  expect(readdirSync(join(import.meta.dirname, 'presets')).sort()).toEqual(NAMES)
})

it('all of them can be loaded together, and with everything else that is shipped', async () => {
  const policy = await openPolicy({ ...sample, files: [...shipped.files, ...NAMES.map(fileOf)] })
  policy.close()
})

describe.each(NAMES)('the preset %s', (name) => {
  it('answers every case as its folder says, and each of its policies decides in one', async () => {
    const policy = await openPolicy({ ...sample, files: [...base, fileOf(name)] })
    const results = await runCases(policy, join(import.meta.dirname, 'presets', name))
    expect(results.filter(({ passed }) => !passed)).toEqual([])
    expect(results.length).toBeGreaterThan(4)
    const deciding = new Set(results.flatMap(({ decision }) => decision?.policies ?? []))
    const ids = [...fileOf(name).text.matchAll(/^@id\("(.+)"\)$/gm)].map(([, id = '']) => id)
    // What it grants only with consent shows in the limits of the step-up.
    const consented = ['soc-copilot-contains', 'browser-agent-submits']
    expect(ids.filter((id) => !deciding.has(id) && !consented.includes(id))).toEqual([])
    policy.close()
  })

  it('grants agents nothing but what is for its label, and for roles that are labelled', () => {
    const grants = fileOf(name)
      .text.split(/^@id/m)
      .filter((text) => /permit \(principal is Agent/.test(text))
    expect(grants.length).toBeGreaterThan(0)
    for (const grant of grants) expect(grant).toMatch(new RegExp(`when \\{ principal\\.labels\\.contains\\("${name}"\\) && resource\\.labels`))
  })
})
