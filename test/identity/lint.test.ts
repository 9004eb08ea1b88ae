import { describe, expect, it } from '@jest/globals'
import { lintIdentity } from '../../src/identity/index.js'
import type { IdentityOptions } from '../../src/identity/options.js'

const agent = { owner: 'sre@example.com', autonomy: 'scripted' } as const
const issuers: IdentityOptions['issuers'] = {
  cluster: { kind: 'oidc', url: 'https://k8s.example', audience: 'mayfly', preset: 'kubernetes' },
  ci: { kind: 'oidc', audience: 'mayfly', preset: 'github-actions' },
  sso: { kind: 'oidc', url: 'https://sso.example', audience: 'mayfly' },
  mesh: { kind: 'spiffe', trustDomain: 'prod.example', audience: 'mayfly', bundle: { url: 'https://spire.example' } },
}
const lintAgent = (issuer: string, claims: Record<string, string>, more: { id?: string; instance?: string } = {}) =>
  lintIdentity({ issuers, agents: [{ ...agent, id: 'a', match: { issuer, claims }, ...more }] })

describe('the lint of identity', () => {
  it('finds nothing in rules as they should be', () => {
    const rules: IdentityOptions = {
      issuers,
      agents: [
        {
          ...agent,
          id: 'triage/{namespace}',
          match: { issuer: 'cluster', claims: { namespace: 'team-*', service_account: 'triage' } },
          instance: 'pod_uid',
        },
        {
          ...agent,
          id: 'ci/{repository_id}',
          match: {
            issuer: 'ci',
            claims: { repository_id: '74', repository_owner_id: '65', job_workflow_ref: 'org/app/.github/workflows/x.yml@*', environment: 'prod' },
          },
        },
        { ...agent, id: 'mesh/{path_2}', match: { issuer: 'mesh', claims: { path: '/ns/team-*/sa/triage' } }, instance: 'path_6' },
        { ...agent, id: 'ci-new', match: { issuer: 'ci', claims: { sub: 'repo:org@65/app@74:environment:prod' } } },
      ],
      orchestrators: [{ id: 'flows', match: { issuer: 'cluster', claims: { namespace: 'flows', service_account: 'worker' } } }],
      operators: [
        { id: 'sso/{sub}', match: { issuer: 'sso', claims: { groups: 'sre-oncall' } }, groups: ['sre-oncall'] },
        { id: 'break-glass', match: { issuer: 'sso', claims: { sub: 'oncall' } }, groups: ['sre-oncall'] },
      ],
    }
    expect(lintIdentity(rules)).toEqual([])
  })
  it.each([
    ['ci', { sub: 'repo:org*' }],
    ['ci', { sub: 'repo:org*/*:environment:prod' }],
    ['ci', { sub: 'repo:*/app:environment:prod' }],
    ['ci', { repository: 'org*/app' }],
    ['ci', { job_workflow_ref: 'org*/app/.github/workflows/x.yml@refs/heads/main' }],
    ['ci', { repository_owner: 'org*' }],
    ['sso', { sub: 'project_path:group*' }],
  ])('%s %p: an owner that others can register', (issuer, claims) => {
    expect(lintAgent(issuer, claims)).toContainEqual(
      expect.stringMatching(/^agents\[0\]\.match\.\w+: ".*" also matches owners that others can register/),
    )
  })
  it.each([
    ['cluster', {}],
    ['cluster', { namespace: 'flows' }],
    ['cluster', { namespace: '*', service_account: 'worker' }],
    ['ci', { environment: 'prod' }],
    ['ci', { repository_id: '74' }],
    ['ci', { repository_owner_id: '65' }],
    ['sso', {}],
    ['sso', { sub: '*' }],
    ['mesh', {}],
    ['mesh', { trust_domain: 'prod.example', svid: 'jwt' }],
    ['mesh', { path_2: 'team-a', path_4: 'triage' }],
    ['mesh', { path: '/*/*' }],
    ['mesh', { sub: 'spiffe://prod.example/*' }],
    ['sso', { email_verified: 'true' }],
  ])('%s %p: no subject is bound', (issuer, claims) => {
    expect(lintAgent(issuer, claims)).toContainEqual(expect.stringMatching(/^agents\[0\]\.match: no subject is bound/))
  })
  it.each([
    ['ci', { repository: 'org/app' }, 'match.repository', 'repository_id'],
    ['ci', { actor: 'octocat' }, 'match.actor', 'actor_id'],
    ['ci', { sub: 'repo:org/app:environment:prod' }, 'match.sub', 'repository_id'],
    ['sso', { email: 'ann@example.com' }, 'match.email', 'sub'],
    ['cluster', { pod: 'x-0' }, 'match.pod', 'pod_uid'],
  ])('%s %p: a name where an id exists', (issuer, claims, path, instead) => {
    expect(lintAgent(issuer, claims)).toContainEqual(
      expect.stringMatching(new RegExp(`^agents\\[0\\]\\.${path}: .* can pass to another; use ${instead}`)),
    )
  })
  it('a trust domain: parts of a path in the id bind no workload, and a pattern that can match none is a slip', () => {
    expect(lintAgent('mesh', {}, { id: '{path_2}/{path_4}' })).toEqual([
      expect.stringMatching(/no subject is bound.*bind path, or sub, or spiffe_id/),
    ])
    expect(lintAgent('mesh', { path: 'ns/team-a/sa/triage' })).toEqual([
      expect.stringMatching(/matches no workload of prod.example; begin it with "\/"/),
    ])
    for (const claim of ['sub', 'spiffe_id'])
      expect(lintAgent('mesh', { [claim]: 'spiffe://other.example/a' })).toEqual([expect.stringMatching(/begin it with "spiffe:\/\/prod.example\/"/)])
  })
  it('a name in the id or as the instance', () => {
    expect(lintAgent('sso', { sub: 'x' }, { id: 'a/{email}' })).toContainEqual(expect.stringMatching(/^agents\[0\]\.id: "email" is a name/))
    const pods = lintAgent('cluster', { namespace: 'a', service_account: 'b' }, { instance: 'pod' })
    expect(pods).toEqual([expect.stringMatching(/^agents\[0\]\.instance: "pod" is a name that can pass to another; use pod_uid/)])
  })
  it('operators that share an id, and rules that can give the same one', () => {
    const operators = [{ id: 'oncall', match: { issuer: 'sso', claims: { groups: 'sre' } }, groups: ['sre'] }]
    expect(lintIdentity({ issuers, operators })).toEqual([expect.stringMatching(/^operators\[0\]\.id: all who match share one id/)])
    const agents = ['{namespace}', '{service_account}'].map((claim) => ({
      ...agent,
      id: `triage/${claim}`,
      match: { issuer: 'cluster', claims: { namespace: 'a', service_account: 'b' } },
    }))
    expect(lintIdentity({ issuers, agents })).toEqual([expect.stringMatching(/^agents\[1\]\.id: agents\[0\] can give the same id/)])
  })
})
