import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join, posix, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseSync } from '@swc/core'

/**
 * Who may import whom. Every file of src belongs to one room: a folder, or a file's name. Files of one room may import each other; beyond
 * that only what its line says. `types` is what may be named by `import type`, which is gone at run time; `values` may be imported as such
 * (and their types). `room: [names]` allows those values alone. A new folder or top-level file needs a line of its own here.
 */
interface Arrows {
  /** Top-level files that make up the room; absent: the folder or the file that the room is named after. */
  readonly files?: readonly string[]
  readonly values?: readonly string[]
  readonly types?: readonly string[]
  readonly only?: Readonly<Record<string, readonly string[]>>
}
const DOMAINS = ['identity', 'policy', 'ledger', 'providers', 'audit', 'signals'] as const
const COMMON = ['types', 'errors'] as const
const ROOMS: Readonly<Record<string, Arrows>> = {
  types: {},
  errors: {},
  'stream-id': {},
  api: {},
  metrics: {},

  identity: { values: COMMON },
  policy: { values: COMMON },
  ledger: { values: [...COMMON, 'stream-id'] },
  providers: { values: COMMON },
  audit: { values: [...COMMON, 'stream-id'] },
  signals: { values: COMMON },

  paths: {
    files: [
      ...[
        'issue',
        'renew',
        'authorize',
        'refusals',
        'task',
        'revoke',
        'emergency',
        'revocation-report',
        'persons',
        'thaw',
        'sweeper',
        'agents',
        'reach',
        'context',
        'delegate',
        'review',
        'canary',
        'drill',
        'reconcile',
        'reconcile-timer',
        'compare',
        'take-back',
      ],
      ...[
        'house',
        'event',
        'envelope',
        'upstream',
        'revoke-places',
        'background',
        'breath',
        'step-up',
        'approvals',
        'policy-input',
        'prospect',
        'on-behalf',
        'risk',
        'agent-risk',
        'reach-then',
        'quarantine',
        'reapply',
      ],
      ...['call-tool', 'caller', 'on-deny', 'toolbox', 'classify', 'reclassify'],
    ],
    values: [...COMMON, 'metrics'],
    types: [...DOMAINS, 'sealing'],
    only: { providers: ['ProviderError'], policy: ['documentOf'] },
  },
  signer: { types: ['providers'] },
  sealing: { types: COMMON },
  http: { values: ['paths', 'api', ...COMMON], types: ['metrics', 'identity', 'policy', 'ledger', 'audit', 'providers', 'signer'] },

  // A configuration is checked against what the domains say they can be configured with, before any of them is opened.
  config: {
    files: ['config', 'config-schema', 'config-references', 'config-policy', 'config-issuers', 'config-ledger', 'config-services'],
    values: [...COMMON, 'providers', 'signer', 'sealing'],
    types: ['paths', 'identity', 'policy', 'ledger', 'signals'],
    only: { identity: ['ALGORITHMS'] },
  },
  // One snapshot of what a configuration names; broker starts, reloads and stops with it.
  furnish: { values: [...DOMAINS, ...COMMON, 'paths', 'signer', 'sealing', 'config'] },
  broker: {
    files: ['broker', 'simulations', 'history'],
    values: [...DOMAINS, ...COMMON, 'paths', 'http', 'metrics', 'signer', 'sealing', 'config', 'furnish'],
  },

  contain: { types: ['paths'] },
  'thread-priority': {},
  serve: { values: ['config', 'broker', 'contain', 'thread-priority'] },
  // Mints and takes back through the paths of a broker that serves nobody.
  rehearse: { values: [...COMMON, 'paths', 'broker'], types: ['config'] },
  // Says what is wrong with a configuration and all that it names: opens each domain by itself, as the broker would.
  doctor: { values: [...DOMAINS, ...COMMON, 'signer', 'sealing', 'config'] },
  // Tries a provider of somebody else's against the wire contract, as Mayfly would call it and as it never would.
  conformance: { values: [...COMMON, 'providers', 'signer'] },
  // Reads policies as a broker would, where no broker runs.
  'policy-tools': { values: ['policy', 'config', 'cli'], only: { identity: ['openChannel'] } },
  dev: { values: [...COMMON, 'signer', 'sealing', 'config', 'broker'] },

  client: { types: ['api'] },
  cli: { values: ['client'], types: ['api'] },
  main: {
    values: [
      ...COMMON,
      'cli',
      'serve',
      'rehearse',
      'doctor',
      'policy-tools',
      'conformance',
      'dev',
      'broker',
      'config',
      'ledger',
      'signer',
      'sealing',
    ],
  },
}
/** The only file that may read the environment and the command line. */
const READS_PROCESS = 'main'

interface Import {
  readonly specifier: string
  readonly kind: 'type' | 'value'
  /** What is named; undefined: everything, as with `import * as` and `import()`. */
  readonly names: readonly string[] | undefined
}

/** Every wrong arrow among the files of `root`/src, one readable line each; empty when the house is in order. */
export function findWrongImports(root: string): string[] {
  const src = resolve(root, 'src')
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.[cm]?tsx?$/.test(file))
  return files.sort().flatMap((file) => wrongIn(file.replaceAll('\\', '/'), readFileSync(join(src, file), 'utf8')))
}

function wrongIn(file: string, text: string): string[] {
  const from = roomOf(file)
  if (from === undefined) return [`src/${file} belongs to no room: give it a line in scripts/check-imports.ts`]
  const { imports, process } = read(parseSync(text, { syntax: 'typescript', target: 'es2022' }))
  const wrong = from === READS_PROCESS ? [] : process.map((name) => `src/${file} mentions process.${name}: only src/main.ts may`)
  for (const one of imports) {
    if (!one.specifier.startsWith('.')) continue
    const target = posix.join(posix.dirname(file), one.specifier)
    const to = target.startsWith('../') ? undefined : roomOf(target)
    if (to === undefined) wrong.push(`src/${file} imports ${one.specifier}, which is no part of src`)
    else if (to !== from && !allowed(from, to, one)) wrong.push(`src/${file} imports ${one.specifier} as a ${one.kind}: ${may(from, to)}`)
  }
  return wrong
}

function roomOf(file: string): string | undefined {
  const [top = '', ...rest] = file.split('/')
  const name = rest.length > 0 ? top : top.replace(/\.[a-z]+$/, '')
  const shared = Object.entries(ROOMS).find(([, { files }]) => rest.length === 0 && files?.includes(name))
  if (shared) return shared[0]
  return Object.hasOwn(ROOMS, name) && !ROOMS[name]?.files ? name : undefined
}

function allowed(from: string, to: string, { kind, names }: Import): boolean {
  const { values = [], types = [], only = {} } = ROOMS[from] ?? {}
  if (values.includes(to)) return true
  if (kind === 'type') return types.includes(to)
  const some = only[to]
  return some !== undefined && names !== undefined && names.length > 0 && names.every((name) => some.includes(name))
}

function may(from: string, to: string): string {
  const { values = [], types = [], only = {} } = ROOMS[from] ?? {}
  if (only[to]) return `${from} may import only ${only[to].join(', ')} of ${to}, and its types by "import type"`
  if (types.includes(to)) return `${from} may know only the types of ${to}: write "import type"`
  return `${from} may import ${[...values, ...types.map((type) => `types of ${type}`)].join(', ') || 'nothing of ours'}`
}

/** All imports of a module (static, re-exported, dynamic, in types) and what of `process` it reads. */
function read(module: unknown): { imports: Import[]; process: string[] } {
  const imports: Import[] = []
  const process: string[] = []
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) for (const inner of node) visit(inner)
    if (!isNode(node) || Array.isArray(node)) return
    const source = text(node.source)
    if (node.type === 'ImportDeclaration' && source !== undefined) {
      imports.push(named(source, node))
      if (/^(node:)?process$/.test(source)) process.push(...namesOf(node).filter(isProcessInput))
    }
    if ((node.type === 'ExportNamedDeclaration' || node.type === 'ExportAllDeclaration') && source !== undefined) imports.push(named(source, node))
    if (node.type === 'TsImportType') imports.push({ specifier: text(node.argument) ?? '', kind: 'type', names: undefined })
    if (node.type === 'CallExpression' && isNode(node.callee) && node.callee.type === 'Import' && Array.isArray(node.arguments)) {
      const [argument] = node.arguments
      imports.push({ specifier: (isNode(argument) && text(argument.expression)) || '', kind: 'value', names: undefined })
    }
    if (node.type === 'MemberExpression' && isProcess(node.object)) process.push(...[propertyOf(node.property)].filter(isProcessInput))
    if (node.type === 'VariableDeclarator' && isProcess(node.init) && isNode(node.id) && Array.isArray(node.id.properties))
      process.push(...node.id.properties.map((property) => (isNode(property) ? text(property.key) : undefined)).filter(isProcessInput))
    for (const inner of Object.values(node)) if (typeof inner === 'object') visit(inner)
  }
  visit(module)
  return { imports, process }
}

type Node = Readonly<Record<string, unknown>>
function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null
}
/** The text of an identifier or of a string literal. */
function text(node: unknown): string | undefined {
  return isNode(node) && typeof node.value === 'string' ? node.value : undefined
}
/** `verbatimModuleSyntax` keeps `import { type A }` as an import at run time: only `import type` is gone. */
function named(specifier: string, node: Node): Import {
  const wildcard = node.type === 'ExportAllDeclaration' || specifiersOf(node).some((one) => /Namespace/.test(String(one.type)))
  return { specifier, kind: node.typeOnly === true ? 'type' : 'value', names: wildcard ? undefined : namesOf(node, true) }
}
function specifiersOf(node: Node): Node[] {
  return Array.isArray(node.specifiers) ? node.specifiers.filter(isNode) : []
}
function namesOf(node: Node, valuesOnly = false): string[] {
  return specifiersOf(node)
    .filter((one) => !valuesOnly || one.isTypeOnly !== true)
    .map((one) => text(one.imported) ?? text(one.orig) ?? text(one.local) ?? '')
}
function isProcess(node: unknown): boolean {
  if (!isNode(node)) return false
  return text(node) === 'process' || (node.type === 'MemberExpression' && propertyOf(node.property) === 'process')
}
function propertyOf(property: unknown): string | undefined {
  return text(property) ?? (isNode(property) ? text(property.expression) : undefined)
}
function isProcessInput(name: string | undefined): name is string {
  return name === 'env' || name === 'argv'
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const root = resolve(import.meta.dirname, '..')
  const wrong = findWrongImports(root)
  for (const line of wrong) console.error(line)
  if (wrong.length > 0) console.error(`${wrong.length} wrong imports; the table of who may import whom is in ${relative(root, process.argv[1])}`)
  process.exitCode = wrong.length > 0 ? 1 : 0
}
