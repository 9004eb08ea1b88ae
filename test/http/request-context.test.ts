import { describe, expect, it } from '@jest/globals'
import { traceOf } from '../../src/http/request-context.js'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'

describe('traceparent', () => {
  it.each([
    ['version 00', `00-${TRACE}-${PARENT}-01`],
    ['unknown flags', `00-${TRACE}-${PARENT}-ff`],
    ['a later version', `01-${TRACE}-${PARENT}-00`],
    ['a later version with more fields', `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`],
  ])('is followed in %s', (_what, value) => {
    expect(traceOf(value)).toBe(TRACE)
  })

  it.each([
    ['version ff', `ff-${TRACE}-${PARENT}-01`],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${PARENT}-01`],
    ['a parent id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['upper case', `00-${TRACE.toUpperCase()}-${PARENT}-01`],
    ['version 00 with more fields', `00-${TRACE}-${PARENT}-01-more`],
    ['a later version with a dot', `01-${TRACE}-${PARENT}-01.more`],
    ['a short trace id', `00-${TRACE.slice(1)}-${PARENT}-01`],
    ['no flags', `00-${TRACE}-${PARENT}`],
    ['a line break', `00-${TRACE}-${PARENT}-01\n`],
    ['two of them', [`00-${TRACE}-${PARENT}-01`, `00-${TRACE}-${PARENT}-01`]],
    ['nothing', undefined],
  ])('is ignored with %s', (_what, value) => {
    expect(traceOf(value)).toBeUndefined()
  })
})
