import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { openLedger } from '../../src/ledger/index.js'
import type { Ledger } from '../../src/ledger/ledger.js'
import { type Fixture, startLedger } from './fixture.js'
import { begin, commands, drain } from './model.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const RUNS = 300

function property(ledger: Ledger) {
  return fc.asyncProperty(fc.commands(commands, { maxCommands: 40, size: 'max' }), async (sequence) => {
    const { model, real } = await begin(ledger, fixture.redis)
    await fc.asyncModelRun(() => ({ model, real }), sequence)
    await drain(model, real)
  })
}

/** The built ledger with one script changed. */
async function defective(script: string, change: (lua: string) => string): Promise<{ ledger: Ledger; remove: () => Promise<void> }> {
  await mkdir('.cache', { recursive: true })
  const folder = await mkdtemp(join('.cache', 'defect-'))
  await cp('dist', folder, { recursive: true })
  const path = join(folder, 'ledger/lua', script)
  const lua = await readFile(path, 'utf8')
  const changed = change(lua)
  if (changed === lua) throw new Error(`${script} has no longer what was to be broken in it`)
  await writeFile(path, changed)
  const built = (await import(pathToFileURL(join(folder, 'ledger/index.js')).href)) as { openLedger: typeof openLedger }
  const { socketPath } = fixture.redis
  const options = { instance: 'test', partitions: 4, durability: 'strict', settledRetentionSeconds: 3600, outboxLimit: 100_000 } as const
  const ledger = await built.openLedger({
    ...options,
    redis: { socketPath },
    createMeta: true,
    visibilityMs: 30_000,
    skewMarginMs: 0,
    taskCacheSize: 100,
  })
  return {
    ledger,
    remove: async () => {
      await ledger.disconnect()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

describe('the scripts, beside a plain model of them', () => {
  it('do what the model does in any sequence of calls, and in the end nothing is left upstream', async () => {
    await fc.assert(property(fixture.ledger), { numRuns: RUNS })
  }, 120_000)

  it.each([
    ['activate that believes what reserve saw', 'activate.lua', (lua: string) => lua.replace('if cause then\n', 'if cause and false then\n')],
    ['an "absent" that always settles', 'settle.lua', (lua: string) => lua.replace('record.sn and attempt > tonumber(record.sn)', 'true')],
    [
      'an orphan that is believed to be gone by who revoked what was there before',
      'settle.lua',
      (lua: string) => lua.replace("record.ca ~= 'orphan' or attempt", 'true or attempt'),
    ],
    ['an end that forgets what is pending', 'lib/tree.lua', (lua: string) => lua.replace('if record then', "if record and record.s == 'a' then")],
  ])(
    'would show %s',
    async (_what, script, change) => {
      const { ledger, remove } = await defective(script, change)
      try {
        // It ends with the first that shows it; the rarest takes a few hundred.
        const found = await fc.check(property(ledger), { numRuns: 10 * RUNS, endOnFailure: true })
        expect(found.failed).toBe(true)
        // Found by what it does, not by being no Lua any more.
        expect(String(found.errorInstance)).not.toContain('ReplyError')
      } finally {
        await remove()
      }
    },
    120_000,
  )
})
