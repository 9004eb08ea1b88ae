import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { envelopeOutside, narrow, scopeOutside } from '../src/envelope.js'
import type { EnvelopeEntry, Role } from '../src/types.js'

const role: Role = {
  name: 'export',
  provider: 'p',
  access: 'read',
  sensitivity: 'internal',
  maxTtlSeconds: 900,
  maxLifetimeSeconds: 900,
  scope: { prefix: 'path', bucket: 'equal', tables: 'set' },
  labels: [],
  params: {},
}
const roles = new Map([[role.name, role]])
const entry = (more: Partial<EnvelopeEntry> = {}): EnvelopeEntry => ({ role: 'export', ...more })

describe('narrowing a request', () => {
  it('gives the least TTL of request, role and envelope', () => {
    expect(narrow(role, entry({ maxTtlSeconds: 300 }), { ttl: 600 })).toMatchObject({ ttlSeconds: 300 })
    expect(narrow(role, entry({ maxTtlSeconds: 300 }), { ttl: 60 })).toMatchObject({ ttlSeconds: 60 })
    expect(narrow(role, entry(), { ttl: 100_000 })).toMatchObject({ ttlSeconds: 900 })
    expect(narrow(role, entry(), {})).toMatchObject({ ttlSeconds: 900 })
  })

  it("takes the envelope's value for a scope key that the request leaves out", () => {
    expect(narrow(role, entry({ scope: { prefix: 'a' } }), {})).toMatchObject({ scope: { prefix: 'a' } })
    expect(narrow(role, entry({ scope: { prefix: 'a' } }), { scope: { bucket: 'b' } })).toMatchObject({ scope: { prefix: 'a', bucket: 'b' } })
  })

  it.each([
    ['a sibling that shares a prefix', { prefix: 'ab' }],
    ['the parent', { prefix: '' }],
    ['a way up', { prefix: 'a/../b' }],
    ['an empty segment', { prefix: 'a//b' }],
    ['a way up that is decoded later', { prefix: 'a/%2e%2E/b' }],
    ['one that is decoded twice', { prefix: 'a/%252e%252e/b' }],
    ['separators that are decoded later', { prefix: 'a/b%2f..%2f../c' }],
    ['separators of another system', { prefix: 'a/b\\..\\..\\c' }],
    ['a way up with parameters', { prefix: 'a/..;v=1/b' }],
    ['a way up before a query', { prefix: 'a/..?b' }],
    ['a way up before a fragment', { prefix: 'a/..#b' }],
    ['a way up with a space that is trimmed', { prefix: 'a/.. /b' }],
    ['a way up with what nobody sees', { prefix: 'a/.\u200b./b' }],
    ['a way up in wide letters', { prefix: 'a/\uff0e\uff0e/b' }],
    ['a way up in one letter', { prefix: 'a/\u2025/b' }],
    ['separators in wide letters', { prefix: 'a/b\uff0f..' }],
    ['nothing before a query', { prefix: 'a/?b' }],
    ['a key that the role does not have', { other: 'x' }],
    ['a list for a path', { prefix: ['a'] }],
    ['a string for a set', { tables: 't1' }],
    ['a member that the envelope does not have', { tables: ['t1', 't9'] }],
    ['a key of Object.prototype', { constructor: 'x' }],
  ])('refuses %s', (_what, scope) => {
    const limited = entry({ scope: { prefix: 'a', tables: ['t1', 't2'] } })
    expect(narrow(role, limited, { scope: scope as EnvelopeEntry['scope'] })).toHaveProperty('outside')
  })

  it('accepts what lies below: a deeper path, fewer members', () => {
    const limited = entry({ scope: { prefix: 'a', tables: ['t1', 't2'] } })
    expect(narrow(role, limited, { scope: { prefix: 'a/b/c', tables: ['t2'] } })).toMatchObject({ scope: { prefix: 'a/b/c', tables: ['t2'] } })
  })

  it('never leaves the envelope, whatever is asked', () => {
    const segment = fc.constantFrom('a', 'b', 'ab', '..', '.', '', '%2e%2e', '.%2E', 'a%2f..', 'b\\..\\..')
    const path = fc.array(segment, { maxLength: 4 }).map((parts) => parts.join('/'))
    fc.assert(
      fc.property(path, path, (outer, inner) => {
        const result = narrow(role, entry({ scope: { prefix: outer } }), { scope: { prefix: inner } })
        if ('outside' in result) return true
        const resolved = new URL(`file:///root/${inner}`).pathname
        const bound = new URL(`file:///root/${outer}`).pathname
        return inner === outer || resolved.startsWith(bound.endsWith('/') ? bound : `${bound}/`)
      }),
    )
  })
})

describe('an envelope within another', () => {
  const outer = [entry({ scope: { prefix: 'a' }, maxTtlSeconds: 300, maxLeases: 2 })]
  it('refuses to drop a limit', () => {
    expect(envelopeOutside(roles, outer, [entry({ maxTtlSeconds: 300, maxLeases: 2 })])).toMatch(/prefix/)
    expect(envelopeOutside(roles, outer, [entry({ scope: { prefix: 'a' }, maxLeases: 2 })])).toMatch(/TTL/)
    expect(envelopeOutside(roles, outer, [entry({ scope: { prefix: 'a' }, maxTtlSeconds: 300 })])).toMatch(/leases/)
  })
  it('refuses another role', () => {
    expect(envelopeOutside(roles, outer, [{ role: 'other' }])).toMatch(/not in the envelope/)
  })
  it('accepts itself and less', () => {
    expect(envelopeOutside(roles, outer, outer)).toBeUndefined()
    expect(envelopeOutside(roles, outer, [entry({ scope: { prefix: 'a/b' }, maxTtlSeconds: 60, maxLeases: 1 })])).toBeUndefined()
  })
  it('checks the kinds of a scope that nothing limits', () => {
    expect(scopeOutside(role.scope, {}, { tables: 'x' })).toMatch(/list/)
  })
})
