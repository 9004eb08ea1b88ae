import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { openChannel } from '../../src/identity/channel.js'
import { type OpaPolicy, openOpa } from '../../src/policy/opa/opa.js'
import type { OpaOptions } from '../../src/policy/opa/options.js'
import { probe } from '../../src/policy/opa/probe.js'
import type { PolicyRequest } from '../../src/policy/policy.js'
import { waitFor } from '../support/wait.js'
import { obtain, operator, orchestrator, sample, task } from './fixtures.js'

type ObtainRequest = Extract<PolicyRequest, { role: unknown }>
interface Asked {
  readonly path: string
  readonly authorization?: string
  readonly input: Record<string, unknown>
}
type Behave = (response: ServerResponse, asked: Asked) => void

/** A fake OPA: the real one is tried in engines.test.ts, and cannot be made to misbehave. */
let fake: Server
let url: string
let behave: Behave
let asked: Asked[] = []
const dripping = new Set<NodeJS.Timeout>()

const says = (body: unknown, status = 200): Behave => {
  return (response) => response.writeHead(status, { 'content-type': 'application/json' }).end(typeof body === 'string' ? body : JSON.stringify(body))
}
const decides = (result: object, more: object = {}) => says({ result, ...more })
const ALLOW = { outcome: 'allow', policies: ['read'], reasons: [], max_ttl: 60 }

beforeAll(async () => {
  fake = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { input } = JSON.parse(Buffer.concat(chunks).toString()) as { input: Record<string, unknown> }
    const one = { path: request.url ?? '', authorization: request.headers.authorization, input }
    asked.push(one)
    behave(response, one)
  })
  await new Promise<void>((listening) => fake.listen(0, '127.0.0.1', listening))
  const address = fake.address()
  url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
})
afterAll(() => {
  for (const timer of dripping) clearInterval(timer)
  fake.closeAllConnections()
  fake.close()
})
beforeEach(() => {
  asked = []
  others = []
  behave = decides(ALLOW)
})

let now = 0
let others: string[] = []
const optionsOf = (more: Partial<OpaOptions> = {}): OpaOptions => ({
  ...{
    engine: 'opa',
    url,
    path: 'mayfly/decision',
    timeoutMs: 2_000,
    watchMs: 60_000,
    stop: ['sre-oncall'],
    concurrency: 4,
    allowHttpLoopback: true,
  },
  ...{ vocabulary: sample.vocabulary, known: { groups: ['sre-oncall', 'security'] } },
  ...more,
})
async function withOpa(more: Partial<OpaOptions>, use: (policy: OpaPolicy) => Promise<void>): Promise<void> {
  const policy = openOpa(optionsOf(more), { open: openChannel, now: () => now, onOtherPolicies: (version) => others.push(version) })
  await use(policy).finally(() => policy.close())
}

const drip: Behave = (response) => {
  response.writeHead(200, { 'content-type': 'application/json' }).write('{"result":')
  dripping.add(setInterval(() => response.write(' '), 20))
}
/** What is no answer, and whether it may be one another time. */
const MISBEHAVIOURS: readonly (readonly [what: string, behave: Behave, error: RegExp, unavailable: boolean])[] = [
  ['never answers', () => {}, /did not answer in 300 ms/, true],
  ['drips for ever', drip, /did not answer in 300 ms/, true],
  ['breaks off', (response) => response.destroy(), /could not be reached, or broke off/, true],
  ['answers 500', says({ code: 'internal_error', message: 'no' }, 500), /answered 500: internal_error, no/, true],
  ['answers 429', says('', 429), /answered 429/, true],
  ['cannot evaluate', says({ code: 'internal_error', errors: [{ code: 'eval_conflict_error', message: 'two' }] }, 500), /answered 500/, false],
  ['answers 401', says({ code: 'unauthorized', message: 'request rejected' }, 401), /answered 401: unauthorized/, false],
  ['redirects', (response) => response.writeHead(307, { location: `${url}/elsewhere` }).end(), /answered 307/, false],
  ['answers with more than is read', says({ result: ALLOW, padding: 'x'.repeat(70_000) }), /more than is read/, true],
  ['answers no JSON', says('allow'), /did not answer with JSON/, false],
  ['answers half a JSON', says('{"result": {"outcome": "allow"'), /did not answer with JSON/, false],
  ['answers a list', says([]), /did not answer as OPA does/, false],
  ['has no decision', says({}), /no decision at this path/, false],
  ['decides true', says({ result: true }), /cannot be read/, false],
  ['decides an unknown outcome', decides({ ...ALLOW, outcome: 'maybe' }), /cannot be read: outcome/, false],
  ['has no outcome', decides({ ...ALLOW, outcome: undefined }), /cannot be read: outcome/, false],
  ['says more than is known', decides({ ...ALLOW, maxTtl: 60 }), /Unrecognized key: "maxTtl"/, false],
  ['allows for a text of seconds', decides({ ...ALLOW, max_ttl: '60' }), /cannot be read: max_ttl/, false],
  ['allows for no time', decides({ ...ALLOW, max_ttl: 0 }), /cannot be read: max_ttl/, false],
  ['allows by no policy', decides({ ...ALLOW, policies: [] }), /names no policy/, false],
  ['allows, and asks', decides({ ...ALLOW, step_up: [{ group: 'sre-oncall', approvals: 1 }] }), /Unrecognized key: "step_up"/, false],
  ['asks nobody', decides({ ...ALLOW, outcome: 'step-up', step_up: [] }), /cannot be read: step_up/, false],
  ['asks strangers', decides({ ...ALLOW, outcome: 'step-up', step_up: [{ group: 'friends', approvals: 1 }] }), /group "friends"/, false],
  ['speaks in broken characters', says('{"result":{"outcome":"allow","policies":["\\ud800"]}}'), /not well-formed/, false],
]

describe('an OPA that misbehaves', () => {
  it.each(MISBEHAVIOURS)('%s: the answer is no, and is not remembered', async (_what, misbehave, error, unavailable) => {
    await withOpa({ timeoutMs: 300, memoSize: 100 }, async (policy) => {
      behave = misbehave
      const decision = await policy.decide(obtain())
      expect(decision).toMatchObject({ outcome: 'deny', policies: [], error: expect.stringMatching(error) })
      expect(decision.unavailable).toBe(unavailable ? true : undefined)
      expect(asked.map(({ path }) => path)).not.toContain('/elsewhere')
      behave = decides({ ...ALLOW, max_age: 60 })
      expect(await policy.decide(obtain())).toMatchObject({ outcome: 'allow', maxTtlSeconds: 60 })
    })
  })

  it.each(['is away', 'answers nonsense'])(
    'that %s keeps nobody from stopping: whoever opened a task ends it, some operators freeze and revoke',
    async (how) => {
      await withOpa({ url: how === 'is away' ? 'http://127.0.0.1:9' : url }, async (policy) => {
        behave = says('nonsense')
        const broker = { type: 'Broker', id: 'this' } as const
        const stranger = { kind: 'orchestrator', id: 'other', issuer: 'cluster' } as const
        const stops: PolicyRequest[] = [
          { action: 'endTask', principal: orchestrator(), task: task() },
          { action: 'endTask', principal: orchestrator(), task: { ...task({ openedBy: stranger }), rootOpenedBy: task().openedBy } },
          { action: 'freeze', principal: operator(), resource: broker },
          { action: 'emergencyRevoke', principal: operator(), resource: { type: 'Agent', id: 'triage' } },
        ]
        for (const request of stops) expect(await policy.decide(request)).toMatchObject({ outcome: 'allow', policies: ['stop-without-opa'] })
        const refused: PolicyRequest[] = [
          { action: 'endTask', principal: orchestrator(), task: task({ openedBy: stranger }) },
          { action: 'openTask', principal: orchestrator(), task: task() },
          { action: 'changeTask', principal: orchestrator(), task: task() },
          { action: 'freeze', principal: operator({ groups: ['security'] }), resource: broker },
          { action: 'thaw', principal: operator(), resource: broker },
          { action: 'inspect', principal: operator(), resource: broker },
          obtain(),
        ]
        for (const request of refused) expect(await policy.decide(request)).toMatchObject({ outcome: 'deny', error: expect.any(String) })
        // Its no is a no.
        if (how === 'is away') return
        behave = decides({ outcome: 'deny', policies: ['nobody-freezes'] })
        for (const request of stops) expect(await policy.decide(request)).toMatchObject({ outcome: 'deny', policies: ['nobody-freezes'] })
      })
    },
  )

  it('is left alone once it has not answered five times, and asked again later', async () => {
    await withOpa({ timeoutMs: 100 }, async (policy) => {
      behave = () => {}
      for (let times = 0; times < 5; times++) await policy.decide(obtain())
      expect(policy.state?.()).toBe('open')
      const before = asked.length
      expect(await policy.decide(obtain())).toMatchObject({ outcome: 'deny', unavailable: true, error: expect.stringMatching(/left alone/) })
      expect(asked).toHaveLength(before)
      behave = decides(ALLOW)
      await waitFor('an answer', async () => (await policy.decide(obtain())).outcome === 'allow')
      expect(policy.state?.()).toBe('closed')
    })
  })

  it('is not asked by more than can wait', async () => {
    await withOpa({ timeoutMs: 500, concurrency: 1 }, async (policy) => {
      behave = () => {}
      const decisions = await Promise.all(Array.from({ length: 40 }, () => policy.decide(obtain())))
      expect(decisions.every(({ outcome, unavailable }) => outcome === 'deny' && unavailable)).toBe(true)
      expect(decisions.filter(({ error }) => /too many questions wait/.test(error ?? ''))).toHaveLength(23)
      // One at once: the first held its place for all the time that the others had, or nearly so.
      expect(asked.length).toBeLessThanOrEqual(17)
    })
  })

  it('that is not there keeps nobody from starting, and is found by a probe', async () => {
    await withOpa({ url: 'http://127.0.0.1:9' }, async (policy) => {
      expect(await policy.decide(obtain())).toMatchObject({ outcome: 'deny', unavailable: true, error: expect.stringMatching(/ECONNREFUSED/) })
      expect(await probe(policy)).toEqual([{ path: 'opa', message: expect.stringMatching(/ECONNREFUSED/) }])
    })
    await withOpa({}, async (policy) => {
      expect(await probe(policy)).toEqual([])
      behave = (response, { input }) => (input.action === 'thaw' ? says({}) : decides(ALLOW))(response, { path: '', input })
      expect(await probe(policy)).toEqual([{ path: 'opa: thaw', message: expect.stringMatching(/no decision at this path/) }])
    })
  })

  it.each([
    ['http://192.0.2.1:8181', /only loopback may be asked over http/],
    ['https://169.254.169.254', /metadata|linkLocal/],
    ['https://10.0.0.1', /resolves to a private address/],
    ['https://user:secret@opa.example', /no credentials/],
  ])('is never asked at %s', (address, message) => {
    expect(() => openOpa(optionsOf({ url: address }), { open: openChannel })).toThrow(message)
  })
})

describe('an OPA', () => {
  it('is asked with the whole request, and with the token', async () => {
    await withOpa({ token: 'opa-token' }, async (policy) => {
      await policy.decide(obtain({ task: { intent: 'nonsense', environment: 'moon', confidence: 0.599 } }))
      expect(asked).toHaveLength(1)
      expect(asked[0]).toMatchObject({
        path: '/v1/data/mayfly/decision?strict-builtin-errors=true&provenance=true',
        authorization: 'Bearer opa-token',
      })
      expect(asked[0]?.input).toMatchObject({
        principal: 'agent',
        agent: { id: 'triage', team: 'analytics' },
        role: { name: 'warehouse-read', provider: 'warehouse' },
        // What is in no vocabulary is not known, and what is not known is not classified.
        task: { intent: 'unclassified', classified: false, environment: 'unknown', confidence: 0.59 },
      })
      expect(JSON.stringify(asked)).not.toMatch(/fingerprint|task_1/)
    })
  })

  it('is told apart by the version that it names, or by its bundles; its own log is found from the event', async () => {
    await withOpa({}, async (policy) => {
      behave = decides({ ...ALLOW, version: 'v7' }, { decision_id: 'd1' })
      expect(await policy.decide(obtain())).toMatchObject({ policyVersion: 'v7', decisionIds: ['d1'], readsCounts: true })
      expect(policy.version).toBe('v7')
      behave = decides({ ...ALLOW, reads_counts: false }, { provenance: { version: '1.22.3', bundles: { main: { revision: '4f0c1a' } } } })
      expect(await policy.decide(obtain())).toMatchObject({ policyVersion: 'main@4f0c1a', readsCounts: false })
      behave = decides(ALLOW)
      expect(await policy.decide(obtain())).toMatchObject({ policyVersion: 'unversioned' })
    })
  })

  it('tells once when other policies decide, also where nobody asks anything', async () => {
    await withOpa({ watchMs: 10 }, async (policy) => {
      behave = decides({ outcome: 'deny', policies: [], version: 'v1' })
      await waitFor('the first version', () => policy.version === 'v1')
      expect(others).toEqual([])
      behave = decides({ outcome: 'deny', policies: [], version: 'v2' })
      await waitFor('other policies', () => others.length > 0)
      behave = says('', 401)
      const before = asked.length
      await waitFor('more looks', () => asked.length > before + 2)
      expect(others).toEqual(['v2'])
      expect(policy.version).toBe('v2')
    })
  })

  it('is asked for the human too, and one no is a no', async () => {
    await withOpa({}, async (policy) => {
      const request = obtain({ task: { human: 'ann' } })
      const answer =
        (agent: object, human: object): Behave =>
        (response, it) =>
          decides(it.input.principal === 'human' ? human : agent)(response, it)
      const no = { outcome: 'deny', policies: ['not-them'], reasons: ['no'] }
      behave = answer(ALLOW, no)
      expect(await policy.decide(request)).toMatchObject({ outcome: 'deny', policies: ['not-them'], reasons: ['no'] })
      behave = answer(no, ALLOW)
      expect(await policy.decide(request)).toMatchObject({ outcome: 'deny', policies: ['not-them'] })
      behave = answer({ ...ALLOW, max_ttl: 600 }, { ...ALLOW, policies: ['human-read'], max_ttl: 30 })
      expect(await policy.decide(request)).toMatchObject({ outcome: 'allow', policies: ['human-read', 'read'], maxTtlSeconds: 30 })
      const asks = (group: string) => ({ outcome: 'step-up', policies: [group], step_up: [{ group, approvals: 1 }] })
      behave = answer(asks('security'), asks('sre-oncall'))
      expect(await policy.decide(request)).toMatchObject({ outcome: 'step-up', stepUp: [{ group: 'security' }, { group: 'sre-oncall' }] })
      behave = answer(ALLOW, {})
      expect(await policy.decide(request)).toMatchObject({ outcome: 'deny', error: expect.stringMatching(/cannot be read/) })
    })
  })

  it('asks nobody a second time: with a consent that is not enough the answer is no', async () => {
    await withOpa({}, async (policy) => {
      behave = decides({ outcome: 'step-up', policies: ['ask'], reasons: ['ask'], max_ttl: 60, step_up: [{ group: 'security', approvals: 1 }] })
      const request = { ...(obtain() as ObtainRequest), consent: ['sre-oncall'] }
      expect(await policy.decide(request)).toEqual({
        ...{ outcome: 'deny', policies: ['ask'], reasons: ['ask'], policyVersion: 'unversioned', readsCounts: true, decisionIds: undefined },
      })
      expect(asked[0]?.input).toMatchObject({ approval: { groups: ['sre-oncall'] } })
    })
  })

  it('is asked each time, unless its answer says for how long it holds', async () => {
    await withOpa({ memoSize: 10 }, async (policy) => {
      for (let times = 0; times < 2; times++) await policy.decide(obtain())
      expect(asked).toHaveLength(2)
      behave = decides({ ...ALLOW, max_age: 5 })
      for (let times = 0; times < 3; times++) await policy.decide(obtain())
      expect(asked).toHaveLength(3)
      expect(policy.memo).toEqual({ hits: 2, misses: 3 })
      await policy.decide(obtain({ context: { ttlSeconds: 299 } }))
      await policy.decide({ ...(obtain() as ObtainRequest), consent: ['sre-oncall'] })
      expect(asked).toHaveLength(5)
      now += 5_000
      await policy.decide(obtain())
      expect(asked).toHaveLength(6)
      // Other policies: all that was remembered is forgotten.
      behave = decides({ ...ALLOW, version: 'v2', max_age: 60 })
      await policy.decide(obtain({ context: { ttlSeconds: 1 } }))
      await policy.decide(obtain())
      expect(asked).toHaveLength(8)
    })
    await withOpa({}, async (policy) => {
      asked = []
      for (let times = 0; times < 2; times++) await policy.decide(obtain())
      expect(asked).toHaveLength(2)
    })
  })

  it('is not asked what is no question', async () => {
    await withOpa({}, async (policy) => {
      const notAsked: PolicyRequest[] = [
        { action: 'freeze', principal: orchestrator(), resource: { type: 'Broker', id: 'this' } },
        { ...(obtain() as ObtainRequest), action: 'write' },
        obtain({ agent: { id: '\ud800' } }),
        obtain({ context: { ttlSeconds: Number.NaN } }),
        { action: 'dance' as 'freeze', principal: operator(), resource: { type: 'Broker', id: 'this' } },
      ]
      for (const request of notAsked) expect(await policy.decide(request)).toMatchObject({ outcome: 'deny' })
      expect(asked).toEqual([])
      expect(await policy.decide({ action: 'openTask', principal: orchestrator(), task: task() })).toMatchObject({ outcome: 'allow' })
      expect(asked[0]?.input).toMatchObject({ principal: 'orchestrator', task: { id: 'task_1', roles: ['warehouse-read'] } })
    })
  })
})
