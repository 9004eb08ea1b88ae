import { afterEach, describe, expect, it } from '@jest/globals'
import { openPolicy, type SyncPolicy } from '../../src/policy/index.js'
import { type Asked, obtain, withPolicies } from './fixtures.js'

const GRANT = '@id("grant") @maxTtl("3600") permit(principal, action in Action::"obtain", resource);'
const LIMIT = `@id("limit") @maxTtl("600") @maxLive("3") forbid(principal is Agent, action == Action::"read", resource)
  when { principal.autonomy == Autonomy::"autonomous" };`
const STEP_UP = `@id("ask") @stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) when { context.level > 2 }
  unless { context.approval.groups.contains(Group::"sre-oncall") };`

let policy: SyncPolicy | undefined
afterEach(() => policy?.close())
const decide = async (text: string, asked: Asked = {}) => {
  policy = await openPolicy(withPolicies(text))
  return policy.decide(obtain({ ...asked, agent: { autonomy: 'autonomous', ...asked.agent } }))
}

describe('a forbid with @maxTtl or @maxLive', () => {
  it('refuses nothing, bounds what is allowed, and is among what decided', async () => {
    expect(await decide(GRANT + LIMIT)).toMatchObject({ outcome: 'allow', maxTtlSeconds: 600, maxLive: 3, policies: ['grant', 'limit'] })
  })
  it('bounds nothing that it does not cover', async () => {
    for (const asked of [{ agent: { autonomy: 'scripted' } }, { role: { access: 'write' } }] as const) {
      const decision = await decide(GRANT + LIMIT, asked)
      expect(decision).toMatchObject({ outcome: 'allow', maxTtlSeconds: 3600, policies: ['grant'] })
      expect(decision.maxLive).toBeUndefined()
    }
  })
  it('never lengthens: the least of all counts', async () => {
    const tighter = '@id("grant") @maxTtl("60") permit(principal, action in Action::"obtain", resource);'
    expect(await decide(tighter + LIMIT)).toMatchObject({ maxTtlSeconds: 60, maxLive: 3 })
    const both = `${LIMIT} @id("other") @maxTtl("300") forbid(principal is Agent, action in Action::"obtain", resource);`
    expect(await decide(GRANT + both)).toMatchObject({ maxTtlSeconds: 300, maxLive: 3, policies: ['grant', 'limit', 'other'] })
  })
  it('allows nothing by itself', async () => {
    expect(await decide(LIMIT)).toMatchObject({ outcome: 'deny', policies: [] })
  })
  it('bounds what a human consents to as well, asked before and after', async () => {
    const text = GRANT + LIMIT + STEP_UP
    const asked = { task: { classification: 'restricted' } } as const
    expect(await decide(text, asked)).toMatchObject({ outcome: 'step-up', maxTtlSeconds: 600, maxLive: 3, policies: ['ask'] })
    const request = obtain({ ...asked, agent: { autonomy: 'autonomous' } })
    const consented = policy?.decide({ ...request, consent: ['sre-oncall'] } as typeof request)
    expect(consented).toMatchObject({ outcome: 'allow', maxTtlSeconds: 600, maxLive: 3 })
  })
  it('is asked of the agent, also where it acts for a human', async () => {
    expect(await decide(GRANT + LIMIT, { task: { human: 'ann@example.com' } })).toMatchObject({ outcome: 'allow', maxTtlSeconds: 600, maxLive: 3 })
  })
  it('that only changes its number is another version', async () => {
    const one = (await decide(GRANT + LIMIT)).policyVersion
    expect((await decide(GRANT + LIMIT.replace('600', '500'))).policyVersion).not.toBe(one)
  })
})
