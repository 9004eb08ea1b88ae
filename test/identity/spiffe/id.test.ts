import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { parseSpiffeId } from '../../../src/identity/spiffe/id.js'

describe('a SPIFFE ID', () => {
  it.each([
    ['spiffe://prod.example/a', '/a', ['a']],
    ['spiffe://prod_1-x.example/ns/team-a/sa/triage', '/ns/team-a/sa/triage', ['ns', 'team-a', 'sa', 'triage']],
    ['spiffe://p/..a/a../...', '/..a/a../...', ['..a', 'a..', '...']],
    ['spiffe://10.0.0.1/A_b.C-9', '/A_b.C-9', ['A_b.C-9']],
  ])('%s', (text, path, segments) => {
    expect(parseSpiffeId(text)).toMatchObject({ path, segments })
  })
  it('has 2048 bytes at most, and 255 of them for its trust domain', () => {
    const longest = `spiffe://prod.example/${'a'.repeat(2048 - 22)}`
    expect(longest).toHaveLength(2048)
    expect(parseSpiffeId(longest)).toMatchObject({ trustDomain: 'prod.example' })
    expect(parseSpiffeId(`${longest}a`)).toMatchObject({ refused: expect.stringContaining('2048') })
    expect(parseSpiffeId(`spiffe://${'a'.repeat(255)}/a`)).toMatchObject({ path: '/a' })
    expect(parseSpiffeId(`spiffe://${'a'.repeat(256)}/a`)).toHaveProperty('refused')
  })
  it.each([
    '',
    'prod.example/a',
    'SPIFFE://prod.example/a',
    'Spiffe://prod.example/a',
    'spiffe:/prod.example/a',
    'spiffe:prod.example/a',
    'spiffe:///a',
    'spiffe://prod.example',
    'spiffe://prod.example/',
    'spiffe://prod.example/a/',
    'spiffe://prod.example//a',
    'spiffe://prod.example/a//b',
    'spiffe://prod.example/./a',
    'spiffe://prod.example/a/..',
    'spiffe://prod.example/../a',
    'spiffe://Prod.example/a',
    'spiffe://prod.example:443/a',
    'spiffe://prod.example:/a',
    'spiffe://user@prod.example/a',
    'spiffe://user:word@prod.example/a',
    'spiffe://prod.example/a?b',
    'spiffe://prod.example/a#b',
    'spiffe://prod.example?a',
    'spiffe://prod.example#/a',
    'spiffe://prod.example/%61',
    'spiffe://prod%2eexample/a',
    'spiffe://prod.example/a%2Fb',
    'spiffe://prod.example/ä',
    'spiffe://prød.example/a',
    'spiffe://[::1]/a',
    'spiffe://prod.example/a b',
    'spiffe://prod.example/a\0',
    'spiffe://prod.example/a\n',
    'spiffe://prod.example/a:b',
    'spiffe://prod.example/*',
    'spiffe://prod.example/a~b',
    'spiffe://prod.example/a+b',
    ' spiffe://prod.example/a',
    'spiffe://prod.example/a ',
    'spiffe://prod.example\\a/b',
  ])('is not %p', (text) => {
    expect(parseSpiffeId(text)).toEqual({ refused: expect.any(String) })
  })
  it('has one spelling: what is read is what was written, and a URL parser reads the same', () => {
    const part = fc.stringMatching(/^[A-Za-z0-9._/%:@?#~ -]{0,12}$/)
    fc.assert(
      fc.property(fc.constantFrom('prod.example', 'a', 'PROD', 'a_b'), fc.array(part, { maxLength: 4 }), (domain, parts) => {
        const text = `spiffe://${domain}/${parts.join('/')}`
        const id = parseSpiffeId(text)
        if ('refused' in id) return
        const url = new URL(text)
        expect([`spiffe://${id.trustDomain}${id.path}`, id.trustDomain, id.path]).toEqual([text, url.host, url.pathname])
        expect(id.path).toBe(`/${id.segments.join('/')}`)
      }),
      { numRuns: 2000 },
    )
  })
})
