import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { HOLE, patternOf, type Title, titlesOf } from './titles.js'

/**
 * How a document names a test: `` `test/file.test.ts` › "its title" ``, or a beginning of the title that no other has, or the title of a
 * `describe` for all that is inside. Where a title alone is ambiguous, the one around it goes before: › "around" › "its title". A comma goes
 * on in the same file: › "one", › "another". A title with quotes in it stands in “these”. One that ends with `…` is every test whose title
 * begins so. A file alone is all of it. `(needs OPA)` behind a title: where that is missing, its tests may be skipped, but not in CI.
 */
export interface Named {
  /** `docs/page.md:12` */
  readonly at: string
  readonly file: string
  /** Outermost first; empty: the file. */
  readonly titles: readonly string[]
  readonly needs?: string
}

const FILE = /`(test\/[\w./-]+?\.ts)`((?:\s*,?\s*›\s*(?:"[^"]+"|“[^”]+”)(?:\s*\(needs [^)]+\))?)*)/g
const NEEDS = /\(needs ([^)]+)\)\s*$/
const TITLES = /›\s*(?:"([^"]+)"|“([^”]+)”)/g

/** Every test that a page names. */
export function namedIn(page: string, text: string): Named[] {
  return text.split('\n').flatMap((line, index) =>
    [...line.matchAll(FILE)].flatMap(([, file = '', list = '']) =>
      list.split(/,\s*(?=›)/).map((chain) => ({
        at: `${page}:${index + 1}`,
        file,
        needs: NEEDS.exec(chain)?.[1],
        titles: [...chain.matchAll(TITLES)].map(([, plain, quoted]) => (plain ?? quoted ?? '').replaceAll('\\|', '|')),
      })),
    ),
  )
}

/** Reads each test file once. */
export class Sources {
  readonly #files = new Map<string, readonly Title[] | undefined>()
  constructor(readonly root: string) {}

  of(file: string): readonly Title[] | undefined {
    if (!this.#files.has(file)) this.#files.set(file, titlesOf(this.root, file))
    return this.#files.get(file)
  }
  has(path: string): boolean {
    return existsSync(join(this.root, path))
  }
}

/** The tests that a name means, or what is wrong with it. */
export function resolve(named: Named, sources: Sources): { readonly means: readonly Title[] } | { readonly wrong: string } {
  const titles = sources.of(named.file)
  if (!titles) return { wrong: `${named.file} does not exist` }
  const last = named.titles.at(-1)
  if (last === undefined) return titles.length > 0 ? { means: [] } : { wrong: `${named.file} holds no test` }
  const means = meant(
    last,
    titles.filter((title) => isWithin(title, named.titles.slice(0, -1))),
  )
  const shown = named.titles.map((title) => `"${title}"`).join(' › ')
  if (means.length === 0) return { wrong: `${named.file} has no test ${shown}` }
  if (means.length > 1 && !last.endsWith('…'))
    return { wrong: `${named.file} has ${means.length} tests ${shown}: say more of the title, or what is around it` }
  if (means.some(({ skipped }) => skipped)) return { wrong: `${named.file} skips ${shown}` }
  return { means }
}

/** As it is written; else as running it may call it, or by its beginning, of which no other may be. */
function meant(text: string, titles: readonly Title[]): Title[] {
  if (text.endsWith('…')) return titles.filter(({ raw }) => raw.startsWith(text.slice(0, -1)))
  const exact = titles.filter(({ raw }) => raw === text)
  return exact.length > 0 ? exact : titles.filter(({ raw, chain }) => raw.startsWith(text) || isCalled(chain.at(-1) ?? HOLE, text))
}
/** A title that is only a value, `%s`, would be called anything: name what is around it. */
function isCalled(own: string, text: string): boolean {
  return /\w{3}/.test(own) && patternOf(own).test(text)
}
function isWithin({ chain }: Title, around: readonly string[]): boolean {
  let from = 0
  return around.every((text) => {
    const at = chain.slice(from, -1).findIndex((one) => one.startsWith(text) || isCalled(one, text))
    from += at + 1
    return at >= 0
  })
}
