import { relative } from 'node:path'
import { allNamed } from '../check-threat-model.js'
import { type Named, resolve, Sources } from './names.js'
import { patternOf, type Title } from './titles.js'

/** Of what jest tells when it is done. */
export interface Results {
  readonly testResults: readonly {
    readonly testFilePath: string
    readonly testResults: readonly { readonly ancestorTitles: readonly string[]; readonly title: string; readonly status: string }[]
  }[]
}
interface Ran {
  readonly chain: readonly string[]
  readonly status: string
}

/**
 * Each named test that did not run, or was skipped, one readable line each. In a shard the others' files are no part of it: every file is in
 * one shard, and each shard answers for its own. In CI nothing may be missing that a test needs. What failed is told by jest itself.
 */
export function notRun(root: string, { testResults }: Results, { shard, ci }: { shard: boolean; ci: boolean }): string[] {
  const sources = new Sources(root)
  const files = new Map(testResults.map((file) => [relative(root, file.testFilePath).replaceAll('\\', '/'), file.testResults.map(asRan)]))
  return allNamed(root).flatMap((named) => {
    const ran = files.get(named.file)
    if (!ran) return shard ? [] : [`${named.at}: ${named.file} did not run`]
    const found = resolve(named, sources)
    if ('wrong' in found) return [`${named.at}: ${found.wrong}`]
    const tests = ran.filter(({ chain }) => isMeant(named, found.means, chain))
    const shown = `${named.file} ${named.titles.map((title) => `› "${title}"`).join(' ')}`
    if (tests.length === 0) return [`${named.at}: no such test ran: ${shown}`]
    const skipped = tests.filter(({ status }) => status !== 'passed' && status !== 'failed')
    if (named.needs !== undefined && !ci) return []
    return skipped.length > 0 ? [`${named.at}: ${skipped.length} of ${tests.length} were skipped: ${shown}`] : []
  })
}

function asRan({ ancestorTitles, title, status }: Results['testResults'][number]['testResults'][number]): Ran {
  return { chain: [...ancestorTitles, title], status }
}

/** A file alone is all of it. */
function isMeant({ titles }: Named, means: readonly Title[], chain: readonly string[]): boolean {
  const text = titles.at(-1)?.replace(/…$/, '')
  return text === undefined || means.some((title) => isOf(title, chain, text))
}
/** A test of that title, or one inside of that `describe`. A helper may have put more around it than its file shows. */
function isOf({ kind, chain: titles, raw }: Title, chain: readonly string[], text: string): boolean {
  const patterns = titles.map(patternOf)
  const starts = kind === 'test' ? [chain.length - titles.length] : Array.from(chain.keys()).slice(0, -titles.length)
  return starts.some((start) => {
    const own = chain[start + titles.length - 1]
    if (start < 0 || own === undefined || !patterns.every((pattern, index) => pattern.test(chain[start + index] ?? ''))) return false
    // `each` under one of its names means that one.
    return raw.startsWith(text) || own === text
  })
}
