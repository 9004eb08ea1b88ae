import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Framework, ROWS } from './frameworks.js'
import { namedIn, type Sources } from './names.js'

/** What an item can be. What is covered in part, or not, says in `Not covered:` what is not. */
const STATUS = /^\*\*(Covered|Partly covered|Not covered)\.\*\*/
const MISSING = /^Not covered: \S/

/** Each item of a framework has a heading, in order, that says whether it is covered, by which tests, and what is not. */
export function problemsOfItems({ page, items }: Framework, text: string): string[] {
  const sections = [...text.matchAll(/^### (.+)\n([\s\S]*?)(?=^#{1,3} |(?![\s\S]))/gm)].map(([, head = '', body = '']) => ({ head, body }))
  const heads = sections.map(({ head }) => head)
  const wanted = items.map(([id, name]) => `${id} ${name}`)
  const missing = wanted.filter((head) => !heads.includes(head)).map((head) => `${page} has no heading "### ${head}"`)
  const extra = heads
    .filter((head, index) => !wanted.includes(head) || heads.indexOf(head) !== index)
    .map((head) => `${page} has a heading too many: "${head}"`)
  return [...missing, ...extra, ...sections.flatMap(({ head, body }) => problemsOfItem(page, head, body))]
}

function problemsOfItem(page: string, head: string, body: string): string[] {
  const lines = body.trim().split('\n')
  const status = STATUS.exec(lines[0] ?? '')?.[1]
  const says = lines.some((line) => MISSING.test(line))
  if (!status) return [`${page}: "${head}" begins with none of **Covered.**, **Partly covered.**, **Not covered.**`]
  if (status !== 'Covered' && !says) return [`${page}: "${head}" is ${status.toLowerCase()} and has no line "Not covered: …"`]
  if (status === 'Covered' && says) return [`${page}: "${head}" is called covered and says what is not`]
  if (status !== 'Not covered' && !namedIn(page, body).some(({ titles }) => titles.length > 0)) return [`${page}: "${head}" names no test`]
  return []
}

/** Each row is there once, and names a test or says "not yet"; and names each test that is called after it. */
export function problemsOfRows({ page, count, tests }: typeof ROWS, text: string, sources: Sources): string[] {
  const rows = [...text.matchAll(/^\| (\d+) \|.*$/gm)].map(([line = '', number = '']) => ({ number: Number(number), line }))
  const wanted = Array.from({ length: count }, (_, index) => index + 1)
  const missing = wanted
    .filter((number) => rows.filter((row) => row.number === number).length !== 1)
    .map((number) => `${page} has not one row ${number}`)
  const extra = rows.filter(({ number }) => !wanted.includes(number)).map(({ number }) => `${page} has a row too many: ${number}`)
  const empty = rows
    .filter(({ line }) => !/\bnot yet\b/i.test(line) && !namedIn(page, line).some(({ titles }) => titles.length > 0))
    .map(({ number }) => `${page}: row ${number} names no test and does not say "not yet"`)
  const unnamed = calledAfterRows(tests, sources)
    .filter(({ number, file }) => !rows.some((row) => row.number === number && isNamed(page, row.line, number, file)))
    .map(({ number, file }) => `${page}: row ${number} does not name its test in ${file}: › "${beginning(number)}…"`)
  return [...missing, ...extra, ...empty, ...unnamed]
}

function beginning(number: number): string {
  return `requirement ${String(number).padStart(2, '0')}: `
}
function isNamed(page: string, line: string, number: number, file: string): boolean {
  return namedIn(page, line).some((named) => named.file === file && named.titles.some((title) => title.startsWith(beginning(number).trimEnd())))
}
function calledAfterRows(folder: string, sources: Sources): { number: number; file: string }[] {
  if (!existsSync(join(sources.root, folder))) return []
  const files = readdirSync(join(sources.root, folder)).filter((name) => name.endsWith('.test.ts'))
  return files.sort().flatMap((name) => {
    const file = `${folder}/${name}`
    const numbers = (sources.of(file) ?? []).flatMap(({ raw }) => /^requirement (\d\d): /.exec(raw)?.[1] ?? [])
    return [...new Set(numbers)].map((number) => ({ number: Number(number), file }))
  })
}
