import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Provider } from '../../src/providers/provider.js'
import type { Harness } from './harness.js'

/** What the matrix tells of one run of the contract suite. A provider that has several modes has a run for each. */
export interface Facts {
  readonly type: string
  /** Absent where there is but one. */
  readonly mode?: string
  readonly revocation: string
  readonly residual_seconds: number
  /** Seconds; null where the handle is known before the mint. */
  readonly blind_window: number | null
  readonly renewable: boolean
  readonly upstream: Harness['upstream']
  readonly cases: number
  readonly not_applicable: number
}

/** What one run tells `npm run providers`. */
export interface Told extends Facts {
  readonly passed: number
  readonly failed: number
  readonly reasons: Readonly<Record<string, string>>
}

export function factsOf(name: string, provider: Provider, harness: Harness, counts: { cases: number; not_applicable: number }): Facts {
  const mode = name.split(', ')[1]
  return {
    type: provider.type,
    ...(mode && { mode }),
    revocation: provider.revocation,
    residual_seconds: provider.residualSeconds,
    blind_window: provider.blindWindowSeconds ?? null,
    renewable: provider.renew !== undefined,
    upstream: harness.upstream,
    ...counts,
  }
}

export const MATRIX_HEAD = [
  '| provider | revocation | usable after a confirmed revoke | blind window | renewed in place | tested against | cases passed | do not apply |',
  '|---|---|---|---|---|---|---|---|',
] as const

/** One row of the matrix in README.md. */
export function rowOf(facts: Facts): string {
  const name = `[${facts.mode ? `${facts.type}, ${facts.mode}` : facts.type}](docs/providers/${facts.type}.md)`
  const residual = facts.revocation === 'at-expiry' ? `until its expiry + ${facts.residual_seconds} s` : `${facts.residual_seconds} s`
  const blind = facts.blind_window === null ? 'none' : `${facts.blind_window} s`
  const upstream = { real: 'the real one', fake: 'a fake', self: 'itself' }[facts.upstream]
  return `| ${[name, facts.revocation, residual, blind, facts.renewable ? 'yes' : 'no', upstream, facts.cases, facts.not_applicable].join(' | ')} |`
}

const README = join(import.meta.dirname, '..', '..', 'README.md')

/** The rows that README.md shows. */
export async function shownRows(): Promise<string[]> {
  const lines = (await readFile(README, 'utf8')).split('\n')
  const start = lines.indexOf(MATRIX_HEAD[1])
  if (start < 0) return []
  const rest = lines.slice(start + 1)
  const end = rest.findIndex((line) => !line.startsWith('|'))
  return rest.slice(0, end < 0 ? rest.length : end)
}

export const REASONS_HEAD = '## What of the contract does not apply'

/** One line of that section of a provider's page. */
export function reasonLine(title: string, reason: string): string {
  return `- *${title}*: ${reason}.`
}

/** The section of a provider's page that says which cases don't apply, in which mode, and why. */
export function reasonsSection(runs: readonly { readonly mode?: string; readonly reasons: Readonly<Record<string, string>> }[]): string[] {
  const parts = runs.flatMap(({ mode, reasons }) => {
    const lines = Object.entries(reasons).map(([title, reason]) => reasonLine(title, reason))
    return mode ? ['', `${mode[0]?.toUpperCase()}${mode.slice(1)}:`, '', ...lines] : lines
  })
  const intro = 'The cases of `test/providers/contract.ts` that are not run for this provider, each with its reason:'
  return [REASONS_HEAD, intro, ...(parts[0] === '' ? [] : ['']), ...parts]
}

export async function pageOf(type: string): Promise<string> {
  return readFile(join(import.meta.dirname, '..', '..', 'docs', 'providers', `${type}.md`), 'utf8')
}

/** For `npm run providers`: what this run saw, where it is asked for. */
export async function tell(folder: string | undefined, name: string, told: Told): Promise<void> {
  if (folder) await writeFile(join(folder, `${encodeURIComponent(name)}.json`), JSON.stringify(told))
}
