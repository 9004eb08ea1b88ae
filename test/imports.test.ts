import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { findWrongImports } from '../scripts/check-imports.js'

const repository = resolve(import.meta.dirname, '..')

describe('who may import whom', () => {
  it('holds for every file of src', () => {
    expect(findWrongImports(repository)).toEqual([])
  })
})

describe('a wrong import is found', () => {
  let copy: string
  beforeEach(() => {
    // The same files, empty: the first test has read what is in them.
    copy = mkdtempSync(join(tmpdir(), 'imports-'))
    for (const file of readdirSync(join(repository, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))) {
      mkdirSync(dirname(join(copy, 'src', file)), { recursive: true })
      writeFileSync(join(copy, 'src', file), 'export {}\n')
    }
  })
  afterEach(() => rmSync(copy, { recursive: true }))

  const added: readonly [what: string, file: string, line: string, complaint: RegExp][] = [
    ['a domain that knows another', 'policy/policy.ts', "import type { Ledger } from '../ledger/ledger.js'", /policy may import types, errors$/],
    ['a contract that knows the house', 'types.ts', "import { MayflyError } from './errors.js'", /types may import nothing of ours$/],
    ['the wire that knows the nouns', 'api.ts', "export type { Task } from './types.js'", /api may import nothing of ours$/],
    ['a path that opens a domain', 'issue.ts', "import { openLedger } from './ledger/index.js'", /only the types of ledger: write "import type"$/],
    ['an inline type that stays at run time', 'issue.ts', "import { type Ledger } from './ledger/ledger.js'", /write "import type"$/],
    ['all of a domain at once', 'revoke.ts', "export * from './ledger/ledger.js'", /write "import type"$/],
    ['a domain fetched while running', 'sweeper.ts', "export const late = () => import('./ledger/ledger.js')", /write "import type"$/],
    [
      'another value beside the one allowed',
      'upstream.ts',
      "import { ProviderError, other } from './providers/provider.js'",
      /only ProviderError of/,
    ],
    ['all values where one is allowed', 'upstream.ts', "import * as all from './providers/provider.js'", /only ProviderError of/],
    ['a type reached in place', 'identity/verify.ts', "export type L = import('../ledger/ledger.js').Ledger", /identity may import types, errors$/],
    ['whoever imports the executable', 'broker.ts', "import './main.js'", /broker may import/],
    ['what is outside of src', 'issue.ts', "import '../test/support/redis.js'", /no part of src$/],
    ['the environment', 'broker.ts', 'export const home = process.env.HOME', /mentions process\.env/],
    ['the command line', 'config.ts', 'export const { argv } = process', /mentions process\.argv/],
    ['the environment by import', 'issue.ts', "import { env } from 'node:process'", /mentions process\.env/],
    ['the environment by the long way', 'issue.ts', "export const e = globalThis.process['env']", /mentions process\.env/],
    ['a file without a room', 'helpers.ts', '', /belongs to no room/],
    ['a folder without a room', 'utils/strings.ts', '', /belongs to no room/],
  ]
  it.each(added)('%s', (_what, file, line, complaint) => {
    const path = join(copy, 'src', file)
    mkdirSync(dirname(path), { recursive: true })
    appendFileSync(path, `\n${line}\n`)
    const wrong = findWrongImports(copy)
    expect(wrong).toHaveLength(1)
    expect(wrong[0]).toMatch(complaint)
    expect(wrong[0]).toContain(`src/${file}`)
  })

  it('while what the table allows is let through', () => {
    writeFileSync(
      join(copy, 'src/issue.ts'),
      `import type { Ledger } from './ledger/ledger.js'
       import { type Provider, ProviderError } from './providers/provider.js'
       import { MayflyError } from './errors.js'
       import { drive } from './revoke.js'
       import { hostname } from 'node:os'`,
    )
    expect(findWrongImports(copy)).toEqual([])
  })
})
