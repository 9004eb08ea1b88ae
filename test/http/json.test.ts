import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { parseJson } from '../../src/http/json.js'

const plain = (key: string) => !['__proto__', 'constructor', 'prototype'].includes(key)
const document = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string(),
    fc.double({ noDefaultInfinity: true, noNaN: true }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string().filter(plain), tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ),
})).value

describe('strict JSON', () => {
  it('reads whatever JSON.stringify writes as JSON.parse does', () => {
    fc.assert(
      fc.property(document, (value) => {
        const text = JSON.stringify(value)
        expect(parseJson(text)).toEqual(JSON.parse(text))
      }),
    )
  })

  it('refuses any object with one of its keys written twice, wherever it stands', () => {
    const object = fc.dictionary(fc.string().filter(plain), document, { minKeys: 1, maxKeys: 4, noNullPrototype: true })
    fc.assert(
      fc.property(object, fc.nat(), (value, which) => {
        const keys = Object.keys(value)
        const again = JSON.stringify(keys[which % keys.length])
        const text = `[{"deep":${JSON.stringify(value).replace(/\}$/, () => `,${again}:1}`)}}]`
        expect(() => parseJson(text)).toThrow('duplicate key')
      }),
    )
  })

  it.each([
    ['two spellings of one key', '{"task":"a","\\u0074ask":"b"}', 'duplicate key'],
    ['a colon, a quote and a brace inside a string', '{"a":"\\":{}[]","a":1}', 'duplicate key'],
    ['__proto__', '{"__proto__":{"admin":true}}', 'not allowed'],
    ['a __proto__ spelt with an escape', '{"\\u005f_proto__":1}', 'not allowed'],
    ['constructor below', '{"a":[{"constructor":{"prototype":{}}}]}', 'not allowed'],
    ['17 levels', `${'['.repeat(17)}${']'.repeat(17)}`, 'nested'],
    ['a bomb of brackets', '['.repeat(60_000), 'nested'],
    ['something after the value', '{"a":1} {"b":2}', 'not valid JSON'],
    ['a comment', '{"a":1 /* one */}', 'not valid JSON'],
    ['a byte order mark', '\ufeff{"a":1}', 'not valid JSON'],
    ['nothing', '', 'not valid JSON'],
    ['NaN', '{"a":NaN}', 'not valid JSON'],
    ['an unfinished string', '{"a":"', 'not valid JSON'],
  ])('refuses %s', (_what, text, words) => {
    expect(() => parseJson(text)).toThrow(expect.objectContaining({ code: 'malformed', message: expect.stringContaining(words) }))
  })

  it('takes 16 levels and the colons that strings hold', () => {
    expect(parseJson(`${'['.repeat(16)}${']'.repeat(16)}`)).toBeDefined()
    expect(parseJson('{"a":"b:c\\\\","d":["{\\"e\\":1}"]}')).toEqual({ a: 'b:c\\', d: ['{"e":1}'] })
  })

  it('says nothing of what the text held', () => {
    expect(() => parseJson('{"token":"s3cret" oops}')).toThrow(expect.objectContaining({ message: expect.not.stringContaining('s3cret') }))
  })
})
