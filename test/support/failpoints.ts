import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type AwaitExpression, type Node, parse } from 'acorn'
import { ancestor } from 'acorn-walk'

/**
 * A copy of the built broker in which every `await` of the named files is a place to die: just before the call, and just after its
 * answer arrived. The product has no hooks for it; the list is read off the code, so that a new `await` is a new place by itself.
 */
export interface Instrumented {
  /** The executable of the copy. */
  readonly main: string
  /** `issue:mint:1:before`: file, function, number of the await in it, side. */
  readonly points: readonly string[]
  remove(): void
}

const ROOT = resolve(import.meta.dirname, '../..')

/**
 * In the copy: notes each place in the file `MAYFLY_FAILPOINT_LOG`, and kills its own process at the place `MAYFLY_FAILPOINT`; or stops it
 * there, the first time, with `MAYFLY_FAILPOINT_SIGNAL=SIGSTOP`.
 */
const RUNTIME = `
import { appendFileSync } from 'node:fs'
const { MAYFLY_FAILPOINT: target, MAYFLY_FAILPOINT_LOG: log, MAYFLY_FAILPOINT_SIGNAL: signal = 'SIGKILL' } = process.env
let isOver = false
export function at(point) {
  if (log) appendFileSync(log, point + '\\n')
  if (point !== target || isOver) return
  isOver = true
  process.kill(process.pid, signal)
  if (signal !== 'SIGKILL') return
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}
export function after(point, value) {
  at(point)
  return value
}
`

export function instrument(files: readonly string[]): Instrumented {
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-failpoints-'))
  cpSync(join(ROOT, 'dist'), join(folder, 'dist'), { recursive: true })
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'dist/failpoints.js'), RUNTIME)
  const points = files.flatMap((file) => {
    const path = join(folder, 'dist', `${file}.js`)
    const { code, points } = placed(file, readFileSync(path, 'utf8'))
    writeFileSync(path, `import * as __failpoints from './failpoints.js'\n${code}`)
    return points
  })
  return { main: join(folder, 'dist/main.js'), points, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** `await X` -> `(at('…:before'), after('…:after', await X))`. */
export function placed(file: string, source: string): { code: string; points: string[] } {
  const awaits: { node: AwaitExpression; name: string }[] = []
  const counts = new Map<string, number>()
  ancestor(parse(source, { ecmaVersion: 'latest', sourceType: 'module' }), {
    AwaitExpression(node, _state, ancestors) {
      const within = nameOf(ancestors)
      const count = (counts.get(within) ?? 0) + 1
      counts.set(within, count)
      awaits.push({ node, name: `${file}:${within}:${count}` })
    },
  })
  const insertions = awaits.flatMap(({ node, name }) => [
    { at: node.start, text: `(__failpoints.at('${name}:before'), __failpoints.after('${name}:after', ` },
    { at: node.end, text: '))' },
  ])
  let code = source
  for (const { at, text } of insertions.sort((a, b) => b.at - a.at)) code = code.slice(0, at) + text + code.slice(at)
  return { code, points: awaits.flatMap(({ name }) => [`${name}:before`, `${name}:after`]) }
}

/** The innermost function that has a name. */
function nameOf(ancestors: readonly Node[]): string {
  for (const node of [...ancestors].reverse()) {
    const named = node as Node & { id?: { name?: string } | null }
    if (node.type === 'FunctionDeclaration' && named.id?.name) return named.id.name
    if (node.type === 'VariableDeclarator' && named.id?.name && 'init' in node && isFunction(node.init)) return named.id.name
  }
  return 'module'
}

function isFunction(node: unknown): boolean {
  return (
    typeof node === 'object' && node !== null && 'type' in node && (node.type === 'ArrowFunctionExpression' || node.type === 'FunctionExpression')
  )
}
