import { describe, expect, it } from '@jest/globals'
import { resourceOf } from '../../src/http/operator.js'

const BROKER = { type: 'Broker', id: 'this' }

describe('what a selector is about, for policy', () => {
  it.each([
    ['an agent', { agent: ['triage'] }, { type: 'Agent', id: 'triage' }],
    ['a task', { task: ['task_1'] }, { type: 'Task', id: 'task_1' }],
    ['a role', { role: ['reader'] }, { type: 'Role', id: 'reader' }],
    ['a provider', { provider: ['warehouse'] }, { type: 'Provider', id: 'warehouse' }],
    ['an issuer', { issuer: ['sso'] }, { type: 'Issuer', id: 'sso' }],
    ['an owner, who is a human', { owner: ['ann'] }, { type: 'Human', id: 'ann' }],
    ['a human', { human: ['ann'] }, { type: 'Human', id: 'ann' }],
    ['an orchestrator', { orchestrator: ['flows'] }, { type: 'Orchestrator', id: 'flows' }],
    ['one dimension among absent ones', { agent: ['triage'], role: undefined }, { type: 'Agent', id: 'triage' }],
  ])('is %s', (_what, selector, resource) => {
    expect(resourceOf(selector)).toEqual(resource)
  })

  it.each([
    ['everything', { all: true as const }],
    ['two agents', { agent: ['a', 'b'] }],
    ['an agent in one role', { agent: ['a'], role: ['r'] }],
    ['nothing at all', {}],
  ])('is the installation for %s', (_what, selector) => {
    expect(resourceOf(selector)).toEqual(BROKER)
  })
})
