import fc from 'fast-check'
import { OPERATOR_RESOURCES } from '../../src/policy/actions.js'
import type { ObtainContext, PolicyRequest } from '../../src/policy/policy.js'
import { agent, operator, orchestrator, proof, role, task } from './fixtures.js'

const sensitivity = fc.constantFrom('public' as const, 'internal' as const, 'confidential' as const, 'restricted' as const)
const maybe = <T>(it: fc.Arbitrary<T>) => fc.option(it, { nil: undefined })
const some = <T>(...of: readonly T[]) => fc.uniqueArray(fc.constantFrom(...of), { maxLength: 3 })

/** Few words, so that what is compared is often alike. */
interface Words {
  readonly ids: readonly string[]
  readonly teams: readonly string[]
  readonly groups: readonly string[]
  readonly labels: readonly string[]
  readonly obtained: readonly string[]
}

/** Requests of every kind. */
function requests({ ids, teams, groups, labels, obtained }: Words) {
  const word = fc.constantFrom(...ids)
  const opener = fc.record({ kind: fc.constantFrom('agent' as const, 'orchestrator' as const), id: word, issuer: word })
  const caller = { id: word, issuer: word, labels: some(...labels), team: maybe(fc.constantFrom(...teams)) }
  const agents = fc
    .record({
      ...caller,
      owner: word,
      autonomy: fc.constantFrom('scripted' as const, 'supervised' as const, 'autonomous' as const),
      conduct: maybe(
        fc.record({
          risk: fc.constantFrom(0, 50, 80, 90),
          recent: fc.record({ read: fc.nat(2), write: fc.constantFrom(0, 19, 20), escalate: fc.nat(2) }),
        }),
      ),
    })
    .map((it) => agent(it))
  const orchestrators = fc.record(caller).map((it) => orchestrator(it))
  const operators = fc.record({ ...caller, groups: some(...groups) }).map((it) => operator(it))
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
      humanProof: maybe(fc.record({ team: maybe(fc.constantFrom(...teams)), groups: some(...groups) }).map(proof)),
      orchestrator: maybe(word),
      depth: fc.nat(3),
      envelope: some(...ids).map((roles) => roles.map((one) => ({ role: one }))),
      obtained: some(...obtained),
      counts: fc.record({ read: fc.nat(2), write: fc.nat(2), escalate: fc.nat(2) }),
    })
    .map((it) => task(it))
  const tasksInTrees = fc.record({ of: tasks, rootOpenedBy: maybe(opener) }).map(({ of, rootOpenedBy }) => ({ ...of, rootOpenedBy }))

  const obtains = fc
    .record({
      access: fc.constantFrom('read' as const, 'write' as const, 'escalate' as const),
      principal: agents,
      role: fc.record({
        name: word,
        provider: word,
        labels: some(...labels),
        sensitivity,
        revocation: fc.constantFrom('immediate' as const, 'at-expiry' as const),
      }),
      task: tasks,
      context: fc.record({
        renewal: fc.boolean(),
        ttlSeconds: fc.integer({ min: 1, max: 3600 }),
        scope: fc.dictionary(fc.constantFrom('bucket', 'prefix'), fc.oneof(word, some(...ids))),
        destination: maybe(word),
        external: fc.boolean(),
        tool: maybe(word),
      }),
      consent: maybe(some(...groups)),
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
      labels: some(...labels),
    }),
    task: tasks,
    call: fc.record({ action: word, target: word, destination: maybe(word), enforced: fc.boolean() }),
  })
  const onTasks = fc.record({
    action: fc.constantFrom('openTask' as const, 'changeTask' as const, 'endTask' as const),
    principal: fc.oneof(agents, orchestrators),
    task: tasksInTrees,
  })
  const delegations = fc.record({
    action: fc.constant('delegate' as const),
    principal: anybody,
    task: tasksInTrees,
    delegation: fc.record({
      to: word,
      toTeams: some(...teams),
      toAutonomy: fc.constantFrom('scripted' as const, 'supervised' as const, 'autonomous' as const),
      depth: fc.integer({ min: 1, max: 3 }),
      ttlSeconds: fc.nat(900),
      chain: some(...ids),
    }),
  })
  const approvals = fc.record({
    action: fc.constant('approve' as const),
    principal: anybody,
    approval: fc.record({ id: word, agent: word, role: word, groups: some(...groups) }),
  })
  const operations = fc.record({
    action: fc.constantFrom(
      ...(['emergencyRevoke', 'freeze', 'thaw', 'inspect', 'simulate', 'offboard', 'drill', 'reconcile', 'liftQuarantine'] as const),
    ),
    principal: anybody,
    // There is one broker.
    resource: fc.record({ type: fc.constantFrom(...OPERATOR_RESOURCES), id: word }).map((it) => (it.type === 'Broker' ? { ...it, id: 'this' } : it)),
    consent: maybe(some(...groups)),
  })
  const others: fc.Arbitrary<PolicyRequest> = fc.oneof(calls, onTasks, delegations, approvals, operations)
  return {
    obtains,
    anything: fc.oneof<fc.MaybeWeightedArbitrary<PolicyRequest>[]>({ weight: 2, arbitrary: obtains }, { weight: 3, arbitrary: others }),
  }
}

const WORDS = ['a', 'b/c', 'd e', '', 'ü']
export const { obtains, anything } = requests({ ids: WORDS, teams: WORDS, groups: WORDS, labels: WORDS, obtained: WORDS })

/** Of what the shipped policies speak of. */
const shipped: Words = {
  ids: ['a', 'b'],
  teams: ['platform', 'analytics', 'dev'],
  groups: ['sre-oncall', 'security'],
  labels: ['low-risk', 'export', 'irrevocable-accepted'],
  obtained: ['read:restricted', 'write:internal'],
}
export const { anything: likely } = requests(shipped)
const kinds = ['browser-agent', 'code-assistant', 'procurement-bot', 'retrieval-copilot', 'soc-copilot']
export const { anything: likelyOfPresets } = requests({
  ...shipped,
  labels: [...kinds, 'web', 'code', 'production', 'secrets', 'procurement', 'documents', 'security', 'containment'],
  obtained: ['read:restricted', 'read:confidential'],
})
