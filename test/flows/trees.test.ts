import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Who works on a task at each depth, and so hands on to the next. */
const AGENTS = ['triage', 'second', 'third'] as const
/** Of what may be obtained of one tree, and for how long where it is handed on twice, or for Ann. */
const MOST_READS = 4
const DEEP_SECONDS = 50
const ANNS_SECONDS = 45
const POLICY = `
@id("ann-reads-secrets") @maxTtl("${ANNS_SECONDS}") permit (principal == Human::"ann", action == Action::"read", resource == Role::"secrets");
@id("not-in-the-us") forbid (principal is Agent, action == Action::"read", resource == Role::"files") when { context.scope.contains("dir=us") };
@id("no-tokens-for-what-is-restricted") forbid (principal is Agent, action == Action::"read", resource == Role::"api-token") when { context.level >= 3 };
@id("enough") forbid (principal is Agent, action == Action::"read", resource)
when { context.intent == Intent::"deploy" && context.accumulated.reads >= ${MOST_READS} };
@id("deep-is-brief") @maxTtl("${DEEP_SECONDS}") forbid (principal is Agent, action == Action::"read", resource) when { context.depth >= 2 };`

let redis: TestRedis
let test: TestBroker
let flows: string
let oncall: string
let tokens: string[]

beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    agents: ['second', 'third']
      .map((id) => `  - {id: ${id}, match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: supervised, team: platform}\n`)
      .join(''),
    roles: [
      'files: {sensitivity: internal, scope: {dir: path, tables: set}',
      'secrets: {sensitivity: confidential',
      'restricted-write: {sensitivity: restricted',
    ]
      .map(
        (role) =>
          `  ${role}, provider: tokens, access: ${role.includes('write') ? 'write' : 'read'}, max_ttl: 5m, params: {audience: "https://reports.example"}}`,
      )
      .join('\n'),
    policy: POLICY,
    limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 100000, per_agent_tasks: 100000}',
  })
  flows = await test.token('flows')
  oncall = await test.token('oncall')
  tokens = await Promise.all(AGENTS.map((id) => test.token(id)))
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

const ROLES = ['files', 'api-token', 'secrets'] as const
type RoleName = (typeof ROLES)[number]
interface Facts {
  readonly human?: 'ann' | 'bob'
  readonly classification: 'public' | 'internal' | 'confidential' | 'restricted'
}
interface Entry {
  role: RoleName
  scope?: { dir?: string; tables?: string[] }
  max_ttl?: number
  max_leases?: number
}
interface Node {
  readonly id: string
  readonly depth: number
  readonly parent?: Node
  readonly envelope: readonly Entry[]
}
interface Issued {
  readonly node: Node
  readonly role: RoleName
  readonly scope: { dir?: string; tables?: string[] }
  readonly ttl: number
}

// Few values, so that what is asked is often just inside or just outside.
const dir = fc.constantFrom('eu', 'eu/north', 'eu/north/a', 'eu/south', 'eu/', 'eun', 'eu/north/../south', 'us')
const tables = fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 })
const scope = fc.record({ dir, tables }, { requiredKeys: [] })
const limitedScope = fc.record({ dir: fc.constantFrom('eu', 'eu/north', 'us'), tables }, { requiredKeys: [] })
const ttl = fc.constantFrom(30, 60, 120, 240, 600)
const entry = fc
  .record(
    { role: fc.constantFrom(...ROLES), scope: limitedScope, max_ttl: ttl, max_leases: fc.integer({ min: 1, max: 3 }) },
    { requiredKeys: ['role'] },
  )
  .map((it): Entry => (it.role === 'files' ? it : { ...it, scope: undefined }))
const envelope = fc.uniqueArray(entry, { minLength: 1, maxLength: 3, selector: ({ role }) => role })
const facts: fc.Arbitrary<Facts> = fc.record(
  {
    human: fc.constantFrom('ann' as const, 'bob' as const),
    classification: fc.constantFrom('public' as const, 'internal' as const, 'confidential' as const, 'restricted' as const),
  },
  { requiredKeys: ['classification'] },
)
const at = fc.nat(20)
/** One thing of an envelope that is handed on made another, so that it is just inside or just outside; nothing: it is handed on as it is. */
const change = fc.option(
  fc.oneof(
    fc.record({ max_ttl: fc.option(ttl, { nil: undefined }) }),
    fc.record({ scope: fc.option(scope, { nil: undefined }) }),
    fc.record({ max_leases: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }) }),
    fc.record({ role: fc.constantFrom(...ROLES) }),
  ),
)
function changed(envelope: readonly Entry[], at: number, change: Partial<Entry> | null): Entry[] {
  const which = at % envelope.length
  const all = envelope.map((entry, index): Entry => (index === which ? { ...entry, ...change } : entry))
  const apart = all.filter(({ role }, index) => all.findIndex((one) => one.role === role) === index)
  return apart.map((entry) => (entry.role === 'files' ? entry : { ...entry, scope: undefined }))
}
const step = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('hand on' as const), at, change }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('obtain' as const),
      at,
      role: fc.constantFrom(...ROLES),
      // Three in four ask for a role of the envelope; of these one for some scope, one for one near what there is, one for all that it leaves.
      fits: fc.nat(3),
      near: fc.constantFrom('', '/x', 'n', '/../us', '/'),
      scope: fc.option(scope),
      ttl: fc.option(ttl),
    }),
  },
)

/** Written down once more, and otherwise: whether a path is at or below another. */
function isBelow(outer: string, inner: string): boolean {
  const parts = (path: string) => path.split('/').filter((part) => part !== '')
  return inner === outer || (!inner.includes('..') && parts(outer).every((part, n) => parts(inner)[n] === part))
}

function aboveOf(node: Node): Node[] {
  return node.parent ? [node, ...aboveOf(node.parent)] : [node]
}

/** Every way in which what was issued is more than some envelope says. */
function beyondEnvelopes(issued: readonly Issued[]): string[] {
  return issued.flatMap(({ node, role, scope, ttl }) =>
    aboveOf(node).flatMap((one) => {
      const limit = one.envelope.find((entry) => entry.role === role)
      if (!limit) return [`${role} is not in the envelope at depth ${one.depth}`]
      const wrong = []
      if (ttl > Math.min(limit.max_ttl ?? 300, 300)) wrong.push(`${ttl} s, and ${limit.max_ttl} at depth ${one.depth}`)
      if (limit.scope?.dir !== undefined && !(scope.dir !== undefined && isBelow(limit.scope.dir, scope.dir)))
        wrong.push(`${scope.dir} at depth ${one.depth} of ${limit.scope.dir}`)
      const allowed = limit.scope?.tables
      if (allowed && !scope.tables?.every((table) => allowed.includes(table))) wrong.push(`${scope.tables} of ${allowed}`)
      const taken = issued.filter((other) => other.role === role && aboveOf(other.node).includes(one)).length
      if (taken > (limit.max_leases ?? taken)) wrong.push(`${taken} leases, and ${limit.max_leases} at depth ${one.depth}`)
      return wrong
    }),
  )
}

/** What the policies say once more, and what the human may. */
function beyondPolicy(issued: readonly Issued[], { human, classification }: Facts): string[] {
  const wrong = issued.flatMap(({ node, role, scope, ttl }) => [
    ...(role === 'files' && scope.dir === 'us' ? ['files of the us'] : []),
    ...(role === 'api-token' && classification === 'restricted' ? ['a token for what is restricted'] : []),
    ...(node.depth >= 2 && ttl > DEEP_SECONDS ? [`${ttl} s at depth ${node.depth}`] : []),
    ...(role === 'secrets' && human === 'bob' ? ['secrets, which bob may not read'] : []),
    ...(role === 'secrets' && human === 'ann' && ttl > ANNS_SECONDS ? [`secrets for ${ttl} s, and for ann ${ANNS_SECONDS}`] : []),
  ])
  return issued.length > MOST_READS ? [...wrong, `${issued.length} reads`] : wrong
}

describe('for random trees of tasks', () => {
  it('what is issued is never outside role, envelopes of all tasks above, policy and human, in whatever order it is asked for', async () => {
    const seen = { issued: 0, refused: 0, deepest: 0, deep: 0, anns: 0, bob: 0, policies: {} as Record<string, number> }
    const batches = fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { minLength: 5, maxLength: 14 })
    await fc.assert(
      fc.asyncProperty(facts, envelope, fc.nat(2), batches, async (about, all, chained, steps) => {
        const opened = await test.call('POST', '/v1/tasks', flows, {
          intent: 'deploy',
          confidence: 0.9,
          ...about,
          environment: 'production',
          assignees: [{ agent: AGENTS[0] }],
          envelope: all,
          deadline_at: new Date(Date.now() + 600_000).toISOString(),
        })
        if (opened.status !== 201) throw new Error(JSON.stringify(opened.body))
        const nodes: Node[] = [{ id: opened.body.task.id, depth: 0, envelope: all }]
        const issued: Issued[] = []
        // A chain to begin with, for what is said of where it ends to be tried often.
        for (let depth = 0; depth < chained; depth++) await take({ do: 'hand on', at: 0, change: null }, nodes[depth] as Node)
        async function take(one: (typeof steps)[number][number], node: Node) {
          const token = tokens[node.depth] ?? ''
          if (one.do === 'hand on') {
            const handed = changed(node.envelope, one.at, one.change)
            const body = { assignees: [{ agent: AGENTS[node.depth + 1] ?? 'nobody' }], envelope: handed }
            const answer = await test.call('POST', `/v1/tasks/${node.id}/children`, token, body)
            if (answer.status === 201) nodes.push({ id: answer.body.task.id, depth: node.depth + 1, parent: node, envelope: handed })
            return expect([201, 403]).toContain(answer.status)
          }
          const entry = one.fits > 0 ? node.envelope[one.at % node.envelope.length] : undefined
          const { role } = entry ?? one
          const limit = entry?.scope?.dir
          const scope = one.fits < 2 ? (one.scope ?? undefined) : one.fits === 2 && limit ? { dir: `${limit}${one.near}` } : undefined
          const ask = { task: node.id, role, scope, ttl: one.ttl ?? undefined }
          const { status, body } = await test.call('POST', '/v1/leases', token, ask)
          expect([201, 403, 409, 429]).toContain(status)
          seen[status === 201 ? 'issued' : 'refused']++
          for (const policy of body.policies ?? []) seen.policies[policy] = (seen.policies[policy] ?? 0) + 1
          if (body.code === 'denied' && role === 'secrets' && about.human === 'bob') seen.bob++
          if (status !== 201) return
          const { issued_at, expires_at } = body.lease
          const ttl = (Date.parse(expires_at) - Date.parse(issued_at)) / 1000
          issued.push({ node, role, scope: body.lease.scope, ttl })
          seen.deepest = Math.max(seen.deepest, node.depth)
          if (node.depth === 2 && ttl === DEEP_SECONDS) seen.deep++
          if (about.human === 'ann' && role === 'secrets' && ttl === ANNS_SECONDS) seen.anns++
        }
        for (const batch of steps) {
          const there = [...nodes]
          await Promise.all(batch.map((one) => take(one, there[one.at % there.length] as Node)))
        }
        expect([...beyondEnvelopes(issued), ...beyondPolicy(issued, about)]).toEqual([])
      }),
      { numRuns: 80 },
    )
    // Or it has shown nothing.
    expect(seen.issued).toBeGreaterThan(100)
    expect(seen.refused).toBeGreaterThan(100)
    expect(seen.deepest).toBe(2)
    expect(Object.keys(seen.policies).sort()).toEqual(['enough', 'no-tokens-for-what-is-restricted', 'not-in-the-us'])
    for (const count of [seen.deep, seen.anns, seen.bob]) expect(count).toBeGreaterThan(0)
  }, 120_000)

  it('no interleaving of an end with handing on, obtaining, agreeing and changing leaves a live lease', async () => {
    const before = fc.nat(30)
    const work = fc.array(fc.record({ what: fc.constantFrom('hand on', 'obtain', 'obtain below', 'change', 'agree'), before }), {
      minLength: 3,
      maxLength: 8,
    })
    const end = fc.record({ how: fc.constantFrom('complete', 'fail', 'cancel'), of: fc.constantFrom('root', 'child'), before })
    const seen = { issued: 0, refused: 0, agreed: 0, spent: 0 }
    await fc.assert(
      fc.asyncProperty(work, end, async (asks, { how, of, before }) => {
        const root = await test.openTask({ envelope: ENTRIES, assignees: [{ agent: AGENTS[0] }] })
        const child = (await handOn(root, 0)).body.task.id
        const write = { task: child, role: 'restricted-write' }
        const asked = await test.call('POST', '/v1/leases', tokens[1] ?? '', write)
        const approval = asked.body.approval?.id as string
        const tasks = [child]
        const leases: string[] = []
        const obtain = async (task: string, depth: number) => {
          const { status, body } = await test.call('POST', '/v1/leases', tokens[depth] ?? '', { task, role: 'api-token' })
          seen[status === 201 ? 'issued' : 'refused']++
          if (status === 201) leases.push(body.lease.id)
          else expect(['task_ended', 'conflict']).toContain(body.code)
        }
        const doing: Record<(typeof asks)[number]['what'], () => Promise<unknown>> = {
          obtain: () => obtain(child, 1),
          change: () => test.call('PATCH', `/v1/tasks/${root}/context`, flows, { confidence: 0.9 }),
          'hand on': () => handOn(child, 1),
          agree: async () => {
            const agreed = await test.call('POST', `/v1/approvals/${approval}/approve`, oncall, {})
            if (agreed.status === 200) seen.agreed++
            const { status, body } = await test.call('POST', '/v1/leases', tokens[1] ?? '', { ...write, approval })
            if (status !== 201) return expect([403, 409]).toContain(status)
            seen.spent++
            leases.push(body.lease.id)
          },
          'obtain below': async () => {
            const { status, body } = await handOn(child, 1)
            if (status !== 201) return
            tasks.push(body.task.id)
            await obtain(body.task.id, 2)
          },
        }
        const ending = delayed(before, () =>
          test.call('POST', `/v1/tasks/${of === 'root' ? root : child}/${how}`, of === 'root' ? flows : (tokens[0] ?? '')),
        )
        await Promise.all([...asks.map((ask) => delayed(ask.before, doing[ask.what])), ending])
        expect((await ending).status).toBe(200)

        for (const id of leases)
          await waitFor(`the revoke of ${id}`, async () => (await test.call('GET', `/v1/leases/${id}`, oncall)).body.lease.state === 'revoked')
        for (const task of tasks) {
          const { body } = await test.call('GET', `/v1/tasks/${task}`, flows)
          expect(body.task.state).not.toBe('active')
          expect(body.leases.filter(({ state }: { state: string }) => state === 'active' || state === 'pending')).toEqual([])
        }
      }),
      { numRuns: 150 },
    )
    expect(seen.issued).toBeGreaterThan(50)
    expect(seen.refused).toBeGreaterThan(50)
    expect(seen.agreed).toBeGreaterThan(seen.spent)
    expect(seen.spent).toBeGreaterThan(0)
  }, 180_000)
})

const ENTRIES = [{ role: 'api-token' }, { role: 'restricted-write' }]
const handOn = (parent: string, depth: number) =>
  test.call('POST', `/v1/tasks/${parent}/children`, tokens[depth] ?? '', {
    assignees: [{ agent: AGENTS[depth + 1] }],
    envelope: ENTRIES,
  })

async function delayed<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const end = performance.now() + ms
  while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
  return work()
}
