import { describe, expect, it } from '@jest/globals'
import { checkCandidate, openPolicy, PolicyProblems } from '../../src/policy/index.js'
import { preparePolicy } from '../../src/policy/prepare.js'
import { obtain, shipped, withPolicies } from './fixtures.js'

const NESTED = `@id("a") permit(principal, action, resource) when { ${'('.repeat(200)}true${')'.repeat(200)} };`
const MEBI = 2 ** 20

describe('a candidate', () => {
  it('that is good has no problems', async () => {
    expect(await checkCandidate(shipped)).toEqual([])
  })

  it('that is bad has all of them, each in a line', async () => {
    const text = '@id("a") @zap("1") permit(principal, action, resource);'
    expect(await checkCandidate(withPolicies(text))).toEqual([expect.stringMatching(/^test\.cedar: a: @zap is not known/)])
    const failure = await openPolicy(withPolicies(text)).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(PolicyProblems)
    expect(failure).toMatchObject({ code: 'policy_unavailable', details: { issues: [{ path: 'test.cedar: a' }] } })
  })

  it('that kills its engine is a problem, and the engine that serves goes on', async () => {
    const policy = await openPolicy(shipped)
    expect(await checkCandidate(withPolicies(NESTED))).toEqual([expect.stringMatching(/^policies: could not be read: /)])
    await expect(openPolicy(withPolicies(NESTED))).rejects.toThrow('could not be read')
    expect(policy.decide(obtain())).toMatchObject({ outcome: 'allow' })
    policy.close()
  })
})

describe('a reload', () => {
  it('leaves the old version answering until it is let go, and each names its own', () => {
    const before = preparePolicy(withPolicies('@id("old") permit(principal, action == Action::"read", resource);'))
    const after = preparePolicy(withPolicies('@id("new") forbid(principal, action == Action::"read", resource);'))
    expect(before.decide(obtain())).toMatchObject({ outcome: 'allow', policies: ['old'], policyVersion: before.version })
    expect(after.decide(obtain())).toMatchObject({ outcome: 'deny', policies: ['new'], policyVersion: after.version })
    expect(before.version).not.toBe(after.version)
    before.close()
    expect(after.decide(obtain())).toMatchObject({ outcome: 'deny' })
    after.close()
  })

  it('of the same text is the same version, whatever order the files come in', () => {
    const one = preparePolicy(shipped)
    const other = preparePolicy({ ...shipped, files: [...shipped.files].reverse() })
    expect(one.version).toBe(other.version)
    one.close()
    other.close()
  })

  it('leaves nothing behind', async () => {
    const reload = () => {
      const policy = preparePolicy(withPolicies('@id("p") permit(principal, action, resource);'))
      policy.decide(obtain())
      policy.close()
    }
    const settle = () => new Promise((resolve) => setImmediate(resolve))
    for (let round = 0; round < 15; round++) {
      reload()
      await settle()
    }
    const before = process.memoryUsage().rss
    for (let round = 0; round < 30; round++) {
      reload()
      await settle()
    }
    // 30 instances that stayed are over 120 MB.
    expect((process.memoryUsage().rss - before) / MEBI).toBeLessThan(60)
  })
})

describe('hostile callers', () => {
  it('do not fill the memory: 2,000 strings that would make the engine throw, 2,000 that are long', () => {
    const policy = preparePolicy(
      withPolicies(
        '@id("p") permit(principal, action == Action::"read", resource) when { context has destination && context.destination like "*" };',
      ),
    )
    const ask = (destination: string) => policy.decide(obtain({ context: { destination } }))
    const round = (count: number) => {
      for (let index = 0; index < count; index++) {
        expect(ask(`${index}\ud800`).outcome).toBe('deny')
        expect(ask(`${index}${'\u0000"\\'.repeat(3000)}`).outcome).toBe('allow')
      }
    }
    round(200)
    const before = process.memoryUsage()
    round(2000)
    const after = process.memoryUsage()
    expect((after.rss - before.rss) / MEBI).toBeLessThan(64)
    expect(ask('fine')).toMatchObject({ outcome: 'allow' })
    policy.close()
  })
})
