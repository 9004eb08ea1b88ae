import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { providers } from '../../src/providers/index.js'
import { shownRows } from './facts.js'

const root = join(import.meta.dirname, '..', '..')
const types = providers.map(({ type }) => type).sort()

/** That each row is as the provider is, its own run of the contract checks. */
describe('the provider matrix', () => {
  it('has a row for each provider, and no other', async () => {
    const rows = await shownRows()
    const shown = new Set(rows.map((row) => /docs\/providers\/([a-z0-9-]+)\.md/.exec(row)?.[1]))
    expect([...shown].sort()).toEqual(types)
    expect(new Set(rows).size).toBe(rows.length)
  })

  it('has a page and a run of the contract suite for each provider', async () => {
    const pages = (await readdir(join(root, 'docs', 'providers'))).filter((name) => name.endsWith('.md'))
    expect(pages.map((name) => name.slice(0, -'.md'.length)).sort()).toEqual(types)
    const tests = (await readdir(import.meta.dirname)).filter((name) => name.endsWith('.contract.test.ts'))
    // A second file of a provider is named after its mode: `<type>-<mode>.contract.test.ts`.
    expect(types.filter((type) => !tests.includes(`${type}.contract.test.ts`))).toEqual([])
    expect(tests.filter((name) => !types.some((type) => name.startsWith(`${type}.`) || name.startsWith(`${type}-`)))).toEqual([])
  })

  it('knows fakes that import nothing of what they are to test', async () => {
    const fakes = (await readdir(import.meta.dirname)).filter((name) => name.startsWith('fake-') && !name.endsWith('.test.ts'))
    expect(fakes.length).toBeGreaterThan(3)
    for (const fake of fakes) {
      const values = (await readFile(join(import.meta.dirname, fake), 'utf8')).match(/^import (?!type).*\/src\//gm)
      expect({ fake, values }).toEqual({ fake, values: null })
    }
  })
})
