import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { covers, entryOf, isPlanned, planOutside, toolsOutside } from '../src/toolbox.js'
import type { PlanStep, ToolEntry } from '../src/types.js'

/** Few words, so that much is within much else. */
const target = fc.constantFrom(
  'a',
  'a/b',
  'a/b/c',
  'a/c',
  'b',
  'a/',
  'a/../b',
  'a//b',
  'a/./b',
  'a/%2e%2e/b',
  'a/b%2Fc',
  'a\\b',
  'a/*',
  'a/b/*',
  '/*',
)
const pattern = fc.constantFrom('a', 'a/b', 'a/*', 'a/b/*', 'b', '*', '/*')
const some = <T>(one: fc.Arbitrary<T>) => fc.option(fc.uniqueArray(one, { minLength: 1, maxLength: 3 }), { nil: undefined })
const tool = fc.constantFrom('get', 'put')
const action = fc.constantFrom('x', 'y')
const entry = fc.record({
  tool,
  actions: some(action),
  targets: some(pattern),
  maxCalls: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
})
const entries = fc.uniqueArray(entry, { maxLength: 2, selector: (it) => it.tool })
const step: fc.Arbitrary<PlanStep> = fc.oneof(
  fc.record({ tool, action: fc.option(action, { nil: undefined }), target: fc.option(pattern, { nil: undefined }) }),
  fc.record({ role: fc.constantFrom('r', 's') }),
)
const steps = fc.array(step, { minLength: 1, maxLength: 3 })
const call = fc.record({ tool, action, target })

const allows = (tools: readonly ToolEntry[], asked: { tool: string; action: string; target: string }) => !('outside' in entryOf(tools, asked))

describe('a target', () => {
  it.each([
    ['a/b', 'a/b', true],
    ['a/b', 'a/b/c', false],
    ['a/*', 'a/b', true],
    ['a/*', 'a/b/c', true],
    ['a/*', 'a/b/', true],
    ['a/*', 'a/*', true],
    ['a/*', 'a/b/*', true],
    ['a/*', 'a', false],
    ['a/*', 'a/', false],
    ['a/*', 'ab', false],
    ['a/b/*', 'a/*', false],
    ['a/*', 'a/../b', false],
    ['a/*', 'a/b/..', false],
    ['a/*', 'a/./b', false],
    ['a/*', 'a//b', false],
    ['a/*', 'a/%2E%2e/b', false],
    ['a/*', 'a/%252e%252e/b', false],
    ['a/*', 'a/..%2fb', false],
    ['a/*', 'a/b\\..\\c', false],
    ['https://h/a/*', 'https://h/a/x?y=1', true],
    ['https://h/a/*', 'https://h/a/..?y=1', false],
    ['https://h/a/*', 'https://h/a/..#y', false],
    ['https://h/a/*', 'https://h/a/?y=1', false],
    ['a/*', 'a/.. /b', false],
    ['a/*', 'a/\uff0e\uff0e/b', false],
    ['a/*', 'a/\u00e4 b.c', true],
    ['https://h/a/*', 'https://h.evil/a/x', false],
    ['*', 'anything', false],
  ])('of the pattern %s: %s is %s', (one, what, is) => {
    expect(covers(one, what)).toBe(is)
  })

  it('that one pattern covers is covered by whatever covers that pattern', () => {
    fc.assert(fc.property(pattern, pattern, target, (outer, inner, what) => !(covers(outer, inner) && covers(inner, what)) || covers(outer, what)))
  })
})

describe('what is within a list of tools or a plan', () => {
  it('lets nothing be called that the other does not', () => {
    fc.assert(
      fc.property(entries, entries, call, (outer, inner, asked) => {
        fc.pre(toolsOutside(outer, inner) === undefined)
        expect(allows(inner, asked) && !allows(outer, asked)).toBe(false)
        for (const { tool: name, maxCalls } of inner) {
          const bound = outer.find((one) => one.tool === name)?.maxCalls
          if (bound !== undefined) expect(maxCalls ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(bound)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('has no step that the other has not', () => {
    const what = fc.oneof(call, fc.record({ role: fc.constantFrom('r', 's') }))
    fc.assert(
      fc.property(steps, steps, what, (outer, inner, asked) => {
        fc.pre(planOutside(outer, inner) === undefined)
        expect(isPlanned({ plan: inner }, asked) && !isPlanned({ plan: outer }, asked)).toBe(false)
      }),
      { numRuns: 2_000 },
    )
  })

  it('is every list and plan within itself, and the narrower one', () => {
    fc.assert(fc.property(entries, (one) => toolsOutside(one, one) === undefined))
    fc.assert(fc.property(steps, (one) => planOutside(one, one) === undefined))
    expect(toolsOutside([{ tool: 'get', targets: ['a/*'] }], [{ tool: 'get', targets: ['a/b', 'a/c/*'] }])).toBeUndefined()
    expect(toolsOutside([{ tool: 'get', targets: ['a/*'] }], [{ tool: 'get' }])).toContain('some of the targets')
    expect(toolsOutside([{ tool: 'get', actions: ['x'] }], [{ tool: 'get' }])).toContain('some of the actions')
    expect(toolsOutside([{ tool: 'get', maxCalls: 2 }], [{ tool: 'get' }])).toContain('at most 2 times')
    expect(toolsOutside([], [{ tool: 'get' }])).toContain('not among the tools')
    expect(planOutside([{ tool: 'get', target: 'a/*' }], [{ tool: 'get', target: 'a/b' }])).toBeUndefined()
    expect(planOutside([{ tool: 'get', target: 'a/*' }], [{ tool: 'get' }])).toContain('step 1')
    expect(planOutside([{ tool: 'get' }], [{ tool: 'get', action: 'x' }, { role: 'r' }])).toContain('step 2')
  })
})
