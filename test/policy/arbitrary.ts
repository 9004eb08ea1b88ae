import fc from 'fast-check'
import { OPERATOR_RESOURCES } from '../../src/policy/actions.js'
import type { ObtainContext, PolicyRequest } from '../../src/policy/policy.js'
import { agent, operator, orchestrator, proof, role, task } from './fixtures.js'

/** Requests of every kind, of few words: so that what is compared is often alike. */
const word = fc.constantFrom('a', 'b/c', 'd e', '', 'ü')
const words = fc.uniqueArray(word, { maxLength: 3 })
const sensitivity = fc.constantFrom('public' as const, 'internal' as const, 'confidential' as const, 'restricted' as const)
const maybe = <T>(it: fc.Arbitrary<T>) => fc.option(it, { nil: undefined })

const opener = fc.record({ kind: fc.constantFrom('agent' as const, 'orchestrator' as const), id: word, issuer: word })
const caller = { id: word, issuer: word, labels: words, team: maybe(word) }
const agents = fc
  .record({
    ...caller,
    owner: word,
    autonomy: fc.constantFrom('scripted' as const, 'supervised' as const, 'autonomous' as const),
    conduct: maybe(fc.record({ risk: fc.constantFrom(0, 50, 100), recent: fc.record({ read: fc.nat(2), write: fc.nat(2), escalate: fc.nat(2) }) })),
  })
  .map((it) => agent(it))
const orchestrators = fc.record(caller).map((it) => orchestrator(it))
const operators = fc.record({ ...caller, groups: words }).map((it) => operator(it))
const gateways = fc.record(caller).map((it) => ({ ...orchestrator(it), kind: 'gateway' as const, audiences: ['api'], tools: [] }))
const anybody = fc.oneof(agents, orchestrators, operators, gateways)

const tasks = fc
  .record({
    id: word,
    openedBy: opener,
    intent: fc.constantFrom('deploy', 'other'),
    classified: fc.boolean(),
    confidence: fc.constantFrom(0, 0.59, 0.6, 1),
    classification: sensitivity,
    environment: fc.constantFrom('production', 'moon'),
    human: maybe(word),
    humanProof: maybe(fc.record({ team: maybe(word), groups: words }).map(proof)),
    orchestrator: maybe(word),
    depth: fc.nat(3),
    envelope: words.map((roles) => roles.map((one) => ({ role: one }))),
    obtained: words,
    counts: fc.record({ read: fc.nat(2), write: fc.nat(2), escalate: fc.nat(2) }),
  })
  .map((it) => task(it))
const tasksInTrees = fc.record({ of: tasks, rootOpenedBy: maybe(opener) }).map(({ of, rootOpenedBy }) => ({ ...of, rootOpenedBy }))

export const obtains = fc
  .record({
    access: fc.constantFrom('read' as const, 'write' as const, 'escalate' as const),
    principal: agents,
    role: fc.record({
      name: word,
      provider: word,
      labels: words,
      sensitivity,
      revocation: fc.constantFrom('immediate' as const, 'at-expiry' as const),
    }),
    task: tasks,
    context: fc.record({
      renewal: fc.boolean(),
      ttlSeconds: fc.integer({ min: 1, max: 3600 }),
      scope: fc.dictionary(fc.constantFrom('bucket', 'prefix'), fc.oneof(word, words)),
      destination: maybe(word),
      external: fc.boolean(),
      tool: maybe(word),
    }),
    consent: maybe(words),
  })
  .map(({ access, principal, role: which, task: what, context: { tool, ...context }, consent }): Extract<PolicyRequest, { role: unknown }> => {
    const asked: ObtainContext = { ...context, tool: tool === undefined ? undefined : { name: tool, access } }
    return { action: access, principal, role: role({ ...which, access }), task: what, context: asked, consent }
  })

const calls = fc.record({
  action: fc.constant('callTool' as const),
  principal: agents,
  tool: fc.record({
    name: word,
    access: fc.constantFrom('read' as const, 'write' as const, 'escalate' as const),
    sensitivity,
    external: fc.boolean(),
    labels: words,
  }),
  task: tasks,
  call: fc.record({ action: word, target: word, destination: maybe(word), enforced: fc.boolean() }),
})

export const anything: fc.Arbitrary<PolicyRequest> = fc.oneof(
  obtains,
  calls,
  fc.record({
    action: fc.constantFrom('openTask' as const, 'changeTask' as const, 'endTask' as const),
    principal: fc.oneof(agents, orchestrators),
    task: tasksInTrees,
  }),
  fc.record({
    action: fc.constant('delegate' as const),
    principal: anybody,
    task: tasksInTrees,
    delegation: fc.record({ to: word, depth: fc.integer({ min: 1, max: 3 }), ttlSeconds: fc.nat(900), chain: words }),
  }),
  fc.record({
    action: fc.constant('approve' as const),
    principal: anybody,
    approval: fc.record({ id: word, agent: word, role: word, groups: words }),
  }),
  fc.record({
    action: fc.constantFrom(...(['emergencyRevoke', 'freeze', 'thaw', 'inspect', 'simulate', 'offboard'] as const)),
    principal: anybody,
    resource: fc.record({ type: fc.constantFrom(...OPERATOR_RESOURCES), id: word }),
  }),
)
