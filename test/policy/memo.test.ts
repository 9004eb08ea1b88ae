import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { SyncPolicy } from '../../src/policy/index.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import type { Decision, Scope } from '../../src/types.js'
import { type Asked, obtain, operator, proof, shipped, task, withPolicies } from './fixtures.js'

/** Reads everything that can be read, with every kind of comparison. */
const EVERYTHING = `
@id("base") @maxTtl("900") permit (principal, action in Action::"obtain", resource);
@id("named") @maxTtl("60") permit (principal == Agent::"a1", action == Action::"read", resource == Role::"s3-export");
@id("issuer") forbid (principal is Agent, action == Action::"read", resource) when { principal.issuer == Issuer::"sso" };
@id("autonomy") forbid (principal is Agent, action == Action::"read", resource) when { principal.autonomy == Autonomy::"autonomous" };
@id("labels") forbid (principal is Agent, action == Action::"read", resource) when { principal.labels.contains("bad") };
@id("owner") forbid (principal is Agent, action == Action::"read", resource) when { principal.owner == Human::"eve" };
@id("risk") forbid (principal is Agent, action == Action::"read", resource) when { principal.risk >= 50 };
@id("team") forbid (principal in Team::"dev", action == Action::"read", resource);
@id("provider") forbid (principal, action == Action::"read", resource in Provider::"cache");
@id("access") forbid (principal, action in Action::"obtain", resource) when { resource.access == Access::"escalate" };
@id("sensitivity") forbid (principal, action == Action::"read", resource) when { resource.sensitivity == Sensitivity::"restricted" };
@id("role-level") forbid (principal, action == Action::"read", resource) when { resource.level == 2 };
@id("revocation") forbid (principal, action == Action::"read", resource) when { resource.revocation == Revocation::"at-expiry" };
@id("role-labels") forbid (principal, action == Action::"read", resource) when { resource.labels.containsAny(["bad", "worse"]) };
@id("renewal") forbid (principal, action == Action::"read", resource) when { context.renewal };
@id("ttl") forbid (principal, action == Action::"read", resource) when { context.ttl > 600 };
@id("intent") forbid (principal, action == Action::"read", resource) when { context.intent == Intent::"deploy" };
@id("classified") forbid (principal, action == Action::"read", resource) unless { context.classified };
@id("confidence") forbid (principal, action == Action::"read", resource) when { context.confidence.lessThan(decimal("0.5")) };
@id("level") forbid (principal, action == Action::"read", resource) when { context.level == 3 };
@id("environment") forbid (principal, action == Action::"read", resource) when { context.environment == Environment::"staging" };
@id("scope") forbid (principal, action == Action::"read", resource) when { context.scope.contains("table=secrets") };
@id("tool") forbid (principal, action == Action::"read", resource) unless { context has tool && context.tool == Tool::"psql" };
@id("destination") forbid (principal, action == Action::"read", resource) unless { context has destination && context.destination like "*.example" };
@id("external") forbid (principal, action == Action::"read", resource) when { context.external };
@id("depth") forbid (principal, action == Action::"read", resource) when { context.depth > 1 };
@id("self-opened") forbid (principal, action == Action::"read", resource) when { context.selfOpened };
@id("orchestrator") forbid (principal, action == Action::"read", resource) when { context.orchestrator == Orchestrator::"rogue" };
@id("human") permit (principal, action == Action::"read", resource) when { context has human && context.human == Human::"ann" };
@id("human-proven") forbid (principal, action == Action::"read", resource) when { context.humanProven };
@id("human-team") forbid (principal is Human in Team::"dev", action == Action::"read", resource);
@id("human-group") forbid (principal is Human, action == Action::"read", resource) when { principal in Group::"security" };
@id("obtained") forbid (principal, action == Action::"read", resource) when { context.accumulated.obtained.contains("read:restricted") };
@id("reads") forbid (principal, action == Action::"read", resource) when { context.accumulated.reads > 2 };
@id("writes") forbid (principal, action == Action::"read", resource) when { context.accumulated.writes > 2 };
@id("escalations") forbid (principal, action == Action::"read", resource) when { context.accumulated.escalations > 2 };
@id("recent-reads") forbid (principal, action == Action::"read", resource) when { context.recent.reads > 2 };
@id("recent-writes") forbid (principal, action == Action::"read", resource) when { context.recent.writes > 2 };
@id("recent-escalations") forbid (principal, action == Action::"read", resource) when { context.recent.escalations > 2 };
`

const asked: Asked = { role: { sensitivity: 'public' }, context: { tool: { name: 'psql', access: 'read' }, destination: 'in.example' } }
function changed(by: Asked): PolicyRequest {
  return obtain({
    agent: { ...asked.agent, ...by.agent },
    role: { ...asked.role, ...by.role },
    task: { ...asked.task, ...by.task },
    context: { ...asked.context, ...by.context },
  })
}
const NONE = { read: 0, write: 0, escalate: 0 }
/** Each changes one fact; the policy that reads it then decides. */
const FLIPS: [string, Asked][] = [
  ['issuer', { agent: { issuer: 'sso' } }],
  ['autonomy', { agent: { autonomy: 'autonomous' } }],
  ['labels', { agent: { labels: ['good', 'bad'] } }],
  ['owner', { agent: { owner: 'eve' } }],
  ['risk', { agent: { conduct: { risk: 50, recent: NONE } } }],
  ['recent-reads', { agent: { conduct: { risk: 0, recent: { ...NONE, read: 3 } } } }],
  ['recent-writes', { agent: { conduct: { risk: 0, recent: { ...NONE, write: 3 } } } }],
  ['recent-escalations', { agent: { conduct: { risk: 0, recent: { ...NONE, escalate: 3 } } } }],
  ['team', { agent: { team: 'dev' } }],
  ['provider', { role: { provider: 'cache' } }],
  ['sensitivity', { role: { sensitivity: 'restricted' } }],
  ['role-level', { role: { sensitivity: 'confidential' } }],
  ['revocation', { role: { revocation: 'at-expiry' } }],
  ['role-labels', { role: { labels: ['worse'] } }],
  ['renewal', { context: { renewal: true } }],
  ['ttl', { context: { ttlSeconds: 601 } }],
  ['intent', { task: { intent: 'deploy' } }],
  ['classified', { task: { classified: false } }],
  ['confidence', { task: { confidence: 0.49 } }],
  ['level', { task: { classification: 'restricted' } }],
  ['environment', { task: { environment: 'staging' } }],
  ['scope', { context: { scope: { table: ['orders', 'secrets'] } } }],
  ['tool', { context: { tool: { name: 'curl', access: 'read' } } }],
  ['tool', { context: { tool: undefined } }],
  ['destination', { context: { destination: 'in.example.evil' } }],
  ['destination', { context: { destination: undefined } }],
  ['external', { context: { external: true } }],
  ['depth', { task: { depth: 2 } }],
  ['self-opened', { task: { openedBy: { kind: 'agent', id: 'triage', issuer: 'cluster' } } }],
  ['orchestrator', { task: { openedBy: { kind: 'orchestrator', id: 'rogue', issuer: 'cluster' } } }],
  ['human', { task: { human: 'ann' } }],
  ['human-proven', { task: { human: 'ann', humanProof: proof() } }],
  ['human-team', { task: { human: 'ann', humanProof: proof({ team: 'dev' }) } }],
  ['human-group', { task: { human: 'ann', humanProof: proof({ groups: ['security'] }) } }],
  ['obtained', { task: { obtained: ['read:restricted'] } }],
  ['reads', { task: { counts: { read: 3, write: 0, escalate: 0 } } }],
  ['writes', { task: { counts: { read: 0, write: 3, escalate: 0 } } }],
  ['escalations', { task: { counts: { read: 0, write: 0, escalate: 3 } } }],
  ['named', { agent: { id: 'a1' }, role: { name: 's3-export' } }],
]

let everything: SyncPolicy
beforeAll(() => {
  everything = preparePolicy(withPolicies(EVERYTHING))
})
afterAll(() => everything.close())

describe('the memo', () => {
  it.each(FLIPS)('tells apart what %s reads', (id, flip) => {
    const base = everything.decide(changed({}))
    expect(base).toMatchObject({ outcome: 'allow', policies: ['base'] })
    const { hits, misses } = { ...everything.memo }
    expect(everything.decide(changed(flip)).policies).toContain(id)
    expect(everything.decide(changed({}))).toBe(base)
    expect({ ...everything.memo }).toMatchObject({ hits: hits + 1, misses: misses + 1 })
  })

  it('has a flip for each thing that can be read', () => {
    const ids = [...EVERYTHING.matchAll(/@id\("(.+?)"\)/g)].map(([, id]) => id)
    // A role for escalating is another action.
    expect(new Set(ids)).toEqual(new Set(['base', 'access', ...FLIPS.map(([id]) => id)]))
  })

  it('does not tell apart what no policy reads', () => {
    const policy = preparePolicy(withPolicies('@id("p") permit(principal in Team::"analytics", action == Action::"read", resource);'))
    const first = policy.decide(obtain())
    const others: Asked[] = [
      { agent: { id: 'another', labels: ['x'], owner: 'y', autonomy: 'scripted' } },
      { role: { name: 'cache-read', sensitivity: 'public' } },
      { task: { id: 'task_2', obtained: ['read:public'], counts: { read: 9, write: 9, escalate: 9 }, confidence: 0 } },
      { context: { ttlSeconds: 7, destination: 'anywhere', scope: { a: 'b' } } },
    ]
    for (const other of others) expect(policy.decide(obtain(other))).toBe(first)
    expect(policy.memo).toMatchObject({ hits: 4, misses: 1 })
    expect(policy.decide(obtain({ agent: { team: 'platform' } }))).toMatchObject({ outcome: 'deny' })
    policy.close()
  })

  it('tells ids apart as soon as a policy names one of that type', () => {
    const policy = preparePolicy(
      withPolicies(`@id("p") permit(principal, action, resource);
        @id("t") forbid(principal, action == Action::"endTask", resource == Task::"task_2");
        @id("f") forbid(principal, action == Action::"freeze", resource == Agent::"ceo");
        @id("o") forbid(principal == Operator::"bob", action == Action::"freeze", resource);`),
    )
    const end = (id: string) => policy.decide({ action: 'endTask', principal: { ...operator(), kind: 'orchestrator' }, task: task({ id }) }).outcome
    expect([end('task_1'), end('task_2'), end('task_1')]).toEqual(['allow', 'deny', 'allow'])
    const freeze = (id: string, by = 'ann') =>
      policy.decide({ action: 'freeze', principal: operator({ id: by }), resource: { type: 'Agent', id } }).outcome
    expect([freeze('a'), freeze('ceo'), freeze('b'), freeze('b', 'bob')]).toEqual(['allow', 'deny', 'allow', 'deny'])
    const other = policy.decide({ action: 'freeze', principal: operator(), resource: { type: 'Role', id: 'ceo' } })
    expect(other).toMatchObject({ outcome: 'allow' })
    policy.close()
  })

  it('is bounded, and forgets what was asked longest ago', () => {
    const text = '@id("p") permit(principal, action == Action::"read", resource) when { context has destination && context.destination like "*" };'
    const policy = preparePolicy(withPolicies(text, { memoSize: 8 }))
    const ask = (destination: string) => policy.decide(obtain({ context: { destination } }))
    for (let index = 0; index < 9; index++) ask(`d${index}`)
    ask('d8')
    expect(policy.memo).toMatchObject({ hits: 1, misses: 9 })
    ask('d0')
    expect(policy.memo).toMatchObject({ hits: 1, misses: 10 })
    const long = 'y'.repeat(20_000)
    expect([ask(long).outcome, ask(long).outcome]).toEqual(['allow', 'allow'])
    expect(policy.memo).toMatchObject({ hits: 1, misses: 12 })
    policy.close()
  })

  it('is empty after close, and a straggler is still answered', () => {
    const policy = preparePolicy(withPolicies('@id("p") permit(principal, action, resource);'))
    policy.decide(obtain())
    policy.close()
    expect(policy.decide(obtain())).toMatchObject({ outcome: 'allow' })
    expect(policy.memo).toMatchObject({ hits: 0, misses: 2 })
  })

  it('says of the counts that they are read only where they are', () => {
    const policy = preparePolicy(
      withPolicies(`@id("p") permit(principal, action in Action::"obtain", resource);
        @id("c") forbid(principal, action == Action::"write", resource) when { context.accumulated.writes > 3 };`),
    )
    expect(policy.decide(obtain())).toMatchObject({ readsCounts: false })
    expect(policy.decide(obtain({ role: { access: 'write' } }))).toMatchObject({ readsCounts: true })
    expect(policy.decide(obtain({ role: { access: 'write', labels: ['\ud800'] } }))).toMatchObject({ readsCounts: true })
    expect(everything.decide(obtain())).toMatchObject({ readsCounts: true })
    policy.close()
  })
})

const word = fc.constantFrom('analytics', 'platform', 'dev', 'a1', 'eve', 'ann', 'rogue', 'bad', 'worse', 'low-risk', 'x', '", "', 'null', '\\ud800')
const few = fc.constantFrom<string[]>([], [], ['low-risk'], ['worse', 'bad'])
const sensitivity = fc.constantFrom('public', 'internal', 'confidential', 'restricted') as fc.Arbitrary<'public'>
const count = fc.integer({ min: 0, max: 4 })
const anything: fc.Arbitrary<Asked> = fc.record({
  agent: fc.record({
    id: word,
    team: fc.constantFrom('analytics', 'platform', 'dev', undefined),
    labels: few,
    owner: word,
    issuer: fc.constantFrom('cluster', 'sso'),
    autonomy: fc.constantFrom('scripted', 'supervised', 'autonomous'),
  }),
  role: fc.record({
    name: fc.constantFrom('s3-export', 'cache-read', 'x'),
    provider: fc.constantFrom('warehouse', 'cache'),
    access: fc.constantFrom('read', 'write', 'escalate'),
    sensitivity,
    revocation: fc.constantFrom('immediate', 'deny-policy', 'at-expiry'),
    labels: few,
  }),
  task: fc.record({
    intent: fc.constantFrom('deploy', 'incident-triage', 'unclassified', 'nonsense'),
    classified: fc.boolean(),
    confidence: fc.constantFrom(0, 0.49, 0.5, 0.6, 1),
    classification: sensitivity,
    environment: fc.constantFrom('production', 'staging', 'nonsense'),
    depth: count,
    human: fc.option(word, { nil: undefined }),
    humanProof: fc.option(fc.record({ team: fc.constantFrom('dev', 'data'), groups: fc.subarray(['security', 'sre-oncall']) }).map(proof), {
      nil: undefined,
    }),
    obtained: fc.constantFrom([], ['read:restricted'], ['read:public', 'write:internal']),
    counts: fc.record({ read: count, write: count, escalate: count }),
    openedBy: fc.record({ kind: fc.constantFrom('agent', 'orchestrator'), id: word, issuer: fc.constant('cluster') }),
  }),
  context: fc.record({
    renewal: fc.boolean(),
    ttlSeconds: fc.constantFrom(60, 600, 601),
    scope: fc.constantFrom<Scope>({}, { table: 'secrets' }, { table: ['orders', 'secrets'] }, { orders: 'x' }),
    tool: fc.option(fc.record({ name: fc.constantFrom('psql', 'curl'), access: fc.constant('read' as const) }), { nil: undefined }),
    destination: fc.option(fc.constantFrom('in.example', 'out', 'null'), { nil: undefined }),
    external: fc.boolean(),
  }),
})

/** Never fires, and reads and names all there is, so that nothing is left out of what the engine is asked. */
const READS_ALL = `
@id("reads-all") forbid (principal, action in Action::"obtain", resource) when {
  context.ttl == 987654321 && context.renewal && context.intent == Intent::"deploy" && context.classified && context.level == 9 &&
  context.confidence.lessThan(decimal("0.0")) && context.environment == Environment::"staging" && context.scope.contains("x") &&
  context.external && context.depth == 9 && context.selfOpened && context.orchestrator == Orchestrator::"x" &&
  context.accumulated.obtained.isEmpty() && context.accumulated.reads == 9 && context.accumulated.writes == 9 &&
  context.accumulated.escalations == 9 && resource.labels.isEmpty() && resource.access == Access::"read" &&
  resource.sensitivity == Sensitivity::"public" && resource.level == 9 && resource.revocation == Revocation::"immediate" &&
  resource in Provider::"cache" && resource == Role::"api-token" };
@id("names-agents") forbid (principal in Team::"dev", action in Action::"obtain", resource) when {
  context.ttl == 987654321 && principal == Agent::"x" && principal.issuer == Issuer::"sso" && principal.owner == Human::"x" &&
  principal.labels.isEmpty() && principal.autonomy == Autonomy::"scripted" };
@id("names-humans") forbid (principal == Human::"x", action in Action::"obtain", resource) when { context.ttl == 987654321 && context.humanProven };
@id("in-group") forbid (principal in Group::"security", action in Action::"obtain", resource) when { context.ttl == 987654321 };
`

describe('a remembered answer', () => {
  const decided = ({ policyVersion: _, readsCounts: __, ...rest }: Decision) => rest

  it.each([
    ['the shipped policies', shipped],
    ['policies that read everything', withPolicies(EVERYTHING)],
  ])('is the one that the engine gives to the whole request, whatever the request, under %s', (_, options) => {
    const remembering = preparePolicy(options)
    const whole = preparePolicy({ ...options, files: [...options.files, { name: 'all.cedar', text: READS_ALL }], memoSize: 1 })
    const outcomes = new Set<Decision['outcome']>()
    const property = fc.property(anything, (it) => {
      const request = obtain(it)
      const remembered = remembering.decide(request)
      expect(remembering.decide(request)).toBe(remembered)
      // In another task it is the same question: which one it is, no policy can read.
      if ('role' in request) expect(remembering.decide({ ...request, task: { ...request.task, id: 'another' } })).toBe(remembered)
      expect(decided(whole.decide(request))).toEqual(decided(remembered))
      outcomes.add(remembered.outcome)
    })
    fc.assert(property, { numRuns: 600 })
    expect(remembering.memo.hits).toBeGreaterThanOrEqual(1_200)
    expect(outcomes.size).toBeGreaterThan(1)
    remembering.close()
    whole.close()
  })
})
