import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { attributes, UNCLASSIFIED, UNKNOWN_ENVIRONMENT } from '../../src/policy/attributes.js'
import { requestOf, written } from '../../src/policy/case.js'
import { candidateOf, type PolicyOptions, PolicyProblems, type SimulationAsk, simulate } from '../../src/policy/index.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { inputOf } from '../../src/policy-input.js'
import { obtains } from './arbitrary.js'
import { obtain, operator, shipped, withPolicies } from './fixtures.js'

const folder = mkdtempSync(join(tmpdir(), 'simulate-'))
afterAll(() => rmSync(folder, { recursive: true }))

type ObtainRequest = Extract<PolicyRequest, { role: unknown }>
/** As it comes out of an event. */
const kept = (request: PolicyRequest) => JSON.parse(JSON.stringify(inputOf(request as ObtainRequest))).input
const read = written({})

const READ = '@id("read") @maxTtl("600") permit(principal, action == Action::"read", resource);'
const try_ = (candidate: PolicyOptions, given: readonly unknown[], more: Partial<SimulationAsk> = {}) =>
  simulate({ binding: withPolicies(READ), candidate, requests: { given }, deadlineMs: 20_000, ...more })

describe('what an event keeps of a request', () => {
  const vocabulary = { intents: new Set(['deploy', UNCLASSIFIED]), environments: new Set(['production', UNKNOWN_ENVIRONMENT]) }
  const table = attributes(vocabulary)

  it('is, attribute by attribute, what policy was asked: a new attribute that is forgotten fails here', () => {
    const all = (request: PolicyRequest) => {
      const { principal, role: asked, task: of } = request as ObtainRequest
      return {
        agent: [principal.id, principal.team, ...table.agent.map((it) => [it.name, it.of(principal)])],
        role: [asked.name, asked.provider, ...table.role.map((it) => [it.name, it.of(asked)])],
        context: table.context.obtain.map((it) => [it.name, it.of(request as ObtainRequest)]),
        human: of.human,
      }
    }
    fc.assert(
      fc.property(obtains, (request) => {
        expect(all(requestOf(read.parse(kept(request))))).toEqual(all(request))
      }),
    )
  })

  it('is bounded, and holds nothing that policies cannot read', () => {
    const scope = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`key${index}`, Array.from({ length: 64 }, () => 'x'.repeat(512))]))
    expect(inputOf(obtain({ context: { scope } }) as ObtainRequest)).toEqual({})
    const text = JSON.stringify(
      kept(obtain({ agent: { tokenFingerprint: 'FINGERPRINT', subject: 'SUBJECT' }, role: { params: { secret: 'PARAMS' } } })),
    )
    expect(text).not.toMatch(/FINGERPRINT|SUBJECT|PARAMS/)
    expect(text.length).toBeLessThan(600)
  })
})

describe('a simulation', () => {
  it('tells what would change, how often, and keeps an example of each', async () => {
    const candidate = withPolicies(`
      @id("short") @maxTtl("60") permit(principal, action == Action::"read", resource) when { resource.sensitivity == Sensitivity::"public" };
      @id("write") permit(principal, action == Action::"write", resource);
      @id("any") permit(principal, action == Action::"read", resource) when { resource.sensitivity == Sensitivity::"restricted" };
      @id("ask") @stepUp("security") @reason("ask first") forbid(principal, action == Action::"read", resource)
        when { resource.sensitivity == Sensitivity::"restricted" } unless { context.approval.groups.contains(Group::"security") };`)
    const given = [
      ...Array.from({ length: 3 }, () => obtain({ role: { sensitivity: 'public' } })),
      obtain({ role: { access: 'write' } }),
      ...Array.from({ length: 2 }, () => obtain({ role: { sensitivity: 'internal' } })),
      obtain({ role: { sensitivity: 'restricted' } }),
      obtain({ role: { access: 'escalate' } }),
    ].map(kept)
    const { changes, examples, ...rest } = await try_(candidate, given)
    expect(rest).toMatchObject({ asked: 8, unchanged: 1, complete: true, unreadable: { count: 0 }, more_examples: 0 })
    expect(changes).toEqual({ allowed: 1, denied: 2, step_up: 1, ttl: 3, obligations: 0 })
    expect(examples.map(({ change, count }) => [change, count])).toEqual([
      ['ttl', 3],
      ['denied', 2],
      ['allowed', 1],
      ['step_up', 1],
    ])
    expect(examples[0]).toMatchObject({ binding: { policies: ['read'], ttl: 300 }, candidate: { policies: ['short'], ttl: 60 } })
    expect(examples[3]).toMatchObject({
      binding: { outcome: 'allow' },
      candidate: { outcome: 'step-up', policies: ['ask'], reasons: ['ask first'], step_up: [{ group: 'security', approvals: 1 }] },
      request: given[6],
    })
  })

  it('tells another consent or limit apart from another outcome', async () => {
    const limited = withPolicies(READ.replace('@maxTtl("600")', '@maxTtl("600") @maxLive("2")'))
    expect((await try_(limited, [kept(obtain())])).changes).toEqual({ allowed: 0, denied: 0, step_up: 0, ttl: 0, obligations: 1 })
  })

  it('of the same policies changes nothing, of every kind of request', async () => {
    const freeze = { action: 'freeze', operator: { id: 'ann', groups: ['sre-oncall'] } }
    const open = { action: 'openTask', orchestrator: { id: 'flows', team: 'platform' }, about: 'a case', expect: {} }
    const given = [kept(obtain()), freeze, open]
    const answer = await simulate({ binding: shipped, candidate: candidateOf(shipped, undefined), requests: { given }, deadlineMs: 20_000 })
    expect(answer).toMatchObject({ asked: 3, unchanged: 3, examples: [] })
    expect(answer.versions.candidate).toBe(answer.versions.binding)
    expect(operator().kind).toBe('operator')
  })

  it('says of what it could not read, and goes on', async () => {
    const answer = await try_(withPolicies(READ), [{ action: 'read' }, 7, kept(obtain())])
    expect(answer).toMatchObject({ asked: 1, unchanged: 1, unreadable: { count: 2, first: expect.stringContaining('request 1: ') } })
  })

  it('reads the last requests of files of events, and passes over all else', async () => {
    const line = (id: string, at: string, more: object) =>
      JSON.stringify({ partition: 1, stream_id: '1-1', at, id, type: 'lease.issued', detail: more })
    const input = kept(obtain())
    const lines = [
      line('old', '2026-01-01T00:00:00.000Z', { input }),
      line('ended', '2026-01-02T00:00:00.000Z', {}),
      '{"partition":1,"detail":{"input":{"torn',
      line('words', '2026-01-02T00:00:00.000Z', { claimed_reason: '"input":{' }),
      line('one', '2026-01-02T00:00:00.000Z', { input }),
      line('two', '2026-01-03T00:00:00.000Z', { input }),
    ]
    const file = join(folder, 'events.jsonl')
    writeFileSync(file, `${lines.join('\n')}\n`)
    const candidate = withPolicies('')
    const all = await try_(candidate, [], { requests: { files: [file], limit: 10 } })
    expect(all).toMatchObject({ asked: 3, changes: { denied: 3 }, from: '2026-01-01T00:00:00.000Z', to: '2026-01-03T00:00:00.000Z' })
    const since = await try_(candidate, [], { requests: { files: [file], limit: 10, sinceMs: Date.parse('2026-01-02T00:00:00Z') } })
    expect(since.asked).toBe(2)
    const last = await try_(candidate, [], { requests: { files: [file], limit: 1 } })
    expect(last).toMatchObject({ asked: 1, examples: [{ event: 'two', at: '2026-01-03T00:00:00.000Z' }] })
  })
})

describe('a hostile candidate', () => {
  it('that kills its engine is a problem of its own', async () => {
    const nested = `@id("a") permit(principal, action, resource) when { ${'('.repeat(200)}true${')'.repeat(200)} };`
    const failure = await try_(withPolicies(nested), [kept(obtain())]).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(PolicyProblems)
  })

  it('that is not valid is told where', async () => {
    const failure = await try_(withPolicies('\n@id("a") @zap("1") permit(principal, action, resource);'), []).catch((error: unknown) => error)
    expect(failure).toMatchObject({ problems: [{ path: 'test.cedar: a', line: 2, message: expect.stringContaining('@zap') }] })
  })

  it('that takes too long is stopped, and what was asked till then is answered', async () => {
    const given = Array.from({ length: 20_000 }, (_, index) => kept(obtain({ context: { destination: `d${index}` } })))
    const slow = Array.from(
      { length: 40 },
      (_, index) => `@id("p${index}") permit(principal, action == Action::"read", resource) when
      { context has destination && context.destination like "*a*b*c*d${index}*" };`,
    )
    const answer = await try_(withPolicies(slow.join('\n')), given, { deadlineMs: 1_500 })
    expect(answer.complete).toBe(false)
    expect(answer.asked).toBeGreaterThan(0)
    expect(answer.asked).toBeLessThan(20_000)
  }, 30_000)
})
