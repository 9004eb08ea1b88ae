import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Action } from '../../src/policy/actions.js'
import { newCedar } from '../../src/policy/cedar.js'
import { Engine, type PreparedAction } from '../../src/policy/evaluate.js'
import { openPolicy, type SyncPolicy } from '../../src/policy/index.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import { agent, obtain, operator, orchestrator, shipped, task, withPolicies } from './fixtures.js'

let policy: SyncPolicy
beforeAll(async () => {
  policy = await openPolicy(shipped)
})
afterAll(() => policy.close())

const SCHEMA = `
  entity Team in [Team]; entity Thing;
  entity Who in [Team] = { owner: Team, level: Long };
  action read appliesTo { principal: [Who], resource: [Thing], context: { n: Long } };`
/** Asks the library itself, and Mayfly's engine, the same. */
function ask(policies: Record<string, string>, call: { n: unknown; entities?: unknown[] }) {
  const engine = new Engine(new Map([['read', { schema: SCHEMA, policies }]]))
  const asked = {
    principal: { type: 'Who', id: 'a' },
    action: { type: 'Action', id: 'read' },
    resource: { type: 'Thing', id: 't' },
    context: { n: call.n },
    entities: call.entities ?? [],
  }
  const cedar = newCedar()
  const library = () => cedar.isAuthorized({ ...asked, schema: SCHEMA, validateRequest: true, policies: { staticPolicies: policies } } as never)
  return { engine, answer: engine.evaluate(asked as never, 'read'), asked, library }
}

describe('a policy that errs', () => {
  const permit = 'permit(principal, action, resource);'

  it('is a deny by overflow, where Cedar by itself allows', () => {
    const forbid = 'forbid(principal, action, resource) when { context.n * 9223372036854775807 > 5 };'
    const { answer, library } = ask({ permit, forbid }, { n: 3 })
    expect(library()).toMatchObject({ type: 'success', response: { decision: 'allow', diagnostics: { reason: ['permit'] } } })
    expect(answer).toEqual({ error: expect.stringContaining('forbid: integer overflow') })
  })

  it('is a deny by a missing entity, where Cedar by itself allows', () => {
    const { answer, library } = ask({ permit, forbid: 'forbid(principal, action, resource) when { principal.level > 2 };' }, { n: 1 })
    expect(library()).toMatchObject({ type: 'success', response: { decision: 'allow' } })
    expect(answer).toEqual({ error: expect.stringContaining('forbid: ') })
  })

  it.each([
    ['a value of another type', 'one'],
    ['a fraction', 1.5],
    ['nothing', undefined],
    ['null', null],
  ])('is an error for %s', (_, n) => {
    expect(ask({ permit }, { n }).answer).toEqual({ error: expect.any(String) })
  })

  it('is an error for an unknown action, and for a set that cannot be prepared', () => {
    const { engine, asked } = ask({ permit }, { n: 1 })
    expect(engine.evaluate(asked as never, 'write')).toEqual({ error: expect.stringContaining('unknown action') })
    expect(engine.evaluate({ ...asked, action: { type: 'Action', id: 'zap' } } as never, 'read')).toEqual({ error: expect.stringContaining('zap') })
    expect(ask({ permit: 'permit(' }, { n: 1 }).answer).toEqual({ error: expect.any(String) })
  })

  it('tells of itself in one short line without control characters', () => {
    const { engine, asked } = ask({ permit }, { n: 1 })
    const answer = engine.evaluate({ ...asked, action: { type: 'Action', id: `\n\u001b[31m\u2028${'x'.repeat(5000)}` } } as never, 'read')
    const { error } = answer as { error: string }
    expect(error.length).toBeLessThanOrEqual(300)
    expect(error).not.toMatch(/[\p{Cc}\u2028]/u)
  })
})

describe('a throw inside the engine', () => {
  it('is an error, and the next question is answered by a new instance', () => {
    const { engine, asked } = ask({ permit: 'permit(principal, action, resource);' }, { n: 1 })
    const poisoned = { ...asked, resource: { type: 'Thing', id: '\ud800' } }
    for (let round = 0; round < 3; round++) {
      expect(engine.evaluate(poisoned as never, 'read')).toEqual({ error: expect.stringContaining('the engine threw') })
      expect(engine.evaluate(asked as never, 'read')).toEqual({ decision: 'allow', policies: ['permit'] })
    }
  })
})

describe('an engine that died', () => {
  it('is replaced: the next question is answered', () => {
    const deep = `permit(principal, action, resource) when { ${'('.repeat(200)}true${')'.repeat(200)} };`
    const permit = { schema: SCHEMA, policies: { permit: 'permit(principal, action, resource);' } }
    const { asked } = ask({}, { n: 1 })
    const engine = new Engine(
      new Map<Action, PreparedAction>([
        ['read', permit],
        ['write', { schema: SCHEMA, policies: { deep } }],
      ]),
    )
    expect(engine.evaluate(asked as never, 'read')).toMatchObject({ decision: 'allow' })
    // Where the first of these does not kill an instance that is kept, the next ones do.
    for (let round = 0; round < 5; round++) {
      expect(engine.evaluate(asked as never, 'write')).toEqual({ error: expect.stringContaining('the engine threw') })
      expect(engine.evaluate(asked as never, 'read')).toMatchObject({ decision: 'allow' })
    }
  })
})

describe('an error of the engine', () => {
  it('is a deny that is not remembered', () => {
    const strange = obtain({ agent: { autonomy: 'free' as never } })
    const { hits, misses } = { ...policy.memo }
    for (let round = 0; round < 2; round++)
      expect(policy.decide(strange)).toMatchObject({ outcome: 'deny', policies: [], error: expect.stringContaining('free') })
    expect({ ...policy.memo }).toMatchObject({ hits, misses: misses + 2 })
  })
})

describe('a request that must not reach the engine', () => {
  const LONE = 'x\ud800'
  it.each<[string, PolicyRequest]>([
    ['a team', obtain({ agent: { team: LONE } })],
    ['what was obtained', obtain({ role: { access: 'write' }, agent: { team: 'platform' }, task: { obtained: [LONE] } })],
    ['a label', obtain({ agent: { labels: [LONE] } })],
  ])('is denied for a lone surrogate in %s, and not remembered', (_, request) => {
    const before = policy.memo.misses
    expect(policy.decide(request)).toMatchObject({ outcome: 'deny', error: expect.stringContaining('well-formed') })
    expect(policy.decide(request)).toMatchObject({ outcome: 'deny' })
    expect(policy.memo.misses).toBe(before + 2)
  })

  it('is denied for ids with a lone surrogate where some policy compares ids', () => {
    const named = preparePolicy(
      withPolicies(`@id("p") permit(principal, action, resource);
        @id("a") forbid(principal == Agent::"mallory", action == Action::"read", resource);
        @id("r") forbid(principal, action == Action::"read", resource == Role::"s3-export");
        @id("f") forbid(principal, action == Action::"freeze", resource == Agent::"root");
        @id("h") forbid(principal == Human::"eve", action == Action::"read", resource);`),
    )
    for (const request of [
      obtain({ agent: { id: LONE } }),
      obtain({ role: { name: LONE } }),
      obtain({ task: { human: LONE } }),
      { action: 'freeze', principal: operator(), resource: { type: 'Agent', id: LONE } } satisfies PolicyRequest,
    ])
      expect(named.decide(request)).toMatchObject({ outcome: 'deny', error: expect.stringContaining('well-formed') })
    named.close()
  })

  it('is denied for a number that is none, too large a scope, a key of two readings, a role of another access', () => {
    const reading = preparePolicy(
      withPolicies(`@id("p") permit(principal, action in Action::"obtain", resource) when { context.ttl < 1000 || context.scope.contains("a=b") };`),
    )
    const scope = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, 'v']))
    expect(reading.decide(obtain())).toMatchObject({ outcome: 'allow' })
    for (const ttlSeconds of [Number.NaN, 1.5, 2 ** 60, Number.POSITIVE_INFINITY])
      expect(reading.decide(obtain({ context: { ttlSeconds } }))).toMatchObject({ outcome: 'deny', error: expect.any(String) })
    expect(reading.decide(obtain({ context: { scope } }))).toMatchObject({ outcome: 'deny', error: expect.stringContaining('more than 64') })
    expect(reading.decide(obtain({ context: { scope: { 'a=b': 'c' } } }))).toMatchObject({ outcome: 'deny', error: expect.any(String) })
    const widened = { ...obtain(), action: 'write' } as PolicyRequest
    expect(reading.decide(widened)).toMatchObject({ outcome: 'deny', error: expect.stringContaining('for read, not for write') })
    reading.close()
  })

  it('is denied for an action of no name, and for a request of no form', () => {
    expect(policy.decide({ ...obtain(), action: 'zap' } as never)).toMatchObject({ outcome: 'deny', error: 'unknown action' })
    expect(policy.decide({ ...obtain(), action: '__proto__' } as never)).toMatchObject({ outcome: 'deny', error: 'unknown action' })
    expect(policy.decide(undefined as never)).toMatchObject({ outcome: 'deny', error: expect.any(String) })
    expect(policy.decide({ action: 'read' } as never)).toMatchObject({ outcome: 'deny', error: expect.any(String) })
    expect(policy.decide({ ...obtain(), task: undefined } as never)).toMatchObject({ outcome: 'deny', error: expect.any(String) })
  })

  it('is denied for whoever the action is not for, without an error', () => {
    const broker = { type: 'Broker', id: 'this' } as const
    const gateway = { ...agent(), kind: 'gateway', audiences: [], tools: [] } as const
    for (const principal of [agent(), orchestrator(), gateway]) {
      const decision = policy.decide({ action: 'emergencyRevoke', principal, resource: broker })
      expect(decision).toMatchObject({ outcome: 'deny', reasons: [expect.stringContaining('emergencyRevoke is not for')] })
      expect(decision.error).toBeUndefined()
    }
    expect(policy.decide({ action: 'openTask', principal: operator(), task: task() } as never)).toMatchObject({ outcome: 'deny' })
    expect(policy.decide({ ...obtain(), principal: operator() } as never)).toMatchObject({ outcome: 'deny' })
    expect(policy.decide({ ...obtain(), principal: { ...agent(), kind: 'human' } } as never)).toMatchObject({ outcome: 'deny' })
  })
})

describe('nothing known', () => {
  it('allows nothing: no policies, no answer but deny', async () => {
    const empty = await openPolicy(withPolicies(''))
    const broker = { type: 'Broker', id: 'this' } as const
    for (const request of [
      obtain(),
      { action: 'openTask', principal: orchestrator(), task: task() } satisfies PolicyRequest,
      { action: 'inspect', principal: operator(), resource: broker } satisfies PolicyRequest,
    ])
      expect(empty.decide(request)).toMatchObject({ outcome: 'deny', policies: [] })
    empty.close()
    const none = await openPolicy({ ...withPolicies(''), files: [] })
    expect(none.decide(obtain())).toMatchObject({ outcome: 'deny', policies: [] })
    none.close()
  })

  it('has its most restrictive value', () => {
    const strict = preparePolicy(
      withPolicies(`@id("p") permit(principal, action == Action::"read", resource) when {
        context.intent == Intent::"unclassified" && !context.classified && context.environment == Environment::"unknown" && context.level == 3 &&
        resource.level == 3 && resource.sensitivity == Sensitivity::"restricted" && context.confidence.lessThan(decimal("0.01")) };`),
    )
    for (const confidence of [Number.NaN, -1, 2, 0, 0.009, Number.POSITIVE_INFINITY]) {
      const unknown = { intent: 'no such', environment: 'no such', classification: 'no such', confidence } as never
      expect(strict.decide(obtain({ task: unknown, role: { sensitivity: 'no such' as never } }))).toMatchObject({ outcome: 'allow' })
    }
    expect(strict.decide(obtain())).toMatchObject({ outcome: 'deny' })
    strict.close()
  })
})

describe('what is above', () => {
  const inside = { teams: { analytics: ['data'], data: ['company'] }, groups: { 'sre-oncall': ['security'] } }
  it('is sent however far above: a forbid on a parent team fires', () => {
    const text = `@id("p") permit(principal, action == Action::"read", resource);
      @id("f") forbid(principal in Team::"company", action == Action::"read", resource);`
    const flat = preparePolicy(withPolicies(text))
    expect(flat.decide(obtain())).toMatchObject({ outcome: 'allow' })
    const nested = preparePolicy(withPolicies(text, { inside }))
    expect(nested.decide(obtain())).toMatchObject({ outcome: 'deny', policies: ['f'] })
    expect(nested.decide(obtain({ agent: { team: 'platform' } }))).toMatchObject({ outcome: 'allow' })
    expect(flat.version).not.toBe(nested.version)
  })

  it('counts for operators and for roles too', () => {
    const text = `@id("p") permit(principal in Group::"security", action == Action::"freeze", resource);
      @id("r") permit(principal is Agent, action == Action::"read", resource) when { resource in Provider::"warehouse" };`
    const nested = preparePolicy(withPolicies(text, { inside }))
    const freeze = (groups: string[]) =>
      ({ action: 'freeze', principal: operator({ groups }), resource: { type: 'Role', id: 'x' } }) satisfies PolicyRequest
    expect(nested.decide(freeze(['sre-oncall']))).toMatchObject({ outcome: 'allow' })
    expect(nested.decide(freeze(['other', 'sre-oncall']))).toMatchObject({ outcome: 'allow' })
    expect(nested.decide(freeze([]))).toMatchObject({ outcome: 'deny' })
    expect(nested.decide(obtain())).toMatchObject({ outcome: 'allow' })
    expect(nested.decide(obtain({ role: { provider: 'cache' } }))).toMatchObject({ outcome: 'deny' })
  })
})
