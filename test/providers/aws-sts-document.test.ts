import { describe, expect, it } from '@jest/globals'
import { documentOf, MAX_INLINE_CHARACTERS, patternOf, readDocument, sameDenied } from '../../src/providers/aws-sts/document.js'
import { closedBefore, closingOf, deniedBy, entriesOf, entryOf, reaches, wroteOf } from '../../src/providers/aws-sts/entries.js'
import { parsePolicy } from './fake-aws-policy.js'
import { newLeaseId } from './harness.js'

const STAMP = { lineage: '0a1b2c3d', number: 1_795_345_517_000 }
const LEASE = 'lease_17abcdefghijklmnopqrstuvwxyz'
const later = 2_000_000_000_000

describe('the policy that denies what was withdrawn', () => {
  it('lists leases by their tag, tasks by their source identity, and closes a role by time of issue', () => {
    const text = documentOf({ leases: ['*klmnopqrstuvwxyz'], tasks: ['*bbbbbbbbbbbbbbbb'], before: 1_893_456_000 }, STAMP)
    const deny = { Effect: 'Deny', Action: '*', Resource: '*' }
    expect(JSON.parse(text ?? '')).toEqual({
      Version: '2012-10-17',
      Statement: [
        { Sid: 'MayflyLeases0a1b2c3dT1795345517000', ...deny, Condition: { StringLike: { 'aws:PrincipalTag/mayfly-lease': ['*klmnopqrstuvwxyz'] } } },
        { Sid: 'MayflyTasks0a1b2c3dT1795345517000', ...deny, Condition: { StringLike: { 'aws:SourceIdentity': ['*bbbbbbbbbbbbbbbb'] } } },
        {
          Sid: 'MayflyAllIssuedBefore0a1b2c3dT1795345517000',
          ...deny,
          Condition: { DateLessThan: { 'aws:TokenIssueTime': '2030-01-01T00:00:00Z' } },
        },
      ],
    })
    expect(() => parsePolicy(text ?? '')).not.toThrow()
  })

  it('is none when nothing is denied', () => {
    expect(documentOf({ leases: [], tasks: [] }, STAMP)).toBeUndefined()
  })

  it('is read back as it was written', () => {
    const denied = { leases: ['*klmnopqrstuvwxyz', '*aaaaaaaaaaaaaaaa'], tasks: ['*bbbbbbbbbbbbbbbb'], before: 1_893_456_000 }
    const live = readDocument(documentOf(denied, STAMP) ?? '')
    expect(live).toEqual({ ...denied, stamp: STAMP })
    expect(sameDenied(live, { ...denied, leases: [...denied.leases].reverse() })).toBe(true)
    expect(sameDenied(live, { ...denied, before: undefined })).toBe(false)
  })

  it.each([
    ['text that is no JSON', '{', []],
    ['a document of somebody else', '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}', []],
    [
      'one value instead of a list, and a Sid of somebody else',
      '{"Statement":{"Sid":"Mine","Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:PrincipalTag/mayfly-lease":"*a"}}}}',
      ['*a'],
    ],
  ])('reads %s without a stamp', (_what, text, leases) => {
    expect(readDocument(text)).toEqual({ leases, tasks: [] })
  })

  it('holds about 500 leases', () => {
    const leases = Array.from({ length: 490 }, () => patternOf(newLeaseId()) ?? '')
    expect(documentOf({ leases, tasks: [] }, STAMP)?.length).toBeLessThanOrEqual(MAX_INLINE_CHARACTERS)
  })

  it('tells a lease by its end, and nothing that has too little of its own', () => {
    expect(patternOf(LEASE)).toBe('*klmnopqrstuvwxyz')
    for (const id of ['', '*', 'lease_17abc', `${LEASE}*`, `${LEASE}\n`, `lease_${'A'.repeat(28)}`]) expect(patternOf(id)).toBeUndefined()
  })
})

describe('the entries of the register', () => {
  const lease = (pattern: string) => ({ kind: 'lease', pattern, until: later }) as const

  it('leave to a closing only what was there before it', () => {
    const entries = [entryOf(lease('*a')), entryOf(lease('*b'), 90), entryOf(lease('*c'), 100), closingOf(90, later), closingOf(100, later)]
    expect(closedBefore(entries)).toBe(100)
    expect(deniedBy(entries)).toEqual({ leases: ['*c'], tasks: [], before: 100 })
    expect(deniedBy(entries.slice(0, 3))).toEqual({ leases: ['*a', '*b', '*c'], tasks: [] })
  })

  it('are made from a live document so that nothing of it is left out', () => {
    const live = { leases: ['*a'], tasks: ['*b'], before: 100 }
    expect(deniedBy(entriesOf(live, later))).toEqual(live)
  })

  it('tell whether something was lost since a document was written', () => {
    const live = { leases: [], tasks: [], stamp: STAMP }
    expect(reaches([wroteOf(STAMP)], live)).toBe(true)
    expect(reaches([wroteOf({ ...STAMP, number: STAMP.number + 5 })], live)).toBe(true)
    expect(reaches([wroteOf({ ...STAMP, number: STAMP.number - 1 })], live)).toBe(false)
    expect(reaches([wroteOf({ ...STAMP, lineage: 'ffffffff' })], live)).toBe(false)
    expect(reaches([wroteOf(STAMP)], { leases: [], tasks: [] })).toBe(false)
    expect(reaches([], live)).toBe(false)
  })

  it('take no text for a kind of its own', () => {
    expect(deniedBy([entryOf(lease('before:5')), { id: 'unknown:1', until: later }])).toEqual({ leases: ['before:5'], tasks: [] })
  })
})
