import { describe, expect, it } from '@jest/globals'
import { type Ask, decide, type Rules } from '../../src/policy/decide.js'
import type { Answer } from '../../src/policy/evaluate.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import type { Decision } from '../../src/types.js'
import { obtain, operator, withPolicies } from './fixtures.js'

const allow: Answer = { decision: 'allow', policies: ['permit'] }
const nothing: Answer = { decision: 'deny', policies: [] }
const asks: Answer = { decision: 'deny', policies: ['asks'] }
const hard: Answer = { decision: 'deny', policies: ['hard'] }
const mixed: Answer = { decision: 'deny', policies: ['asks', 'hard'] }
const error: Answer = { error: 'overflow' }

const obliged = (id: string, obligations: object) => [id, { id, obligations }] as const
const rules = {
  version: 'v',
  readsCounts: false,
  policies: new Map([
    obliged('permit', { maxTtlSeconds: 900 }),
    obliged('short', { maxTtlSeconds: 60, maxLive: 2 }),
    obliged('asks', { stepUp: { group: 'sre', approvals: 1 }, reason: 'ask' }),
    obliged('asks-two', { stepUp: { group: 'sre', approvals: 2 } }),
    obliged('asks-others', { stepUp: { group: 'legal', approvals: 1 } }),
    obliged('hard', {}),
  ]),
} as unknown as Rules

/** Answers the first question, then the one with consent; remembers with whose. */
function script(...answers: Answer[]): Ask & { groups: (readonly string[])[] } {
  const groups: (readonly string[])[] = []
  const ask = (consented: readonly string[]) => {
    groups.push(consented)
    return answers[groups.length - 1] ?? error
  }
  return Object.assign(ask, { groups })
}

describe('step-up', () => {
  it.each<[string, Answer, Answer | undefined, Decision['outcome'], boolean]>([
    ['allowed without consent', allow, undefined, 'allow', false],
    ['an error without consent', error, undefined, 'deny', true],
    ['allowed by nothing', nothing, undefined, 'deny', false],
    ['a forbid that asks nobody', hard, undefined, 'deny', false],
    ['one that asks beside one that does not', mixed, undefined, 'deny', false],
    ['consent that changes it', asks, allow, 'step-up', false],
    ['consent that changes nothing', asks, asks, 'deny', false],
    ['consent after which nothing allows', asks, nothing, 'deny', false],
    ['consent after which another forbids', asks, hard, 'deny', false],
    ['an error with consent', asks, error, 'deny', true],
  ])('%s', (_, first, second, outcome, failed) => {
    const ask = script(...[first, second].filter((one) => one !== undefined))
    const decision = decide([ask], rules)
    expect(decision.outcome).toBe(outcome)
    expect(decision.error !== undefined).toBe(failed)
    expect(ask.groups).toEqual(second ? [[], ['sre']] : [[]])
    expect(decision.stepUp).toEqual(outcome === 'step-up' ? [{ group: 'sre', approvals: 1 }] : undefined)
  })

  it('asks each group once, for the most approvals that any forbid wants of it', () => {
    const ask = script({ decision: 'deny', policies: ['asks', 'asks-others', 'asks-two'] }, { decision: 'allow', policies: ['permit', 'short'] })
    expect(decide([ask], rules)).toMatchObject({
      outcome: 'step-up',
      policies: ['asks', 'asks-others', 'asks-two'],
      reasons: ['ask'],
      maxTtlSeconds: 60,
      maxLive: 2,
      stepUp: [
        { group: 'legal', approvals: 1 },
        { group: 'sre', approvals: 2 },
      ],
    })
    expect(ask.groups).toEqual([[], ['legal', 'sre']])
  })
})

describe('on behalf of a human', () => {
  const outcome = (...both: Answer[][]) =>
    decide(
      both.map((answers) => script(...answers)),
      rules,
    )
  it.each<[string, Answer[], Answer[], Decision['outcome']]>([
    ['both may', [allow], [allow], 'allow'],
    ['the agent may not', [nothing], [allow], 'deny'],
    ['the human may not', [allow], [nothing], 'deny'],
    ['the human is forbidden', [allow], [hard], 'deny'],
    ['the agent with consent', [asks, allow], [allow], 'step-up'],
    ['the human with consent', [allow], [asks, allow], 'step-up'],
    ['consent for one, no for the other', [asks, allow], [nothing], 'deny'],
    ['an error for one', [allow], [error], 'deny'],
    ['an error for one, a no for the other', [hard], [error], 'deny'],
  ])('%s', (_, first, second, expected) => {
    const decision = outcome(first, second)
    expect(decision.outcome).toBe(expected)
    expect(decision.error !== undefined).toBe([...first, ...second].includes(error))
  })

  it('has the least of both limits, and the needs of both', () => {
    expect(outcome([allow], [{ decision: 'allow', policies: ['short'] }])).toMatchObject({
      maxTtlSeconds: 60,
      maxLive: 2,
      policies: ['permit', 'short'],
    })
    const other: Answer = { decision: 'deny', policies: ['asks-others'] }
    expect(outcome([asks, allow], [other, { decision: 'allow', policies: ['short'] }])).toMatchObject({
      outcome: 'step-up',
      maxTtlSeconds: 60,
      policies: ['asks', 'asks-others'],
      stepUp: [
        { group: 'legal', approvals: 1 },
        { group: 'sre', approvals: 1 },
      ],
    })
  })

  it('is nobody a no', () => {
    expect(decide([], rules)).toMatchObject({ outcome: 'deny', error: expect.any(String) })
  })
})

describe('with the engine', () => {
  it('is told apart from deny, for whoever is asked', () => {
    const policy = preparePolicy(
      withPolicies(`
        @id("permit") permit(principal, action in [Action::"obtain", Action::"thaw"], resource);
        @id("asks") @stepUp("security") @approvals("2") forbid(principal, action == Action::"read", resource)
          when { !context.classified } unless { context.approval.groups.contains(Group::"security") };
        @id("asks-inside") @stepUp("sre-oncall") forbid(principal, action == Action::"read", resource)
          when { context.level == 3 } unless { context.approval.groups.contains(Group::"sre-oncall") && !context.external };
        @id("thaw") @stepUp("security") forbid(principal, action == Action::"thaw", resource)
          unless { context.approval.groups.contains(Group::"security") };`),
    )
    expect(policy.decide(obtain())).toMatchObject({ outcome: 'allow' })
    expect(policy.decide(obtain({ task: { classified: false } }))).toMatchObject({
      outcome: 'step-up',
      stepUp: [{ group: 'security', approvals: 2 }],
    })
    const inside = obtain({ task: { classified: false, classification: 'restricted' } })
    expect(policy.decide(inside)).toMatchObject({
      outcome: 'step-up',
      stepUp: [
        { group: 'security', approvals: 2 },
        { group: 'sre-oncall', approvals: 1 },
      ],
    })
    const outside = obtain({ task: { classified: false, classification: 'restricted' }, context: { external: true } })
    expect(policy.decide(outside)).toMatchObject({ outcome: 'deny', policies: ['asks', 'asks-inside'] })
    const thaw = policy.decide({ action: 'thaw', principal: operator(), resource: { type: 'Broker', id: 'this' } })
    expect(thaw).toMatchObject({ outcome: 'step-up', stepUp: [{ group: 'security', approvals: 1 }] })
    policy.close()
  })
})
