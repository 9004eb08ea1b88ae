import fc from 'fast-check'
import { allowedBy, type Schema, type Schemas } from './value.js'

interface Parameter {
  readonly name: string
  readonly in: string
  readonly schema: Schema
}
interface Operation {
  readonly 'x-mayfly-callers'?: readonly string[]
  readonly parameters: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
}
export interface Description {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Schemas }
}
/** One request, ready to be sent but for who sends it. */
export interface Request {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body: Buffer
  /** Kinds of principal that may call it; none where anybody may. */
  readonly callers: readonly string[]
}

const ODD_TEXT = [
  '',
  ' ',
  '*',
  '..',
  '%',
  '\0',
  'a\nb',
  '\u2028',
  '\ud800',
  '__proto__',
  'constructor',
  '{p00}',
  "' or 1=1 --",
  '#{x}',
  'x'.repeat(300),
  '💩',
  'e\u0301',
]
const ODD_VALUES = [null, true, 0, -1, 1.5, 1e308, 9_007_199_254_740_992, [], {}, [[]], { a: 1 }, ...ODD_TEXT]
const ODD_PATHS = ['%00', '%ff', '%2e%2e%2f', '..', '%F0%9F%92%A9', 'a%2Fb', 'x'.repeat(300), '*', '%', '~', 'lease_00:*', '', ';a=b']
const METHODS = ['GET', 'POST', 'PATCH', 'DELETE', 'PUT', 'HEAD', 'OPTIONS', 'TRACE']
const ODD_HEADERS: readonly (readonly [string, string])[] = [
  ...(
    ['text/plain', 'application/json; charset=utf-16', 'application/jsonx', 'APPLICATION/JSON', 'multipart/form-data; boundary=x', ''] as const
  ).map((type) => ['content-type', type] as const),
  ...(['gzip', 'identity', 'br'] as const).map((encoding) => ['content-encoding', encoding] as const),
  ...(['a', '', 'a b', 'x'.repeat(256), 'é'] as const).map((key) => ['idempotency-key', key] as const),
  ['x-request-id', 'x'.repeat(65)],
  ['x-request-id', 'fine.one-1'],
  ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
  ['traceparent', 'ff-'],
  ['x-forwarded-for', '10.0.0.1'],
  ['x-http-method-override', 'DELETE'],
  ['if-none-match', '*, "a", W/"'],
  ['expect', '100-continue'],
  ['expect', 'the unexpected'],
  ['upgrade', 'h2c'],
  ['accept', 'text/html'],
  ['range', 'bytes=0-1'],
  ['transfer-encoding', 'chunked'],
]

/** Requests to every path of a description: as it has them, and spoilt in one way or several. */
export function requestsOf({ paths, components: { schemas } }: Description, words: readonly string[]): fc.Arbitrary<Request> {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  return fc.constantFrom(...operations).chain(({ path, method, operation }) => {
    const [type, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? []
    return fc
      .record({
        method: mostly(fc.constant(method.toUpperCase()), fc.constantFrom(...METHODS), 15),
        path: pathOf(path, operation.parameters, schemas, words),
        query: queryOf(operation.parameters, schemas, words),
        value: content ? spoilt(allowedBy(content.schema, schemas, words)) : mostly(fc.constant(undefined), fc.jsonValue(), 10),
        spoil: mostly(
          fc.constant((text: string) => Buffer.from(text)),
          textSpoilers(),
          6,
        ),
        headers: fc.array(fc.constantFrom(...ODD_HEADERS), { maxLength: 3, size: 'xsmall' }),
      })
      .map(({ method, path, query, value, spoil, headers }) => ({
        method,
        callers: operation['x-mayfly-callers'] ?? [],
        path: path + query,
        headers: [
          ...(value === undefined || headers.some(([name]) => name === 'content-type')
            ? []
            : [['content-type', type ?? 'application/json'] as const]),
          ...headers,
        ],
        body: value === undefined ? Buffer.alloc(0) : spoil(type?.includes('form') ? formOf(value) : (JSON.stringify(value) ?? '')),
      }))
  })
}

/** One in so many is the other. */
function mostly<A, B>(usual: fc.Arbitrary<A>, other: fc.Arbitrary<B>, oneIn: number): fc.Arbitrary<A | B> {
  return fc.oneof({ weight: oneIn - 1, arbitrary: usual }, { weight: 1, arbitrary: other })
}

function pathOf(path: string, parameters: readonly Parameter[], schemas: Schemas, words: readonly string[]): fc.Arbitrary<string> {
  const given = parameters.filter((one) => one.in === 'path')
  const fits = ({ schema }: Parameter) => {
    const right = words.filter((one) => schema.pattern === undefined || new RegExp(schema.pattern, 'u').test(one))
    const made = allowedBy(schema, schemas, words).map((one) => encoded(String(one)))
    return fc.oneof(
      { weight: 8, arbitrary: right.length > 0 ? fc.constantFrom(...right.map(encodeURIComponent)) : made },
      { weight: 1, arbitrary: made },
      { weight: 1, arbitrary: fc.constantFrom(...ODD_PATHS) },
    )
  }
  return fc
    .tuple(...given.map(fits))
    .map((values) => given.reduce((text, { name }, index) => text.replace(`{${name}}`, () => values[index] ?? ''), path))
}

function queryOf(parameters: readonly Parameter[], schemas: Schemas, words: readonly string[]): fc.Arbitrary<string> {
  const given = parameters.filter((one) => one.in === 'query')
  const right = fc
    .record(Object.fromEntries(given.map(({ name, schema }) => [name, spoilt(allowedBy(schema, schemas, words), 8)])), { requiredKeys: [] })
    .map((some) => Object.entries(some).map(([name, value]) => `${name}=${encoded(String(value))}`))
  const odd = fc.array(
    fc.constantFrom('a=b', 'wait=60&wait=1', '__proto__=1', 'limit[]=1', 'a[b]=c', 'limit=', '=', '%', 'cursor=%00', 'wait=1e1', 'at=now'),
    { maxLength: 2 },
  )
  return mostly<string[], string[]>(given.length > 0 ? right : fc.constant([]), odd, 8).map((parts) =>
    parts.length > 0 ? `?${parts.join('&')}` : '',
  )
}

/** A lone surrogate has no UTF-8. */
function encoded(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString())
}

/** The value, or, one time in so many, one with something in it changed, gone or too much. */
function spoilt(value: fc.Arbitrary<unknown>, oneIn = 2): fc.Arbitrary<unknown> {
  const change = fc.tuple(fc.nat(1_000), fc.constantFrom('replace', 'remove', 'add', 'wrap'), fc.constantFrom(...ODD_VALUES))
  return mostly(
    value,
    fc
      .tuple(value, fc.array(change, { minLength: 1, maxLength: 2 }))
      .map(([one, changes]) => changes.reduce((now, [at, how, what]) => changed(now, at, how, what), one)),
    oneIn,
  )
}

/** Walks down by `at` to some place in the value, and does it there. */
function changed(value: unknown, at: number, how: 'replace' | 'remove' | 'add' | 'wrap', what: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) return how === 'wrap' ? [value] : what
  const keys = Object.keys(value)
  const key = keys[at % keys.length] ?? ''
  const inner: unknown = Reflect.get(value, key)
  const goesDeeper = at % 3 !== 0 && typeof inner === 'object' && inner !== null
  const next = goesDeeper ? changed(inner, Math.floor(at / 3), how, what) : how === 'wrap' ? { [key]: inner } : what
  if (Array.isArray(value)) return how === 'remove' && !goesDeeper ? value.toSpliced(Number(key), 1) : value.with(Number(key), next)
  const entries = Object.entries(value).filter(([name]) => !(how === 'remove' && !goesDeeper && name === key))
  const kept = Object.fromEntries(entries.map(([name, one]) => (name === key ? [name, next] : [name, one])))
  return how === 'add' && !goesDeeper ? { ...kept, [key]: inner, [`${key}x`]: what } : kept
}

/** What is done to a body as text. */
function textSpoilers(): fc.Arbitrary<(text: string) => Buffer> {
  const firstKey = (text: string) => /"(?:[^"\\]|\\.)*":/.exec(text)?.[0] ?? '"a":'
  return fc.constantFrom<(text: string) => Buffer>(
    (text) => Buffer.from(text.slice(0, -1)),
    (text) => Buffer.from(`${text}{}`),
    (text) => Buffer.from(text.replace(/\}$/, `,${firstKey(text)}1}`)),
    (text) => Buffer.from(text.replace(/^\{/, '{"__proto__":{"admin":true},')),
    (text) => Buffer.from(text.replace(/^\{/, '{"constructor":1,')),
    (text) => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(text)]),
    (text) => Buffer.concat([Buffer.from(text), Buffer.from([0xff, 0xfe])]),
    (text) => Buffer.from(text, 'utf16le'),
    (text) => Buffer.from(`${'['.repeat(5_000)}${text}`),
    () => Buffer.from(`{"a":${'['.repeat(17)}1${']'.repeat(17)}}`),
    (text) => Buffer.from(text.padEnd(70_000)),
    (text) => Buffer.from(text.replace(/:("[^"]*)"/, ':$1\\u0000"')),
    (text) => Buffer.from(text.replace(/:("[^"]*)"/, ':$1\\ud800"')),
    (text) => Buffer.from(text.replace(/:\d+/, ':1e999')),
    () => Buffer.alloc(0),
    () => Buffer.from([0]),
  )
}

function formOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([name, one]) => `${encoded(name)}=${encoded(typeof one === 'string' ? one : JSON.stringify(one))}`)
    .join('&')
}
