import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { findProblems } from '../scripts/check-threat-model.js'
import { FRAMEWORKS, ROWS } from '../scripts/threat-model/frameworks.js'
import { namedIn, resolve as resolveName, Sources } from '../scripts/threat-model/names.js'
import { notRun, type Results } from '../scripts/threat-model/ran.js'

const repository = resolve(import.meta.dirname, '..')

/** A folder with the document of this repository, or with tests to name. */
let root: string
const write = (path: string, text: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
}
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'threat-model-'))
})
afterEach(() => rmSync(root, { recursive: true }))

describe('the threat model', () => {
  it('names tests that exist, and answers every item', () => {
    expect(findProblems(repository)).toEqual([])
  })
})

const SUITE = `
import { describe, it, test } from '@jest/globals'
import { shared } from './shared.js'
describe('a lease', () => {
  it('is given', () => {})
  it("is not another's", async () => {})
  it.each(['complete', 'fail'])('ends on %s', (how) => {})
  it.each\`how\${1}\`('ends by $how, too', () => {})
  describe.each([1])('of %s tasks', () => {
    it(\`is closed in \${COUNT} ways\`, () => {})
    it.each(rows)('%s', () => {})
  })
  it.each(['day'])('lasts a %s', () => {})
  it('lasts a day, not two', () => {})
  it.skip('is never', () => {})
  it('is ' + 'joined', () => {})
})
describe('a task', () => {
  it('is given', () => {})
  xit('is not', () => {})
  test.todo('is later')
})
const whereOpa = process.env.OPA ? it : it.skip
whereOpa('an engine agrees', () => {})
describe.skip('a room', () => { it('is shut', () => {}) })
const notATest = compute('is no test', () => {})
`
const SHARED = "export function shared() { it('holds for all', () => {}) }"

describe('the name of a test', () => {
  beforeEach(() => {
    write('test/a.test.ts', SUITE)
    write('test/shared.ts', SHARED)
  })
  const answer = (reference: string): unknown => {
    const [named, ...more] = namedIn('docs/page.md', reference)
    if (!named || more.length > 0) throw new Error('one reference')
    const found = resolveName(named, new Sources(root))
    return 'wrong' in found ? found.wrong : found.means.map(({ raw }) => raw)
  }

  it.each([
    ['as it is written', '`test/a.test.ts` › "is not another\'s"', ["is not another's"]],
    ['by its beginning', '`test/a.test.ts` › "is not ano"', ["is not another's"]],
    ['as each is written', '`test/a.test.ts` › "ends on %s"', ['ends on %s']],
    ['as each is called', '`test/a.test.ts` › "ends on complete"', ['ends on %s']],
    ['as each of a table is called', '`test/a.test.ts` › "ends by itself, too"', ['ends by $how, too']],
    ['with what running puts in', '`test/a.test.ts` › "is closed in 1000 ways"', ['is closed in {} ways']],
    ['with what is around it', '`test/a.test.ts` › "a task" › "is given"', ['is given']],
    ['inside of an each', '`test/a.test.ts` › "of 3 tasks" › "is closed"', ['is closed in {} ways']],
    ['all that is inside', '`test/a.test.ts` › "a lease"', ['a lease']],
    ['in two pieces', '`test/a.test.ts` › "is joined"', ['is joined']],
    ['by another name of "it"', '`test/a.test.ts` › "an engine agrees"', ['an engine agrees']],
    ['in what it imports', '`test/a.test.ts` › "holds for all"', ['holds for all']],
    ['all that begin so', '`test/a.test.ts` › "is given…"', ['is given', 'is given']],
    ['a file', '`test/a.test.ts`', []],
  ])('is found %s', (_what, reference, raw) => {
    expect(answer(reference)).toEqual(raw)
  })

  it.each([
    ['a file that is not there', '`test/b.test.ts` › "is given"', 'test/b.test.ts does not exist'],
    ['a title that is not there', '`test/a.test.ts` › "is taken"', 'has no test "is taken"'],
    ['the end of a title', '`test/a.test.ts` › "another\'s"', 'has no test'],
    ['a title elsewhere', '`test/a.test.ts` › "a task" › "is not another\'s"', 'has no test'],
    ['two that are called so', '`test/a.test.ts` › "is given"', 'has 2 tests "is given"'],
    ['what may be a beginning or a value', '`test/a.test.ts` › "lasts a day"', 'has 2 tests "lasts a day"'],
    ['nothing that begins so', '`test/a.test.ts` › "was…"', 'has no test'],
    ['what is skipped', '`test/a.test.ts` › "is never"', 'skips "is never"'],
    ['what is skipped by an x', '`test/a.test.ts` › "a task" › "is not"', 'skips'],
    ['what is yet to come', '`test/a.test.ts` › "is later"', 'skips'],
    ['what is inside of what is skipped', '`test/a.test.ts` › "is shut"', 'skips'],
    ['what only looks like a test', '`test/a.test.ts` › "is no test"', 'has no test'],
    ['a value alone, which would be anything', '`test/a.test.ts` › "of 3 tasks" › "whatever you like"', 'has no test'],
  ])('is wrong for %s', (_what, reference, wrong) => {
    expect(answer(reference)).toContain(wrong)
  })

  it('is one of several in a line, each where it stands', () => {
    const text = 'x\n| `test/a.test.ts` › "one, two" › "three", › “with "quotes"” and `test/b.test.ts` › "a \\| b" |'
    expect(namedIn('docs/page.md', text)).toEqual([
      { at: 'docs/page.md:2', file: 'test/a.test.ts', titles: ['one, two', 'three'] },
      { at: 'docs/page.md:2', file: 'test/a.test.ts', titles: ['with "quotes"'] },
      { at: 'docs/page.md:2', file: 'test/b.test.ts', titles: ['a | b'] },
    ])
  })
})

describe('a document in which something is wrong', () => {
  const [framework] = FRAMEWORKS
  const page = framework?.page ?? ''
  const good = (heads = framework?.items.map(([id, name]) => `${id} ${name}`) ?? []) =>
    heads.map((head) => `### ${head}\n**Partly covered.**\n- \`test/a.test.ts\` › "holds"\n\nNot covered: the rest.\n\n`).join('')
  const rows = (count: number, cell = '`test/a.test.ts` › "holds"') =>
    Array.from({ length: count }, (_, index) => `| ${index + 1} | asked | answer | ${cell} |\n`).join('')
  const about = (part: string) => findProblems(root).filter((line) => line.includes(part))
  beforeEach(() => {
    write('test/a.test.ts', "it('holds', () => {})")
    write('docs/threat-model.md', '')
    write(page, good())
    write(ROWS.page, rows(ROWS.count))
  })

  it('is told of nothing where nothing is', () => {
    expect(about(page)).toEqual([])
    expect(about(ROWS.page)).toEqual([])
  })

  it.each<[string, (text: string) => string, string]>([
    ['an item that is missing', (text) => text.replace('### ASI04 Agentic Supply Chain Vulnerabilities', 'ASI04'), 'has no heading "### ASI04'],
    ['an item of another name', (text) => text.replace('ASI04 Agentic', 'ASI04 Some'), 'has no heading "### ASI04'],
    ['an item too many', (text) => `${text}### ASI11 Another\n**Not covered.**\nNot covered: it.\n`, 'too many: "ASI11 Another"'],
    ['an item twice', (text) => text + text.slice(0, text.indexOf('### ASI02')), 'too many: "ASI01'],
    ['an item that does not say how it stands', (text) => text.replace('**Partly covered.**', 'Fine.'), 'begins with none of'],
    ['an item that hides what is not covered', (text) => text.replace('Not covered: the rest.', ''), 'has no line "Not covered: …"'],
    ['an item that is covered and is not', (text) => text.replace('**Partly covered.**', '**Covered.**'), 'is called covered and says what is not'],
    ['an item without a test', (text) => text.replace('- `test/a.test.ts` › "holds"', 'Believe it.'), 'names no test'],
    ['an item with a file alone', (text) => text.replace(' › "holds"', ''), 'names no test'],
    ['a test that is not there', (text) => text.replace('› "holds"', '› "held"'), 'has no test "held"'],
    ['data that is not there', (text) => `${text}See \`test/policy/none.json\`.`, 'names test/policy/none.json, which does not exist'],
  ])('is told of %s', (_what, planted, complaint) => {
    write(page, planted(good()))
    expect(about(page)).toContainEqual(expect.stringContaining(complaint))
  })

  it('is told of rows that are missing, there twice, too many or empty', () => {
    write(ROWS.page, rows(ROWS.count - 1))
    expect(about(ROWS.page)).toEqual([expect.stringContaining(`has not one row ${ROWS.count}`)])
    write(ROWS.page, rows(ROWS.count + 1))
    expect(about(ROWS.page)).toEqual([expect.stringContaining(`too many: ${ROWS.count + 1}`)])
    write(ROWS.page, rows(ROWS.count) + rows(1))
    expect(about(ROWS.page)).toEqual([expect.stringContaining('has not one row 1')])
    write(ROWS.page, rows(ROWS.count, 'surely'))
    expect(about(ROWS.page)).toHaveLength(ROWS.count)
    write(ROWS.page, rows(ROWS.count, 'not yet'))
    expect(about(ROWS.page)).toEqual([])
  })

  it('is told of a test that is called after a row which does not name it', () => {
    write(`${ROWS.tests}/b.test.ts`, "describe('requirement 07: of the field', () => { it('holds', () => {}) })")
    expect(about(ROWS.page)).toEqual([expect.stringContaining(`row 7 does not name its test in ${ROWS.tests}/b.test.ts: › "requirement 07: …"`)])
    write(
      ROWS.page,
      rows(ROWS.count, 'not yet').replace(
        '| 7 | asked | answer | not yet',
        `| 7 | asked | answer | \`${ROWS.tests}/b.test.ts\` › "requirement 07: …"`,
      ),
    )
    expect(about(ROWS.page)).toEqual([])
  })
})

describe('after a run', () => {
  const results = (...tests: [ancestorTitles: string[], title: string, status: string][]): Results => ({
    testResults: [
      {
        testFilePath: join(root, 'test/a.test.ts'),
        testResults: tests.map(([ancestorTitles, title, status]) => ({ ancestorTitles, title, status })),
      },
    ],
  })
  beforeEach(() => {
    write('test/a.test.ts', SUITE)
    write('test/shared.ts', SHARED)
    mkdirSync(join(root, 'docs/threat-model'), { recursive: true })
  })
  const naming = (text: string) => write('docs/threat-model.md', text)

  it('nothing is told of tests that passed, and of those that failed jest tells itself', () => {
    naming('`test/a.test.ts` › "ends on %s", › "a task" › "is given", › "holds for all", `test/a.test.ts` › "of 3 tasks"')
    const ran = results(
      [['a lease'], 'ends on complete', 'passed'],
      [['a lease'], 'ends on fail', 'failed'],
      [['a lease'], 'is never', 'pending'],
      [['a task'], 'is given', 'passed'],
      [['put around it'], 'holds for all', 'passed'],
      [['a lease', 'of 3 tasks'], 'whatever', 'passed'],
    )
    expect(notRun(root, ran, { shard: false, ci: false })).toEqual([])
  })

  it('a test that did not run is told, and one of each that was skipped', () => {
    naming('`test/a.test.ts` › "ends on %s", › "ends on complete", › "a task" › "is given"')
    const ran = results([['a lease'], 'ends on complete', 'passed'], [['a lease'], 'ends on fail', 'pending'], [['a lease'], 'is given', 'passed'])
    expect(notRun(root, ran, { shard: false, ci: false })).toEqual([
      'docs/threat-model.md:1: 1 of 2 were skipped: test/a.test.ts › "ends on %s"',
      'docs/threat-model.md:1: no such test ran: test/a.test.ts › "a task" › "is given"',
    ])
  })

  it('a test may be skipped for what it is said to need, but not in CI, and it is no other that may', () => {
    naming('`test/a.test.ts` › "an engine agrees" (needs OPA), › "a task" › "is given"')
    const ran = (status: string) => results([[], 'an engine agrees', status], [['a task'], 'is given', 'passed'])
    expect(notRun(root, ran('pending'), { shard: false, ci: false })).toEqual([])
    expect(notRun(root, ran('pending'), { shard: false, ci: true })).toEqual([expect.stringContaining('1 of 1 were skipped')])
    expect(notRun(root, ran('passed'), { shard: false, ci: true })).toEqual([])
    const other = results([[], 'an engine agrees', 'passed'], [['a task'], 'is given', 'pending'])
    expect(notRun(root, other, { shard: false, ci: false })).toEqual([expect.stringContaining('› "a task" › "is given"')])
  })

  it('a file that did not run is told, but in a shard, which answers for its own files', () => {
    naming('`test/a.test.ts` › "a task" › "is given", `test/shared.ts`')
    const ran = results([['a task'], 'is given', 'todo'])
    expect(notRun(root, ran, { shard: false, ci: false })).toHaveLength(2)
    expect(notRun(root, ran, { shard: true, ci: false })).toEqual([expect.stringContaining('1 of 1 were skipped')])
  })
})

describe('a run of jest', () => {
  beforeEach(() => {
    write('test/a.test.ts', "test('holds', () => {})\nconst there = process.env.NOWHERE ? test : test.skip\nthere('waits', () => {})\n")
    write('test/b.test.ts', "test('holds, too', () => {})\n")
    mkdirSync(join(root, 'docs/threat-model'), { recursive: true })
  })
  const run = (naming: string, ...options: string[]) => {
    write('docs/threat-model.md', naming)
    const reporter = [join(repository, 'scripts/named-tests.js'), { root }]
    const config = JSON.stringify({
      rootDir: root,
      testMatch: ['**/*.test.ts'],
      transform: {},
      reporters: [reporter],
      haste: { forceNodeFilesystemAPI: true },
    })
    const jest = join(repository, 'node_modules/jest/bin/jest.js')
    const { status, stderr } = spawnSync(process.execPath, [jest, '--config', config, '--runInBand', '--watchman=false', ...options], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, CI: '' },
    })
    return { status, stderr }
  }

  it('passes where every named test ran', () => {
    expect(run('`test/a.test.ts` › "holds", `test/b.test.ts` › "holds, too"')).toMatchObject({ status: 0 })
  })

  it('fails where a named test was skipped or did not run', () => {
    const skipped = run('`test/a.test.ts` › "waits"')
    expect(skipped.stderr).toContain('1 of 1 were skipped: test/a.test.ts › "waits"')
    expect(skipped.status).toBe(1)
    const ignored = run('`test/b.test.ts` › "holds, too"', '--testPathIgnorePatterns', 'b.test')
    expect(ignored.stderr).toContain('test/b.test.ts did not run')
    expect(ignored.status).toBe(1)
  })

  it('of some files, or by name, answers for nothing; of a shard for its own', () => {
    expect(run('`test/b.test.ts` › "holds, too"', 'a.test')).toMatchObject({ status: 0 })
    expect(run('`test/b.test.ts` › "holds, too"', '-t', 'holds$')).toMatchObject({ status: 0 })
    const shards = ['1/2', '2/2'].map((shard) => run('`test/a.test.ts` › "waits", `test/b.test.ts` › "holds, too"', '--shard', shard).status)
    expect(shards.sort()).toEqual([0, 1])
  })
})
