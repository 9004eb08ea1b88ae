import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { messageOf } from './connection.js'

/**
 * Lua scripts with typed, named arguments. Each file states its contract in its header:
 *
 *     #!lua flags=allow-oom
 *     -- What it does, in a sentence or more.
 *     -- key: lease
 *     -- args: id event skew:number
 *     -- rest: providers
 *     -- answer: 0 | 1, record
 *     -- event: lease.closing
 *     -- include: clock record
 *
 * The arguments become Lua locals of these names; `:number` and `:integer` convert, and refuse what is none. `rest` names what may follow them, found in ARGV from
 * index `rest` on. `include` takes in files of `lua/lib`, each once. A call whose names differ from the header's fails when its
 * module is loaded, never at runtime.
 */
export interface Script<Arg extends string> extends Text {
  readonly name: string
  /** The same for a Cluster, where a slot may be on its way to another server. */
  readonly inCluster: Text
  /** It is refused with a full memory, and waits for freezes to be brought together: what neither reads alone nor narrows. */
  readonly widens: boolean
  /** It has a connection of its own, so that it waits for nothing that was sent before it. */
  readonly isUrgent: boolean
  /** Answer of the script as Redis sends it. */
  run(
    redis: Redis,
    key: string,
    args: Readonly<Record<Arg, string | number>>,
    rest?: readonly (string | number)[],
    inCluster?: boolean,
  ): Promise<unknown>
}
export interface Text {
  readonly source: string
  readonly sha: string
}

/**
 * A slot that is on its way is in two halves, and a script declares one key of all that it looks at: what it does not find would count as
 * absent, freezes too. A key that never exists is refused by Redis as long as its slot is on its way, on whichever side.
 */
const WHOLE = `if KEYS[1]:sub(1, 5) == 'mf:{p' and type(redis.pcall('EXISTS', KEYS[1]:sub(1, 9) .. 'no', KEYS[1]:sub(1, 9) .. 'none')) == 'table' then
  return redis.error_reply('TRYAGAIN the slot of this partition is on its way to another server')
end`

const FOLDER = new URL('./lua/', import.meta.url)
const loaded = new Map<string, Script<never>>()

/** Every script that some module defined, to be loaded ahead of use. */
export function allScripts(): readonly Omit<Script<never>, 'run'>[] {
  return [...loaded.values()]
}

export function defineScript<const Arg extends string>(
  name: string,
  key: string,
  args: readonly Arg[],
  options: { rest?: string; isUrgent?: boolean; folder?: URL } = {},
): Script<Arg> {
  const folder = options.folder ?? FOLDER
  const { header, body, shebang } = parse(readFileSync(new URL(`${name}.lua`, folder), 'utf8'), name)
  expectSame(name, 'key', [key], header.key)
  expectSame(
    name,
    'args',
    args,
    header.args.map((arg) => arg.name),
  )
  expectSame(name, 'rest', options.rest ? [options.rest] : [], header.rest)
  for (const told of ['answer', 'event'] as const) if (!header[told]) throw new Error(`ledger script ${name}: its header has no "${told}:" line`)

  const parts = [prologue(header), ...includes(header.include, folder, new Set()), body]
  const text = textOf([shebang, ...parts])
  const inCluster = textOf([shebang, WHOLE, ...parts])
  const script: Script<Arg> = {
    name,
    ...text,
    inCluster,
    widens: !shebang.includes('flags='),
    isUrgent: options.isUrgent ?? false,
    run: async (redis, keyName, values, rest, isCluster = false) => {
      const argv: (string | number)[] = []
      for (const arg of args) {
        const value = values[arg]
        if (value === undefined) throw new Error(`ledger script ${name}: argument "${arg}" is missing`)
        argv.push(value)
      }
      if (rest) argv.push(...rest)
      const { sha, source } = isCluster ? inCluster : text
      try {
        return await redis.evalsha(sha, 1, keyName, ...argv)
      } catch (error) {
        // A restarted or flushed Redis has forgotten its scripts; EVAL teaches it again.
        if (!messageOf(error).startsWith('NOSCRIPT')) throw error
        return await redis.eval(source, 1, keyName, ...argv)
      }
    },
  }
  loaded.set(name, script)
  return script
}

function textOf(parts: readonly string[]): Text {
  const source = parts.join('\n')
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

interface Header {
  readonly key: string[]
  readonly args: { name: string; type?: 'number' | 'integer' }[]
  readonly rest: string[]
  readonly answer: string
  readonly event: string
  readonly include: string[]
}

function parse(text: string, name: string): { header: Header; body: string; shebang: string } {
  const lines = text.split('\n')
  const shebang = lines.shift() ?? ''
  if (!shebang.startsWith('#!lua')) throw new Error(`ledger script ${name}: its first line must be "#!lua", with its flags`)
  const fields = new Map<string, string>()
  let line = lines[0]
  let field = ''
  while (line?.startsWith('--')) {
    const [, label, text] = /^-- (key|args|rest|answer|event|include): ?(.*)$/.exec(line) ?? []
    // What a label says goes on in lines that are indented; any other comment is the body's.
    if (!label && field && !/^-- {2}/.test(line)) break
    if (label) field = label
    if (field) fields.set(field, `${fields.get(field) ?? ''} ${text ?? line.slice(2)}`.trim())
    lines.shift()
    line = lines[0]
  }
  const words = (label: string) => (fields.get(label) ?? '').split(/\s+/).filter(Boolean)
  const args = words('args').map((word): Header['args'][number] => {
    const [arg = '', type] = word.split(':')
    if (type === undefined) return { name: arg }
    if (type !== 'number' && type !== 'integer') throw new Error(`ledger script ${name}: argument "${arg}" is of no type "${type}"`)
    return { name: arg, type }
  })
  const header = {
    key: words('key'),
    args,
    rest: words('rest'),
    answer: fields.get('answer') ?? '',
    event: fields.get('event') ?? '',
    include: words('include'),
  }
  return { header, body: lines.join('\n'), shebang }
}

/**
 * What would make a script fail in the middle of its writes, which nothing takes back, makes it fail before the first: a call with too few or too many
 * arguments, and a number that is none, is endless, or is a fraction where the header says `integer`.
 */
function prologue({ args, rest }: Header): string {
  const lines = [
    `if #ARGV ${rest.length > 0 ? '<' : '~='} ${args.length} then return redis.error_reply('ERR wrong number of arguments of a script') end`,
  ]
  if (args.length > 0) {
    const values = args.map((arg, index) => (arg.type ? `tonumber(ARGV[${index + 1}])` : `ARGV[${index + 1}]`))
    lines.push(`local ${args.map((arg) => arg.name).join(', ')} = ${values.join(', ')}`)
  }
  const numbers = args.flatMap(({ name, type }) => (type ? [`${name} * ${name}`] : []))
  const fractions = args.flatMap(({ name, type }) => (type === 'integer' ? [`${name} % 1`] : []))
  // One sum for all of them: text makes it fail by itself, and what is no number makes it none.
  const sound = [...(numbers.length > 0 ? [`${numbers.join(' + ')} < 1e33`] : []), ...(fractions.length > 0 ? [`${fractions.join(' + ')} == 0`] : [])]
  if (sound.length > 0) lines.push(`if not (${sound.join(' and ')}) then return redis.error_reply('ERR a number of a script is none') end`)
  if (rest.length > 0) lines.push(`local rest = ${args.length + 1}`)
  return lines.join('\n')
}

/** The text of the libraries, each after what it needs itself. */
function includes(names: readonly string[], folder: URL, seen: Set<string>): string[] {
  return names.flatMap((name) => {
    if (seen.has(name)) return []
    seen.add(name)
    const text = readFileSync(new URL(`lib/${name}.lua`, folder), 'utf8')
    const needs = /^-- include: (.*)$/m.exec(text)?.[1]?.split(/\s+/) ?? []
    return [...includes(needs, folder, seen), text]
  })
}

function expectSame(name: string, what: string, called: readonly string[], stated: readonly string[]): void {
  if (called.join(' ') === stated.join(' ')) return
  throw new Error(`ledger script ${name}: its header states ${what} "${stated.join(' ')}", it is called with "${called.join(' ')}"`)
}
