import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { createIdentity } from '../../src/identity/index.js'
import type { IdentityOptions } from '../../src/identity/options.js'
import { compilePattern } from '../../src/identity/pattern.js'
import { compileTemplate } from '../../src/identity/template.js'
import { bearer, house, newSigner, type Signer, staticOptions } from './tokens.js'

type Rules = Pick<IdentityOptions, 'agents' | 'orchestrators' | 'operators' | 'gateways'>
const agent = { owner: 'sre@example.com', autonomy: 'scripted' } as const
const match = (claims: Record<string, string>) => ({ issuer: 'idp', claims })

async function who(signer: Signer, rules: Rules, claims: Record<string, unknown>): Promise<unknown> {
  const { issuers } = staticOptions(signer)
  const identity = createIdentity({ issuers, ...rules }, house())
  return identity.verify(bearer(await signer.token(claims))).then(
    ({ kind, id }) => `${kind} ${id}`,
    (error) => error.details?.internal ?? error,
  )
}

describe('claims map to exactly one principal', () => {
  it('of each kind, with what its rule says', async () => {
    const signer = await newSigner()
    const identity = createIdentity(
      {
        ...staticOptions(signer),
        agents: [{ ...agent, id: 'bot/{sub}', match: match({ role: 'bot' }), instance: 'run', labels: ['a'], team: 't' }],
        orchestrators: [{ id: 'flows', match: match({ role: 'flows' }), team: 'platform' }],
        operators: [{ id: 'sso/{sub}', match: match({ groups: 'sre-*' }), groups: ['sre-oncall'] }],
        gateways: [{ id: 'reports', match: match({ role: 'gateway' }), audiences: ['https://reports.example'] }],
      },
      house(),
    )
    const verify = async (claims: Record<string, unknown>) => identity.verify(bearer(await signer.token(claims)))
    expect(await verify({ role: 'bot', run: 7 })).toMatchObject({ kind: 'agent', id: 'bot/worker-1', instance: '7', labels: ['a'], team: 't' })
    expect(await verify({ role: 'flows' })).toMatchObject({ kind: 'orchestrator', id: 'flows', team: 'platform', labels: [] })
    expect(await verify({ groups: ['dev', 'sre-eu'] })).toMatchObject({ kind: 'operator', id: 'sso/worker-1', groups: ['sre-oncall'] })
    expect(await verify({ role: 'gateway' })).toMatchObject({ kind: 'gateway', id: 'reports', audiences: ['https://reports.example'] })
    expect(Object.isFrozen(await verify({ role: 'flows' }))).toBe(true)
  })
  it('of a gateway, with the agents in whose stead it asks, which some rule has to make', async () => {
    const signer = await newSigner()
    const open = (ids: string[], agents: string[]) =>
      createIdentity(
        {
          ...staticOptions(signer),
          agents: ids.map((id) => ({ ...agent, id, match: match({ role: 'bot' }) })),
          gateways: [{ id: 'proxy', match: match({ role: 'gateway' }), audiences: [], tools: ['t'], agents }],
        },
        house(),
      )
    const token = bearer(await signer.token({ role: 'gateway' }))
    for (const [id, pattern] of [
      ['bot', 'bot'],
      ['bot', '*'],
      ['bot/{sub}', 'bot/*'],
      ['bot/{sub}', 'bot/worker-1'],
      ['{team}/bot-{sub}/{run}', 'red/bot-7/*'],
      ['{team}/bot-{sub}/{run}', 'red/*'],
    ] as const)
      expect(await open([id], [pattern]).verify(token)).toMatchObject({ agents: [pattern] })
    for (const [id, pattern] of [
      ['bot', 'bots'],
      ['bot', 'bot/*'],
      ['bot/{sub}', 'bot'],
      ['bot/{sub}', 'bots/*'],
      ['bot/{sub}', 'bot/worker-1/*'],
      ['{team}/bot-{sub}/{run}', 'red/rot-7/*'],
    ] as const)
      expect(() => open(['other', id], [pattern])).toThrow(`gateways[0].agents: no rule makes an agent "${pattern}"`)
  })
  it('none is a refusal, and so is a claim that is missing, an object, or a list of other things', async () => {
    const signer = await newSigner()
    const rules = { agents: [{ ...agent, id: 'bot', match: match({ role: '*' }) }] }
    expect(await who(signer, rules, { role: 'bot' })).toBe('agent bot')
    expect(await who(signer, rules, { role: true })).toBe('agent bot')
    for (const role of [undefined, null, {}, { a: 'bot' }, [1], [], 1.5, ['']])
      expect(await who(signer, rules, { role })).toMatch(/^no agent.* matches/)
    for (const claim of ['constructor', 'toString', 'hasOwnProperty']) {
      expect(await who(signer, { agents: [{ ...agent, id: 'bot', match: match({ [claim]: '*' }) }] }, {})).toMatch(/^no agent.* matches/)
    }
  })
  it('two are a refusal that names both rules, within a kind and across kinds', async () => {
    const signer = await newSigner()
    const agents = [
      { ...agent, id: 'one', match: match({ sub: 'worker-*' }) },
      { ...agent, id: 'two', match: match({ sub: '*-1' }) },
    ]
    expect(await who(signer, { agents }, {})).toBe('ambiguous: agents[0] and agents[1] both match its claims')
    expect(await who(signer, { agents }, { sub: 'worker-2' })).toBe('agent one')
    const operators = [{ id: 'me', match: match({ sub: 'worker-2' }), groups: [] }]
    expect(await who(signer, { agents, operators }, { sub: 'worker-2' })).toBe('ambiguous: agents[0] and operators[0] both match its claims')
  })
  it('an id is never filled with what could pass for a part of another', async () => {
    const signer = await newSigner()
    const rules = { agents: [{ ...agent, id: 'bot/{name}', match: match({}) }] }
    expect(await who(signer, rules, { name: 'ann.b_c@example|9' })).toBe('agent bot/ann.b_c@example|9')
    const bad = [
      'a/b',
      'a:b',
      'a*',
      '{x}',
      'a b',
      'a\nb',
      'a\0',
      'a"',
      "a'",
      'a\\b',
      'a\u2028b',
      'a\u200bb',
      'x'.repeat(257),
      '',
      ['a'],
      null,
      undefined,
    ]
    for (const name of bad) expect(await who(signer, rules, { name })).toMatch(/^agents\[0\]\.id cannot be filled: /)
    expect(await who(signer, rules, { name: 'x'.repeat(253) })).toMatch(/longer than 256/)
  })
})

describe('rules that can only be wrong are refused when they are read', () => {
  it.each<[string, Rules, RegExp]>([
    [
      'an unknown issuer',
      { agents: [{ ...agent, id: 'a', match: { issuer: 'nobody', claims: {} } }] },
      /^agents\[0\]\.match\.issuer: there is no such issuer/,
    ],
    ['two claims in one segment', { agents: [{ ...agent, id: '{a}-{b}', match: match({}) }] }, /^agents\[0\]\.id: may have one/],
    ['an empty placeholder', { orchestrators: [{ id: 'a/{}', match: match({}) }] }, /^orchestrators\[0\]\.id: "\{\}" names no claim/],
    ['a stray brace', { orchestrators: [{ id: 'a}', match: match({}) }] }, /^orchestrators\[0\]\.id: must be/],
    ['a star', { operators: [{ id: 'a*', match: match({}), groups: [] }] }, /^operators\[0\]\.id: must be/],
    ['an empty id', { gateways: [{ id: '', match: match({}), audiences: [] }] }, /^gateways\[0\]\.id: must be/],
    ['an empty pattern', { agents: [{ ...agent, id: 'a', match: match({ sub: '' }) }] }, /^agents\[0\]\.match\.sub: must not be empty/],
    ['a double star', { agents: [{ ...agent, id: 'a', match: match({ sub: 'a**' }) }] }, /^agents\[0\]\.match\.sub: "\*\*" has no meaning/],
  ])('%s', async (_name, rules, message) => {
    const { issuers } = staticOptions(await newSigner())
    expect(() => createIdentity({ issuers, ...rules }, house())).toThrow(message)
  })
  it('a kind that its issuer may not speak for', async () => {
    const options = staticOptions(await newSigner(), { only: ['operator'] })
    expect(() => createIdentity(options, house())).toThrow('agents[0].match.issuer: it is only for operator')
  })
})

describe('a claim pattern', () => {
  it.each([
    ['team-*', 'team-a', true],
    ['team-*', 'team-a-b', true],
    ['team-*', 'team-', false],
    ['team-*', 'team', false],
    ['team-*', 'xteam-a', false],
    ['team-*', 'team-a/b', false],
    ['team-*', 'team-a:b', false],
    ['*', 'a', true],
    ['*', '', false],
    ['*', 'a/b', false],
    ['repo:org/*', 'repo:org/app', true],
    ['repo:org/*', 'repo:org/app:ref:refs/heads/main', false],
    ['repo:org/*:ref:refs/heads/main', 'repo:org/app:ref:refs/heads/main', true],
    ['repo:org/*:ref:refs/heads/*', 'repo:org/app:ref:refs/heads/a/b', false],
    ['repo:org/*', 'repo:org-evil/app', false],
    ['a*b*c', 'aXbYc', true],
    ['a*b*c', 'abc', false],
    ['a*b*c', 'aXbc', false],
    ['a*b*c', 'aXbbYc', true],
    ['a*a', 'aa', false],
    ['a*a', 'aaa', true],
    ['*b', 'bb', true],
    ['*b', 'b', false],
    ['a.c', 'abc', false],
    ['[ab]', 'a', false],
    ['^a$', 'a', false],
    ['A', 'a', false],
    ['*/*', 'a/b', true],
    ['*/*', 'a:b', false],
    ['a/*/c', 'a//c', false],
  ])('%p on %p: %p', (pattern, value, expected) => {
    expect(compilePattern(pattern)(value)).toBe(expected)
  })
  it('means what the equivalent regular expression means', () => {
    const text = fc
      .string({ unit: fc.constantFrom('a', 'b', '/', ':', '*'), minLength: 1, maxLength: 8 })
      .filter((pattern) => !pattern.includes('**'))
    const value = fc.string({ unit: fc.constantFrom('a', 'b', '/', ':'), maxLength: 10 })
    fc.assert(
      fc.property(text, value, (pattern, candidate) => {
        const equivalent = new RegExp(`^${pattern.replaceAll('*', '[^/:]+')}$`)
        expect(compilePattern(pattern)(candidate)).toBe(equivalent.test(candidate))
      }),
      { numRuns: 5000 },
    )
  })
  it('of many stars is as quick as any', () => {
    const matches = compilePattern(`${'a*'.repeat(100)}b`)
    const started = performance.now()
    for (let round = 0; round < 100; round++) expect(matches('a'.repeat(8000))).toBe(false)
    expect(performance.now() - started).toBeLessThan(2000)
  })
})

it('a template gives two different sets of claims two different ids', () => {
  const template = compileTemplate('x/{a}-y/{b}.z')
  const value = fc.string({ unit: fc.constantFrom('-', 'y', '.', 'z', 'x', '/'), minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(value, value, value, value, (a, b, c, d) => {
      const [one, two] = [template.fill(new Map(Object.entries({ a, b }))), template.fill(new Map(Object.entries({ a: c, b: d })))]
      if (one.ok && two.ok) expect(one.text === two.text).toBe(a === c && b === d)
      else expect([a, b, c, d].some((text) => text.includes('/'))).toBe(true)
    }),
    { numRuns: 5000 },
  )
})
