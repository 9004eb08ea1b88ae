import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { providers } from '../src/providers/index.js'
import { MATRIX_HEAD, pageOf, REASONS_HEAD, reasonsSection, rowOf, type Told } from '../test/providers/facts.js'

/**
 * `npm run providers`: holds every provider to the contract suite and prints the matrix. `--json` prints one object, `--write` brings the
 * copies in the README and on the providers' pages up to date.
 */
const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, write: { type: 'boolean', default: false } } })
const root = join(import.meta.dirname, '..')
const folder = await mkdtemp(join(tmpdir(), 'mayfly-providers-'))
try {
  const code = await runSuite(folder)
  const told = await read(folder)
  const missing = providers.map(({ type }) => type).filter((type) => !told.some((one) => one.type === type))
  if (values.write) await Promise.all([writeReadme(told), ...providers.map(({ type }) => writePage(type, told))])
  process.stdout.write(values.json ? `${JSON.stringify({ providers: byType(told) }, null, 2)}\n` : `${matrix(told).join('\n')}\n`)
  for (const type of missing) process.stderr.write(`${type}: its run of the contract suite did not get as far as to tell of itself\n`)
  process.exitCode = missing.length > 0 || told.some(({ failed }) => failed > 0) || (code !== 0 && !values.write) ? 1 : 0
} finally {
  await rm(folder, { recursive: true, force: true })
}

/** What it prints is for people, and goes to where errors go. */
function runSuite(facts: string): Promise<number | null> {
  const jest = [
    '--experimental-vm-modules',
    '--no-warnings=ExperimentalWarning',
    'node_modules/jest/bin/jest.js',
    'contract.test',
    '--reporters=default',
  ]
  const child = spawn(process.execPath, jest, { cwd: root, stdio: ['ignore', 2, 2], env: { ...process.env, MAYFLY_CONTRACT_FACTS: facts } })
  return new Promise((resolve, reject) => child.once('error', reject).once('exit', resolve))
}

async function read(facts: string): Promise<Told[]> {
  const told = await Promise.all((await readdir(facts)).map(async (name) => JSON.parse(await readFile(join(facts, name), 'utf8')) as Told))
  const order = providers.map(({ type }) => type)
  return told.sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type) || (a.mode ?? '').localeCompare(b.mode ?? ''))
}

/** One entry a provider: where it has several modes, the first one's with the counts of all, and each in `modes`. */
function byType(told: readonly Told[]): object[] {
  return [...new Set(told.map(({ type }) => type))].map((type) => {
    const modes = told.filter((one) => one.type === type)
    const [first] = modes
    const sum = (field: 'passed' | 'failed' | 'not_applicable') => modes.reduce((total, one) => total + one[field], 0)
    const { mode: _mode, cases: _cases, reasons: _reasons, ...rest } = first ?? ({} as Told)
    return {
      ...rest,
      passed: sum('passed'),
      failed: sum('failed'),
      not_applicable: sum('not_applicable'),
      ...(modes.length > 1 && { modes: modes.map(({ reasons: _, ...one }) => one) }),
    }
  })
}

function matrix(told: readonly Told[]): string[] {
  return [...MATRIX_HEAD, ...told.map((one) => rowOf({ ...one, cases: one.passed }))]
}

async function writeReadme(told: readonly Told[]): Promise<void> {
  const file = join(root, 'README.md')
  const lines = (await readFile(file, 'utf8')).split('\n')
  const start = lines.indexOf(MATRIX_HEAD[0])
  if (start < 0) throw new Error('README.md has no matrix to bring up to date: its first line is missing')
  const length = lines.slice(start).findIndex((line) => !line.startsWith('|'))
  lines.splice(start, length, ...matrix(told))
  await writeFile(file, lines.join('\n'))
}

/** The section with the reasons, where it stands or at the end. */
async function writePage(type: string, told: readonly Told[]): Promise<void> {
  const runs = told.filter((one) => one.type === type)
  if (runs.length === 0) return
  const lines = (await pageOf(type)).trimEnd().split('\n')
  const start = lines.indexOf(REASONS_HEAD)
  const at = start < 0 ? lines.length : start
  const length = lines.slice(at + 1).findIndex((line) => line.startsWith('## '))
  const count = length < 0 ? lines.length : length + 1
  const after = lines.slice(at, at + count).length > 0 && length >= 0 ? [''] : []
  lines.splice(at, count, ...(start < 0 ? [''] : []), ...reasonsSection(runs), ...after)
  await writeFile(join(root, 'docs', 'providers', `${type}.md`), `${lines.join('\n')}\n`)
}
