import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join, resolve as resolvePath } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FRAMEWORKS, ROWS } from './threat-model/frameworks.js'
import { type Named, namedIn, resolve, Sources } from './threat-model/names.js'
import { problemsOfItems, problemsOfRows } from './threat-model/pages.js'

/** The pages that name tests, with their text. */
export function pagesOf(root: string): Map<string, string> {
  const folder = readdirSync(join(root, 'docs/threat-model'), { recursive: true, encoding: 'utf8' })
  const pages = ['docs/threat-model.md', ...folder.filter((name) => name.endsWith('.md')).map((name) => `docs/threat-model/${name}`)]
  return new Map(pages.sort().map((page) => [page, readFileSync(join(root, page), 'utf8')]))
}
export function allNamed(root: string): Named[] {
  return [...pagesOf(root)].flatMap(([page, text]) => namedIn(page, text))
}

/** What is wrong with the threat model, one readable line each: an item that is missing, a test that is not there or never runs. */
export function findProblems(root: string): string[] {
  const pages = pagesOf(root)
  const text = (page: string) => pages.get(page) ?? ''
  const sources = new Sources(root)
  const wrongNames = allNamed(root).flatMap((named) => {
    const found = resolve(named, sources)
    return 'wrong' in found ? [`${named.at}: ${found.wrong}`] : []
  })
  return [
    ...FRAMEWORKS.flatMap((framework) => problemsOfItems(framework, text(framework.page))),
    ...problemsOfRows(ROWS, text(ROWS.page), sources),
    ...wrongNames,
    ...[...pages].flatMap(([page, own]) => missingPaths(page, own, sources)),
  ]
}

/** Policy cases and the like: data that a test reads. */
function missingPaths(page: string, text: string, sources: Sources): string[] {
  const paths = [...text.matchAll(/`((?:test|config|src|docs|scripts|bench)\/[\w./-]+)`/g)].map(([, path = '']) => path)
  return [...new Set(paths)]
    .filter((path) => !path.endsWith('.ts') && !sources.has(path))
    .map((path) => `${page} names ${path}, which does not exist`)
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const problems = findProblems(resolvePath(import.meta.dirname, '..'))
  for (const line of problems) console.error(line)
  if (problems.length > 0)
    console.error(`${problems.length} problems in docs/threat-model; how tests are named stands in scripts/threat-model/names.ts`)
  process.exitCode = problems.length > 0 ? 1 : 0
}
