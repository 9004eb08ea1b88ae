import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { defineScript } from '../../src/ledger/script.js'
import { startRedis, type TestRedis } from '../support/redis.js'

const HEADER = '-- Adds.\n-- key: sum\n-- args: left:number right:number\n-- answer: the sum\n-- event: none\n'
let redis: TestRedis
let folder: URL
let path: string

beforeAll(async () => {
  redis = await startRedis()
  path = await mkdtemp(join(tmpdir(), 'mayfly-lua-'))
  folder = pathToFileURL(`${path}/`)
  await mkdir(join(path, 'lib'))
  await writeFile(join(path, 'lib', 'outer.lua'), '-- include: inner\nlocal function outer(x) return inner(x) end\n')
  await writeFile(join(path, 'lib', 'inner.lua'), 'local function inner(x) return x * 2 end\n')
  await write('add', `#!lua\n${HEADER}return left + right\n`)
})
afterAll(async () => {
  await redis.stop()
  await rm(path, { recursive: true })
})

const write = (name: string, text: string) => writeFile(join(path, `${name}.lua`), text)

describe('a script', () => {
  it('gets its arguments by name and type', async () => {
    const add = defineScript('add', 'sum', ['left', 'right'], { folder })
    expect(await add.run(redis.client, 'k', { right: 2, left: '40' })).toBe(42)
  })

  it('is not loaded when the call names something else than its header', () => {
    const define = (key: string, args: readonly string[], rest?: string) => () => defineScript('add', key, args, { folder, rest })
    expect(define('sum', ['left', 'wrong'])).toThrow('its header states args "left right", it is called with "left wrong"')
    expect(define('sum', ['right', 'left'])).toThrow('args')
    expect(define('sum', ['left'])).toThrow('args')
    expect(define('lease', ['left', 'right'])).toThrow('key')
    expect(define('sum', ['left', 'right'], 'more')).toThrow('rest')
  })

  it('is not loaded without a whole header', async () => {
    await write('flagless', HEADER)
    expect(() => defineScript('flagless', 'sum', ['left', 'right'], { folder })).toThrow('#!lua')
    await write('silent', `#!lua\n${HEADER.replace('-- event: none\n', '')}return 1`)
    expect(() => defineScript('silent', 'sum', ['left', 'right'], { folder })).toThrow('event')
  })

  it('takes in each library once, after what it needs', async () => {
    await write('twice', `#!lua\n${HEADER}-- include: outer inner\nreturn outer(left)\n`)
    const twice = defineScript('twice', 'sum', ['left', 'right'], { folder })
    expect(await twice.run(redis.client, 'k', { left: 21, right: 0 })).toBe(42)
    expect(twice.source.match(/local function inner/g)).toHaveLength(1)
  })

  it('finds what follows its arguments', async () => {
    await write('tail', `#!lua\n${HEADER.replace('-- answer', '-- rest: words\n-- answer')}return ARGV[rest] .. #ARGV\n`)
    const tail = defineScript('tail', 'sum', ['left', 'right'], { folder, rest: 'words' })
    expect(await tail.run(redis.client, 'k', { left: 1, right: 2 }, ['first', 'second'])).toBe('first4')
  })

  it('teaches a Redis that forgot it', async () => {
    const add = defineScript('add', 'sum', ['left', 'right'], { folder })
    await redis.client.script('FLUSH')
    expect(await add.run(redis.client, 'k', { left: 1, right: 2 })).toBe(3)
  })
})

describe('the scripts of the ledger', () => {
  const lua = new URL('../../src/ledger/lua/', import.meta.url)

  it('that narrow run in a full Redis, and those that issue do not', async () => {
    const flags = new Map<string, boolean>()
    for (const name of (await readdir(lua)).filter((file) => file.endsWith('.lua'))) {
      const [shebang = ''] = (await readFile(new URL(name, lua), 'utf8')).split('\n')
      flags.set(name.replace('.lua', ''), shebang.includes('allow-oom'))
    }
    const narrowing = ['activate', 'claim', 'close', 'close-matching', 'end-task', 'freeze', 'open-revocation', 'settle', 'withdraw']
    for (const name of narrowing) expect([name, flags.get(name)]).toEqual([name, true])
    for (const name of ['open-task', 'reserve', 'grant', 'renew', 'record', 'init']) expect([name, flags.get(name)]).toEqual([name, false])
  })
})
