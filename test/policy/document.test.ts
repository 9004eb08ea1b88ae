import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { ACTIONS, familyOf } from '../../src/policy/actions.js'
import { attributes, knownPaths } from '../../src/policy/attributes.js'
import { requestOf, written } from '../../src/policy/case.js'
import { documentOf } from '../../src/policy/document.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { formOf, keyOf } from '../../src/policy/request.js'
import { inputOf } from '../../src/policy-input.js'
import { anything } from './arbitrary.js'
import { agent, obtain, operator, sample } from './fixtures.js'

const read = written({})
const table = attributes({ intents: new Set(['deploy']), environments: new Set(['production']) })
const types = ['Agent', 'Human', 'Orchestrator', 'Operator', 'Gateway', 'Role', 'Task', 'Approval', 'Tool', 'Issuer']
/** What Cedar is asked with if some policy reads everything. */
const forms = new Map(
  ACTIONS.map((action) => {
    const reads = new Set(knownPaths(table, familyOf(action)))
    const everything = { reads, ancestorsOf: new Set(['principal', 'resource']), names: new Set(types), readsCounts: true }
    return [action, formOf(action, everything, table, (_kind, names) => names)] as const
  }),
)
const questionOf = (request: PolicyRequest) => {
  const form = forms.get(request.action)
  if (!form) throw new Error(`nobody asks about ${request.action}`)
  return [keyOf(request.action, form.ask(request)), 'consent' in request ? request.consent : undefined, request.principal.kind]
}
const back = (document: object) => requestOf(read.parse(JSON.parse(JSON.stringify(document))))

describe('a request as a document', () => {
  it('asks the same again, whatever was asked: what is forgotten on the way there or back fails here', () => {
    const asked = new Set<string>()
    fc.assert(
      fc.property(anything, (request) => {
        asked.add(request.action)
        expect(questionOf(back(documentOf(request)))).toEqual(questionOf(request))
      }),
      { numRuns: 2_000 },
    )
    expect([...asked].sort()).toEqual([...ACTIONS].sort())
  })

  it('is told by what policies can read, and by nothing else', () => {
    const request = obtain({ agent: { tokenFingerprint: 'FINGERPRINT', subject: 'SUBJECT' }, role: { params: { secret: 'PARAMS' } } })
    expect(JSON.stringify(documentOf(request))).not.toMatch(/FINGERPRINT|SUBJECT|PARAMS/)
  })

  it('is a case as it stands', () => {
    const [intent] = sample.vocabulary.intents
    const document = documentOf(obtain({ task: { intent }, agent: { labels: ['low-risk'] } }))
    expect(document).toMatchObject({ action: 'read', agent: { id: 'triage', labels: ['low-risk'] }, task: { intent } })
    expect(read.safeParse(document).success).toBe(true)
  })

  it('is kept by events without what most requests have, and without a consent', () => {
    fc.assert(
      fc.property(anything, (request) => {
        const alone = 'consent' in request ? { ...request, consent: undefined } : request
        expect(questionOf(back(inputOf(request).input ?? {}))).toEqual(questionOf(alone))
      }),
    )
    const freeze: PolicyRequest = { action: 'freeze', principal: operator({ groups: [] }), resource: { type: 'Agent', id: 'triage' } }
    expect(inputOf(freeze)).toEqual({
      input: { action: 'freeze', operator: { id: 'sso/ann', issuer: 'sso', groups: [] }, resource: { type: 'Agent', id: 'triage' } },
    })
    expect(inputOf({ ...freeze, principal: agent({ labels: ['x'] }) })).toMatchObject({ input: { agent: { labels: ['x'] } } })
  })
})
