import { existsSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { parseSync } from '@swc/core'

/** A test, or a `describe` and with it all that is inside. */
export interface Title {
  readonly kind: 'test' | 'describe'
  /** As it is written, with `%s` and all; `{}` for what a template literal puts in. */
  readonly raw: string
  /** The titles around it and its own, outermost first; what only running it can tell is a HOLE. */
  readonly chain: readonly string[]
  /** Written so that it never runs: `it.skip`, `xit`, `it.todo`, or inside of such a `describe`. */
  readonly skipped: boolean
}
export const HOLE = '\0'

/** Every title of a test file, also of what it imports from `test/`: suites that several files share. Not there: undefined. */
export function titlesOf(root: string, file: string, seen = new Set<string>()): Title[] | undefined {
  if (!existsSync(join(root, file))) return undefined
  seen.add(file)
  const { titles, imports } = read(parseSync(readFileSync(join(root, file), 'utf8'), { syntax: 'typescript', target: 'es2022' }))
  const shared = imports
    .map((specifier) => posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts'))
    .filter((path) => path.startsWith('test/') && !path.endsWith('.test.ts') && !seen.has(path))
  return [...titles, ...shared.flatMap((path) => titlesOf(root, path, seen) ?? [])]
}

/** What running it is called: each HOLE is any text. */
export function patternOf(text: string): RegExp {
  return new RegExp(`^${text.split(HOLE).map(escaped).join('.*')}$`, 's')
}
function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

type Node = Readonly<Record<string, unknown>>
type Around = Pick<Title, 'chain' | 'skipped'>
type Runner = Pick<Title, 'kind' | 'skipped'> & { readonly each: boolean }

function read(module: unknown): { titles: Title[]; imports: string[] } {
  const titles: Title[] = []
  const imports: string[] = []
  /** `const whereOpa = opa ? it : it.skip`: another name for what it may be. */
  const names = new Map<string, Runner>()
  const visit = (node: unknown, around: Around): void => {
    if (Array.isArray(node)) for (const inner of node) visit(inner, around)
    if (!isNode(node) || Array.isArray(node)) return
    if (node.type === 'ImportDeclaration' && isNode(node.source)) imports.push(String(node.source.value))
    if (node.type === 'VariableDeclarator' && isNode(node.id) && typeof node.id.value === 'string') {
      const runner = runnerOf(node.init, names)
      if (runner) names.set(node.id.value, runner)
    }
    const found = node.type === 'CallExpression' ? titleOf(node, around, names) : undefined
    if (found) titles.push(found)
    const within = found?.kind === 'describe' ? found : around
    for (const inner of Object.values(node)) if (typeof inner === 'object') visit(inner, within)
  }
  visit(module, { chain: [], skipped: false })
  return { titles, imports: imports.filter((specifier) => specifier.startsWith('.')) }
}

function titleOf(call: Node, around: Around, names: ReadonlyMap<string, Runner>): Title | undefined {
  const runner = runnerOf(call.callee, names)
  const [first] = Array.isArray(call.arguments) ? call.arguments : []
  // `it.each(table)` takes no title: the call of what it answers does.
  if (!runner || !isNode(first) || isTable(call)) return undefined
  const { raw, text } = textOf(first.expression, runner.each)
  return { kind: runner.kind, raw, chain: [...around.chain, text], skipped: around.skipped || runner.skipped }
}
function isTable(call: Node): boolean {
  return isNode(call.callee) && call.callee.type === 'MemberExpression' && nameOf(call.callee.property) === 'each'
}

const TESTS = ['it', 'test', 'fit', 'xit', 'xtest']
const GROUPS = ['describe', 'fdescribe', 'xdescribe']
function runnerOf(node: unknown, names: ReadonlyMap<string, Runner>): Runner | undefined {
  if (!isNode(node)) return undefined
  switch (node.type) {
    case 'Identifier': {
      const name = nameOf(node) ?? ''
      const kind = TESTS.includes(name) ? 'test' : GROUPS.includes(name) ? 'describe' : undefined
      return kind ? { kind, skipped: name.startsWith('x'), each: false } : names.get(name)
    }
    case 'MemberExpression': {
      const inner = runnerOf(node.object, names)
      const property = nameOf(node.property) ?? ''
      if (!inner || !['each', 'only', 'skip', 'todo', 'failing', 'concurrent'].includes(property)) return undefined
      return { ...inner, skipped: inner.skipped || ['skip', 'todo'].includes(property), each: inner.each || property === 'each' }
    }
    case 'CallExpression':
      return isTable(node) ? runnerOf(node.callee, names) : undefined
    case 'TaggedTemplateExpression':
      return runnerOf(node.tag, names)
    case 'ParenthesisExpression':
      return runnerOf(node.expression, names)
    case 'ConditionalExpression': {
      const [one, other] = [runnerOf(node.consequent, names), runnerOf(node.alternate, names)]
      return one && other ? { ...one, skipped: one.skipped && other.skipped } : undefined
    }
    default:
      return undefined
  }
}

function textOf(node: unknown, each: boolean): { raw: string; text: string } {
  const unknown = { raw: HOLE, text: HOLE }
  if (!isNode(node)) return unknown
  if (node.type === 'StringLiteral' && typeof node.value === 'string') return { raw: node.value, text: each ? holed(node.value) : node.value }
  if (node.type === 'TemplateLiteral' && Array.isArray(node.quasis)) {
    const parts = node.quasis.map((part) => (isNode(part) && typeof part.cooked === 'string' ? part.cooked : ''))
    const text = parts.join(HOLE)
    return { raw: parts.join('{}'), text: each ? holed(text) : text }
  }
  if (node.type === 'BinaryExpression' && node.operator === '+') {
    const [left, right] = [textOf(node.left, each), textOf(node.right, each)]
    return { raw: left.raw + right.raw, text: left.text + right.text }
  }
  if (node.type === 'ParenthesisExpression') return textOf(node.expression, each)
  return unknown
}
/** What jest puts values in place of, in the title of an `each`. */
function holed(text: string): string {
  return text.replace(/%%|%[sdifjopc#$]|\$[\w#][\w.]*/g, (token) => (token === '%%' ? '%' : HOLE))
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null
}
function nameOf(node: unknown): string | undefined {
  return isNode(node) && typeof node.value === 'string' ? node.value : undefined
}
