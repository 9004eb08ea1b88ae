import { readdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { allScripts } from '../../src/ledger/script.js'
import { doEverything } from './every-script.js'
import { type Fixture, startLedger } from './fixture.js'

/** A call of a script as it was sent: its SHA, its key and its arguments. */
interface Call {
  readonly script: string
  readonly key: string
  readonly args: readonly string[]
}

/** One text of all that the database holds, lives included; without what is about to pass by itself. */
const DIGEST = `#!lua flags=no-writes
local keys = redis.call('KEYS', '*')
table.sort(keys)
local all = {}
for _, key in ipairs(keys) do
  local left = redis.call('PTTL', key)
  if left < 0 or left > 60000 then all[#all + 1] = redis.sha1hex(key .. redis.call('DUMP', key) .. redis.call('PEXPIRETIME', key)) end
end
return redis.sha1hex(table.concat(all))`

const ODD = [
  ...['', '0', '-1', '1', '1.5', '-0', '1e3', '0x10', ' 7 ', '1e308', '-1e308', 'inf', '-inf', 'nan', '9007199254740993', '99999999999999999999'],
  ...[
    'abc',
    '*',
    '?',
    '%',
    '%s',
    '=',
    '&',
    ':',
    'a b',
    'id\n',
    '\0',
    '\u2028',
    '{p00}',
    '../x',
    'all',
    'shapes',
    'live',
    '__proto__',
    'é'.repeat(40),
  ],
  ...['{}', '[]', '[', '{"a":', 'null', 'true', '"x"', '[1,2]', '{"tokenIssuedAt":"x"}', '{"agent":1}', '[null]', '"\\ud800"', '['.repeat(2000)],
  'x'.repeat(70_000),
]

const SEED = Number(process.env.SEED ?? 20_261_129)
const RUNS = Number(process.env.RUNS ?? 1_200)
/** Between two restarts from the same data: what succeeds changes it. */
const RESTORE_EVERY = 100

/** `mf:{p03}:lease:…` -> `lease` */
const kindOf = (key: string) => key.replace(/^mf:\{p\d\d\}:/, '').split(':')[0]

describe('scripts', () => {
  let fixture: Fixture
  let calls: readonly Call[]
  let restore: () => Promise<void>
  const names = new Map(allScripts().map(({ name, sha }) => [sha, name]))
  beforeAll(async () => {
    const sent: Call[] = []
    const evalsha = Redis.prototype.evalsha
    const spy = jest.spyOn(Redis.prototype, 'evalsha').mockImplementation(function (this: Redis, ...all: never[]) {
      const [sha, , key, ...args] = (all as unknown[]).map(String)
      if (sha && key) sent.push({ script: names.get(sha) ?? sha, key, args })
      return Reflect.apply(evalsha, this, all)
    } as never)
    fixture = await startLedger()
    await doEverything(fixture)
    spy.mockRestore()
    calls = sent
    const { client } = fixture.redis
    const kept = await Promise.all((await client.keys('*')).map(async (key) => [key, await client.dumpBuffer(key), await client.pttl(key)] as const))
    restore = async () => {
      await client.flushdb()
      await Promise.all(kept.map(([key, value, ttl]) => value && client.restore(key, Math.max(0, ttl), value)))
    }
  }, 30_000)
  afterAll(() => fixture.stop())

  it('are all tried', () => {
    const files = readdirSync('src/ledger/lua').flatMap((file) => (file.endsWith('.lua') ? [file.slice(0, -4)] : []))
    expect(files.filter((name) => !calls.some(({ script }) => script === name))).toEqual([])
  })

  it('given what they never get answer or refuse, and where they fail they have written nothing', async () => {
    const { client } = fixture.redis
    const shas = new Map([...names].map(([sha, name]) => [name, sha]))
    const known = [...new Set(calls.flatMap(({ args }) => args))]
    const keys = [...new Set(calls.map(({ key }) => key))]
    /** Another of its kind, or one that is not there. */
    const keyFor = (key: string, n: number) => {
      const kind = kindOf(key)
      const same = [...keys.filter((one) => kindOf(one) === kind), `${key}x`]
      return same[n % same.length] ?? key
    }
    const byScript = [...new Set(calls.map(({ script }) => script))].map((script) => calls.filter((call) => call.script === script))
    const word = fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...ODD) },
      { weight: 3, arbitrary: fc.constantFrom(...known) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }) },
    )
    const change = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({ at: fc.nat(60), to: word }).map(
          ({ at, to }) =>
            (args: string[]) =>
              args.map((arg, n) => (n === at % args.length ? to : arg)),
        ),
      },
      { weight: 1, arbitrary: fc.nat(60).map((at) => (args: string[]) => args.slice(0, at % (args.length + 1))) },
      { weight: 1, arbitrary: word.map((one) => (args: string[]) => [...args, one]) },
      {
        weight: 1,
        arbitrary: fc.tuple(fc.nat(60), fc.nat(60)).map(
          ([a, b]) =>
            (args: string[]) =>
              args.map((arg, n) => (n === a % args.length ? (args[b % args.length] ?? '') : arg)),
        ),
      },
    )
    const fuzzed = fc.record({
      call: fc.constantFrom(...byScript).chain((some) => fc.constantFrom(...some)),
      key: fc.option(fc.nat(100), { freq: 6, nil: undefined }),
      changes: fc.array(change, { minLength: 1, maxLength: 3 }),
    })
    let runs = 0
    await fc.assert(
      fc.asyncProperty(fuzzed, async ({ call, key, changes }) => {
        if (runs++ % RESTORE_EVERY === 0) await restore()
        const args = changes.reduce((now, one) => one(now), [...call.args])
        const before = await client.eval(DIGEST, 0)
        const error = await client.evalsha(shas.get(call.script) ?? '', 1, key === undefined ? call.key : keyFor(call.key, key), ...args).then(
          () => undefined,
          (thrown: unknown) => String(thrown),
        )
        if (error === undefined) return
        const after = await client.eval(DIGEST, 0)
        if (after !== before) {
          const differs = args.flatMap((arg, n) => (arg === call.args[n] ? [] : [`${n}: ${JSON.stringify(arg.slice(0, 60))}`]))
          throw new Error(`${call.script} wrote before it failed: ${error}; ${differs.join(', ')}`)
        }
      }),
      { numRuns: RUNS, seed: SEED },
    )
  }, 400_000)
})
