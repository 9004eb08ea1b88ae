import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { openPolicy, type SyncPolicy } from '../../src/policy/index.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import type { Decision } from '../../src/types.js'
import { agent, task, withPolicies } from './fixtures.js'

const TEXT = `
@id("agents") permit (principal is Agent, action == Action::"callTool", resource);
@id("humans") permit (principal is Human, action == Action::"callTool", resource);
@id("closes") @onDeny("close-task") forbid (principal, action == Action::"callTool", resource) when { context.target == "payroll" };
@id("suspends") @onDeny("suspend-agent") forbid (principal is Agent, action == Action::"callTool", resource) when { context.call == "wipe" };
@id("suspends-too") @onDeny("suspend-agent") forbid (principal is Agent, action == Action::"callTool", resource) when { context.target == "payroll" && context.call == "wipe" };
@id("of-humans") @onDeny("close-task") forbid (principal is Human, action == Action::"callTool", resource) when { context.target == "boss" };
@id("plain") forbid (principal, action == Action::"callTool", resource) when { context.target == "plain" };
`
const call = (it: object, human?: string): PolicyRequest => ({
  action: 'callTool',
  principal: agent(),
  tool: { name: 'db/query', access: 'read', sensitivity: 'internal', external: false, labels: [] },
  task: task({ human }),
  call: { action: 'read', target: 'orders', enforced: false, ...it },
})

let policy: SyncPolicy
beforeAll(async () => {
  policy = (await openPolicy(withPolicies(TEXT))) as SyncPolicy
})
afterAll(() => policy.close())

describe('what a denial brings about', () => {
  it.each<[string, PolicyRequest, Decision['outcome'], readonly string[], Decision['onDeny']]>([
    ['nothing where it is allowed', call({}), 'allow', ['agents'], undefined],
    ['nothing where the forbid says nothing', call({ target: 'plain' }), 'deny', ['plain'], undefined],
    ['what the forbid says', call({ target: 'payroll' }), 'deny', ['closes'], ['close-task']],
    [
      'what all of them say, each once',
      call({ target: 'payroll', action: 'wipe' }),
      'deny',
      ['closes', 'suspends', 'suspends-too'],
      ['close-task', 'suspend-agent'],
    ],
    ['what the forbid of the human says', call({ target: 'boss' }, 'ann'), 'deny', ['of-humans'], ['close-task']],
    ['of an agent alone nothing of it', call({ target: 'boss' }), 'allow', ['agents'], undefined],
    ['nothing where the question could not be asked', call({ target: 'payroll\ud800' }), 'deny', [], undefined],
  ])('is %s', (_what, request, outcome, policies, onDeny) => {
    // Also where it is remembered.
    for (const _ of [1, 2]) {
      const decision = policy.decide(request)
      expect([decision.outcome, decision.policies, decision.onDeny]).toEqual([outcome, policies, onDeny])
    }
  })

  it('is nothing by a policy that is only observed', async () => {
    const observed = {
      name: 'observed.cedar',
      text: '@id("watched") @onDeny("close-task") forbid (principal, action == Action::"callTool", resource);',
      mode: 'observe',
    } as const
    const options = withPolicies(TEXT)
    const both = await openPolicy({ ...options, files: [...options.files, observed] })
    const decision = await both.decide(call({}))
    expect(decision).toMatchObject({ outcome: 'allow', observed: { outcome: 'deny', policies: ['watched'] } })
    expect(decision.onDeny).toBeUndefined()
    expect((await both.decide(call({ target: 'plain' }))).onDeny).toBeUndefined()
    both.close()
  })
})
