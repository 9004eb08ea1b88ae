import { describe, expect, it } from '@jest/globals'
import { ACTIONS, type Action, familyOf } from '../../src/policy/actions.js'
import { attributes, knownPaths } from '../../src/policy/attributes.js'
import { newCedar } from '../../src/policy/cedar.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import { readSchema } from '../../src/policy/schema.js'
import type { Tool } from '../../src/types.js'
import { agent, obtain, operator, orchestrator, proof, sample, task, withPolicies } from './fixtures.js'

/** A condition that holds for the first request and not for the second, which differ in nothing but what the attribute tells. */
type Flip = readonly [condition: string, holds: PolicyRequest, fails: PolicyRequest]

const open = (it: Parameters<typeof task>[0] = {}, principal = orchestrator()): PolicyRequest => ({ action: 'openTask', principal, task: task(it) })
const opens = (it: Parameters<typeof agent>[0]): PolicyRequest => ({ action: 'openTask', principal: agent(it), task: task() })
const delegate = (it: object = {}, of: Parameters<typeof task>[0] = {}, who: Parameters<typeof agent>[0] = {}): PolicyRequest => ({
  action: 'delegate',
  principal: agent(who),
  task: task(of),
  delegation: { to: 'reporter', toTeams: ['analytics'], toAutonomy: 'scripted', depth: 1, ttlSeconds: 300, chain: ['triage'], ...it },
})
const call = (
  it: object = {},
  of: { agent?: Parameters<typeof agent>[0]; task?: Parameters<typeof task>[0]; tool?: Partial<Tool> } = {},
): PolicyRequest => ({
  action: 'callTool',
  principal: agent(of.agent),
  tool: { name: 'github/create_issue', access: 'write', sensitivity: 'internal', external: false, labels: [], ...of.tool },
  task: task(of.task),
  call: { action: 'create', target: 'acme/app', enforced: false, ...it },
})
const approve = (it: object = {}, who: Parameters<typeof operator>[0] = {}): PolicyRequest => ({
  action: 'approve',
  principal: operator(who),
  approval: { id: 'approval_1', agent: 'triage', role: 'warehouse-read', groups: ['security'], ...it },
})
const freeze = (who: Parameters<typeof operator>[0]): PolicyRequest => ({
  action: 'freeze',
  principal: operator(who),
  resource: { type: 'Broker', id: 'this' },
})
const conduct = (risk: number, recent: object = {}) => ({ risk, recent: { read: 0, write: 0, escalate: 0, ...recent } })
const counts = (it: object) => ({ counts: { read: 0, write: 0, escalate: 0, ...it } })

const ON_TASK = (ask: (it?: Parameters<typeof task>[0]) => PolicyRequest): Record<string, Flip> => ({
  'resource.intent': ['resource.intent == Intent::"deploy"', ask({ intent: 'deploy' }), ask({ intent: 'incident-triage' })],
  'resource.level': ['resource.level < 3', ask({ classification: 'internal' }), ask({ classification: 'restricted' })],
  'resource.environment': ['resource.environment == Environment::"staging"', ask({ environment: 'staging' }), ask({ environment: 'production' })],
  'resource.roles': [
    'resource.roles.contains(Role::"api-token")',
    ask({ envelope: [{ role: 'api-token' }] }),
    ask({ envelope: [{ role: 'warehouse-read' }] }),
  ],
  'resource.human': ['resource has human && resource.human == Human::"ann"', ask({ human: 'ann' }), ask({ human: 'bob' })],
})
/** What is known of the task, whatever is asked for it. */
const OF_TASK = (ask: (it: Parameters<typeof task>[0]) => PolicyRequest): Record<string, Flip> => ({
  'context.intent': ['context.intent == Intent::"deploy"', ask({ intent: 'deploy' }), ask({ intent: 'data-report' })],
  'context.classified': ['context.classified', ask({ classified: true }), ask({ classified: false })],
  'context.confidence': ['context.confidence.greaterThanOrEqual(decimal("0.6"))', ask({ confidence: 0.6 }), ask({ confidence: 0.59 })],
  'context.level': ['context.level < 3', ask({ classification: 'confidential' }), ask({ classification: 'restricted' })],
  'context.environment': ['context.environment == Environment::"staging"', ask({ environment: 'staging' }), ask({ environment: 'moon' })],
  'context.depth': ['context.depth < 2', ask({ depth: 1 }), ask({ depth: 2 })],
  'context.selfOpened': [
    '!context.selfOpened',
    ask({ openedBy: { kind: 'orchestrator', id: 'x', issuer: 'cluster' } }),
    ask({ openedBy: { kind: 'agent', id: 'x', issuer: 'cluster' } }),
  ],
  'context.orchestrator': [
    'context.orchestrator == Orchestrator::"flows"',
    ask({ openedBy: { kind: 'orchestrator', id: 'flows', issuer: 'cluster' }, orchestrator: 'flows' }),
    ask({ openedBy: { kind: 'orchestrator', id: 'other', issuer: 'cluster' }, orchestrator: 'other' }),
  ],
  'context.human': ['context has human && context.human == Human::"ann"', ask({ human: 'ann' }), ask({ human: 'bob' })],
  'context.humanProven': ['context.humanProven', ask({ human: 'ann', humanProof: proof() }), ask({ human: 'ann', humanProof: undefined })],
  'context.accumulated.obtained': [
    '!context.accumulated.obtained.contains("read:restricted")',
    ask({ obtained: [] }),
    ask({ obtained: ['read:restricted'] }),
  ],
  'context.accumulated.reads': ['context.accumulated.reads < 3', ask(counts({ read: 2 })), ask(counts({ read: 3 }))],
  'context.accumulated.writes': ['context.accumulated.writes < 3', ask(counts({ write: 2 })), ask(counts({ write: 3 }))],
  'context.accumulated.escalations': ['context.accumulated.escalations < 3', ask(counts({ escalate: 2 })), ask(counts({ escalate: 3 }))],
})
/** What an agent obtained lately, whatever it asks for. */
const RECENT = (ask: (it: Parameters<typeof agent>[0]) => PolicyRequest): Record<string, Flip> => {
  const recently = (it: object) => ask({ conduct: conduct(0, it) })
  return {
    'context.recent.reads': ['context.recent.reads < 3', recently({ read: 2 }), recently({ read: 3 })],
    'context.recent.writes': ['context.recent.writes < 3', recently({ write: 2 }), recently({ write: 3 })],
    'context.recent.escalations': ['context.recent.escalations < 3', recently({ escalate: 2 }), recently({ escalate: 3 })],
  }
}
const CALLER = (ask: (it: object) => PolicyRequest): Record<string, Flip> => ({
  'principal.issuer': ['principal.issuer == Issuer::"sso"', ask({ issuer: 'sso' }), ask({ issuer: 'cluster' })],
  'principal.labels': ['principal.labels.contains("trusted")', ask({ labels: ['trusted'] }), ask({ labels: [] })],
})
const AGENT = (ask: (it: Parameters<typeof agent>[0]) => PolicyRequest): Record<string, Flip> => ({
  ...CALLER(ask),
  'principal.autonomy': ['principal.autonomy == Autonomy::"scripted"', ask({ autonomy: 'scripted' }), ask({ autonomy: 'autonomous' })],
  'principal.owner': ['principal.owner == Human::"ann"', ask({ owner: 'ann' }), ask({ owner: 'bob' })],
  'principal.risk': ['principal.risk < 50', ask({ conduct: conduct(40) }), ask({ conduct: conduct(50) })],
})
const ONLY_AGENTS = 'principal is Agent && '
const onlyAgents = (flips: Record<string, Flip>) =>
  Object.fromEntries(Object.entries(flips).map(([path, [when, ...both]]) => [path, [`${ONLY_AGENTS}${when}`, ...both] as Flip]))

/** Each attribute of each family of actions. What a request may not be told by has no place in the schema either. */
const FLIPS: Readonly<Record<string, Readonly<Record<string, Flip>>>> = {
  obtain: {
    ...onlyAgents(AGENT((it) => obtain({ agent: it }))),
    'resource.access': ['resource.access == Access::"read"', obtain({ role: { access: 'read' } }), obtain({ role: { access: 'write' } })],
    'resource.sensitivity': [
      'resource.sensitivity == Sensitivity::"public"',
      obtain({ role: { sensitivity: 'public' } }),
      obtain({ role: { sensitivity: 'internal' } }),
    ],
    'resource.level': ['resource.level < 2', obtain({ role: { sensitivity: 'internal' } }), obtain({ role: { sensitivity: 'confidential' } })],
    'resource.revocation': [
      'resource.revocation == Revocation::"immediate"',
      obtain({ role: { revocation: 'immediate' } }),
      obtain({ role: { revocation: 'at-expiry' } }),
    ],
    'resource.labels': ['resource.labels.contains("pii")', obtain({ role: { labels: ['pii'] } }), obtain({ role: { labels: [] } })],
    'context.renewal': ['!context.renewal', obtain({ context: { renewal: false } }), obtain({ context: { renewal: true } })],
    'context.ttl': ['context.ttl <= 300', obtain({ context: { ttlSeconds: 300 } }), obtain({ context: { ttlSeconds: 301 } })],
    ...OF_TASK((it) => obtain({ task: it })),
    ...RECENT((it) => obtain({ agent: it })),
    'context.scope': [
      'context.scope.contains("bucket=a")',
      obtain({ context: { scope: { bucket: 'a' } } }),
      obtain({ context: { scope: { bucket: 'b' } } }),
    ],
    'context.tool': [
      'context has tool && context.tool == Tool::"psql"',
      obtain({ context: { tool: { name: 'psql', access: 'read' } } }),
      obtain({ context: { tool: { name: 'curl', access: 'read' } } }),
    ],
    'context.destination': [
      'context has destination && context.destination like "https://in/*"',
      obtain({ context: { destination: 'https://in/x' } }),
      obtain({ context: { destination: 'https://out/x' } }),
    ],
    'context.external': ['!context.external', obtain({ context: { external: false } }), obtain({ context: { external: true } })],
  },
  call: {
    ...onlyAgents(AGENT((it) => call({}, { agent: it }))),
    ...OF_TASK((it) => call({}, { task: it })),
    ...RECENT((it) => call({}, { agent: it })),
    'resource.access': ['resource.access == Access::"read"', call({}, { tool: { access: 'read' } }), call({}, { tool: { access: 'write' } })],
    'resource.sensitivity': [
      'resource.sensitivity == Sensitivity::"public"',
      call({}, { tool: { sensitivity: 'public' } }),
      call({}, { tool: { sensitivity: 'internal' } }),
    ],
    'resource.level': ['resource.level < 2', call({}, { tool: { sensitivity: 'internal' } }), call({}, { tool: { sensitivity: 'confidential' } })],
    'resource.labels': ['resource.labels.contains("code")', call({}, { tool: { labels: ['code'] } }), call({}, { tool: { labels: [] } })],
    'context.call': ['context.call == "comment"', call({ action: 'comment' }), call({ action: 'delete' })],
    'context.target': ['context.target like "acme/*"', call({ target: 'acme/app' }), call({ target: 'other/app' })],
    'context.destination': ['context has destination && context.destination == "in"', call({ destination: 'in' }), call({ destination: 'out' })],
    'context.external': ['!context.external', call({}, { tool: { external: false } }), call({}, { tool: { external: true } })],
    'context.enforced': ['context.enforced', call({ enforced: true }), call({ enforced: false })],
  },
  task: {
    ...onlyAgents(AGENT(opens)),
    ...ON_TASK((it) => open(it)),
    'context.own': [
      'context.own',
      open({ openedBy: { kind: 'orchestrator', id: 'flows', issuer: 'cluster' } }),
      open({ openedBy: { kind: 'orchestrator', id: 'other', issuer: 'cluster' } }),
    ],
  },
  delegate: {
    ...AGENT((it) => delegate({}, {}, it)),
    ...ON_TASK((it) => delegate({}, it)),
    'context.to': ['context.to == Agent::"reporter"', delegate({ to: 'reporter' }), delegate({ to: 'stranger' })],
    'context.toTeams': ['context.toTeams.contains(Team::"data")', delegate({ toTeams: ['data'] }), delegate({ toTeams: [] })],
    'context.toAutonomy': [
      'context.toAutonomy == Autonomy::"supervised"',
      delegate({ toAutonomy: 'supervised' }),
      delegate({ toAutonomy: 'autonomous' }),
    ],
    'context.sameTeam': ['context.sameTeam', delegate({ toTeams: ['analytics'] }), delegate({ toTeams: ['platform'] })],
    'context.depth': ['context.depth < 2', delegate({ depth: 1 }), delegate({ depth: 2 })],
    'context.ttl': ['context.ttl <= 300', delegate({ ttlSeconds: 300 }), delegate({ ttlSeconds: 301 })],
    'context.chain': ['!context.chain.contains(Agent::"gone")', delegate({ chain: ['triage'] }), delegate({ chain: ['gone', 'triage'] })],
  },
  approval: {
    ...CALLER((it) => approve({}, it)),
    'resource.agent': ['resource.agent == Agent::"triage"', approve({ agent: 'triage' }), approve({ agent: 'other' })],
    'resource.role': ['resource.role == Role::"api-token"', approve({ role: 'api-token' }), approve({ role: 'cache-read' })],
    'resource.groups': ['resource.groups.contains(Group::"security")', approve({ groups: ['security'] }), approve({ groups: ['sre-oncall'] })],
  },
  operator: CALLER(freeze),
}
/** The engine's own; test/policy/step-up.test.ts flips it. */
const CONSENT = 'context.approval.groups'

const table = attributes({ intents: new Set(), environments: new Set() })
const families = [...new Set(ACTIONS.map(familyOf))]

describe('each attribute of the policy input', () => {
  it.each(families)('%s: has a case below, and no more', (family) => {
    expect(Object.keys(FLIPS[family] ?? {}).sort()).toEqual(
      knownPaths(table, family)
        .filter((path) => path !== CONSENT)
        .sort(),
    )
  })

  it.each(families.flatMap((family) => Object.entries(FLIPS[family] ?? {}).map(([path, flip]) => [family, path, flip] as const)))(
    '%s: %s flips the decision, for a permit and for a forbid',
    (_family, _path, [condition, holds, fails]) => {
      const scope = `(principal, action in [${[...new Set([holds.action, fails.action])].map((one) => `Action::"${one}"`).join(', ')}], resource)`
      const permit = preparePolicy(withPolicies(`@id("it") permit ${scope} when { ${condition} };`))
      expect([permit.decide(holds), permit.decide(fails)]).toMatchObject([
        { outcome: 'allow', policies: ['it'] },
        { outcome: 'deny', policies: [], reasons: [] },
      ])
      const forbid = preparePolicy(withPolicies(`@id("all") permit ${scope}; @id("it") forbid ${scope} unless { ${condition} };`))
      expect([forbid.decide(holds), forbid.decide(fails)]).toMatchObject([
        { outcome: 'allow', policies: ['all'] },
        { outcome: 'deny', policies: ['it'] },
      ])
      expect([permit.decide(fails).error, forbid.decide(fails).error]).toEqual([undefined, undefined])
      for (const policy of [permit, forbid]) policy.close()
    },
  )

  it('an intent that nobody with a say has named is none, whatever its name', () => {
    const policy = preparePolicy(
      withPolicies(
        '@id("it") permit (principal, action in [Action::"read", Action::"openTask"], resource); @id("no") forbid (principal, action == Action::"read", resource) unless { context.intent == Intent::"deploy" }; @id("nor") forbid (principal, action == Action::"openTask", resource) unless { resource.intent == Intent::"deploy" };',
      ),
    )
    const asked = (classified: boolean) => [obtain({ task: { intent: 'deploy', classified } }), open({ intent: 'deploy', classified })]
    expect(asked(true).map((one) => policy.decide(one).outcome)).toEqual(['allow', 'allow'])
    expect(asked(false).map((one) => policy.decide(one).outcome)).toEqual(['deny', 'deny'])
    policy.close()
  })

  it('stands in the shipped schema, which has no others', () => {
    const schema = readSchema(newCedar(), sample)
    const attrs = (type: { shape?: { attributes?: object } } | undefined) => Object.keys(type?.shape?.attributes ?? {})
    const inContext = (action: Action) =>
      Object.entries(schema.actions[action]?.appliesTo?.context?.attributes ?? {}).flatMap(([name, type]) => {
        const nested =
          type.attributes ??
          schema.commonTypes[type.type === 'EntityOrCommon' ? ((type as { name?: string }).name ?? '') : (type.type ?? '')]?.attributes
        return nested ? Object.keys(nested).map((inner) => `context.${name}.${inner}`) : [`context.${name}`]
      })
    for (const action of ACTIONS) {
      const { principalTypes = [], resourceTypes = [] } = schema.actions[action]?.appliesTo ?? {}
      const paths = new Set([
        ...principalTypes.flatMap((type) => attrs(schema.entityTypes[type]).map((name) => `principal.${name}`)),
        ...(familyOf(action) === 'operator'
          ? []
          : resourceTypes.flatMap((type) => attrs(schema.entityTypes[type]).map((name) => `resource.${name}`))),
        ...inContext(action),
      ])
      const flipped = Object.keys(FLIPS[familyOf(action)] ?? {})
      expect([action, [...paths].filter((path) => path !== CONSENT).sort()]).toEqual([action, flipped.sort()])
    }
  })
})

describe('the team and the groups of a human', () => {
  const inside = { teams: { dev: ['company'] }, groups: { security: ['sre-oncall'] } }
  const human = (it?: Parameters<typeof proof>[0]) => obtain({ task: { human: 'ann', humanProof: it && proof(it) } })
  it.each<[string, string, PolicyRequest, PolicyRequest]>([
    ['a team', 'principal is Human in Team::"dev"', human({ team: 'dev' }), human({ team: 'data' })],
    ['a team inside another', 'principal is Human in Team::"company"', human({ team: 'dev' }), human({ team: 'data' })],
    ['a group', 'principal is Human in Group::"security"', human({ groups: ['security'] }), human({ groups: [] })],
    ['a group inside another', 'principal is Human in Group::"sre-oncall"', human({ groups: ['security'] }), human({ groups: [] })],
    ['one of several groups', 'principal is Human in Group::"sre-oncall"', human({ groups: ['legal', 'sre-oncall'] }), human({ groups: ['legal'] })],
    ['that of a token, not of a name', 'principal is Human in Group::"security"', human({ groups: ['security'] }), human()],
  ])('%s flips the decision, for a permit and for a forbid', (_, scope, holds, fails) => {
    const known = { ...sample.known, groups: [...sample.known.groups, 'legal'] }
    const agents = '@id("agents") permit (principal is Agent, action == Action::"read", resource);'
    const permit = preparePolicy(withPolicies(`${agents} @id("it") permit (${scope}, action == Action::"read", resource);`, { inside, known }))
    expect([permit.decide(holds), permit.decide(fails)]).toMatchObject([
      { outcome: 'allow', policies: ['agents', 'it'] },
      { outcome: 'deny', policies: [] },
    ])
    const all = '@id("all") permit (principal, action == Action::"read", resource);'
    const forbid = preparePolicy(withPolicies(`${all} @id("it") forbid (${scope}, action == Action::"read", resource);`, { inside, known }))
    expect([forbid.decide(holds), forbid.decide(fails)]).toMatchObject([
      { outcome: 'deny', policies: ['it'] },
      { outcome: 'allow', policies: ['all'] },
    ])
    for (const policy of [permit, forbid]) policy.close()
  })

  it('are not for a schema that has none of them: told when it is loaded', () => {
    const schema = sample.schema.replace('entity Human in [Team, Group];', 'entity Human;')
    const text = '@id("it") permit (principal in Team::"dev", action == Action::"read", resource);'
    expect(() => preparePolicy(withPolicies(text, { schema }))).toThrow(/read by Human/)
  })
})
