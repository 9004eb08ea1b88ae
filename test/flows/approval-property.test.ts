import { afterAll, beforeAll, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { changeContext, writing } from './approval-support.js'

const RUNS = 40
const OPERATORS = { oncall: ['sre-oncall'], 'many-1': ['sre-oncall'], both: ['security', 'sre-oncall'], guard: ['security'] } as const
type Sub = keyof typeof OPERATORS
const NEEDS = { 'api-both': { security: 1, 'sre-oncall': 2 }, 'api-one': { 'sre-oncall': 1 } } as const
type RoleName = keyof typeof NEEDS

interface Request {
  readonly task: 0 | 1
  readonly role: RoleName
  readonly scope: { readonly table: string }
}
type Command =
  | { readonly does: 'ask'; readonly request: Request }
  | { readonly does: 'approve' | 'deny'; readonly who: Sub; readonly which: number }
  /** For what it was asked for, or for anything. */
  | { readonly does: 'spend'; readonly request: Request; readonly honest: boolean; readonly which: number }
  | { readonly does: 'change'; readonly task: 0 | 1 }
  | { readonly does: 'end'; readonly task: 0 | 1 }
  /** With what was agreed to for a lease, not for its renewal. */
  | { readonly does: 'renew'; readonly which: number; readonly lease: number }

const request = fc.record({
  task: fc.constantFrom(0 as const, 1 as const),
  role: fc.constantFrom<RoleName>('api-both', 'api-one'),
  scope: fc.record({ table: fc.constantFrom('a', 'b') }),
})
const who = fc.constantFrom(...(Object.keys(OPERATORS) as Sub[]))
const which = fc.nat(3)
const honest = fc.integer({ min: 0, max: 3 }).map((n) => n > 0)
const task = fc.constantFrom(0 as const, 1 as const)
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 40, arbitrary: fc.record({ does: fc.constant('ask' as const), request }) },
  { weight: 70, arbitrary: fc.record({ does: fc.constant('approve' as const), who, which }) },
  { weight: 5, arbitrary: fc.record({ does: fc.constant('deny' as const), who, which }) },
  { weight: 60, arbitrary: fc.record({ does: fc.constant('spend' as const), request, honest, which }) },
  { weight: 30, arbitrary: fc.record({ does: fc.constant('renew' as const), which, lease: which }) },
  { weight: 8, arbitrary: fc.record({ does: fc.constant('change' as const), task }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('end' as const), task }) },
)
/** Commands of one batch are sent at once. */
const history = fc.array(fc.array(command, { minLength: 1, maxLength: 4 }), { minLength: 8, maxLength: 20 })

let redis: TestRedis
let replicas: [TestBroker, TestBroker]
let tokens: Record<string, string>
beforeAll(async () => {
  redis = await startRedis()
  const options = { redisSocket: redis.socketPath, ...writing, limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 10000}' }
  const first = await startTestBroker(options)
  replicas = [first, await startTestBroker({ ...options, like: first })]
  const subs = ['triage', ...Object.keys(OPERATORS)]
  tokens = Object.fromEntries(await Promise.all(subs.map(async (sub) => [sub, await first.token(sub)])))
}, 60_000)
afterAll(async () => {
  await Promise.all(replicas?.map((one) => one.stop()) ?? [])
  await redis?.stop()
})

/** What is known from the answers alone. */
interface Known {
  readonly asked: Request
  readonly role: RoleName
  /** Of the task, when it was asked for: the least and the most that it can have been. */
  readonly context: readonly [number, number]
  readonly agreed: Set<Sub>
  denied: boolean
  spent: number
}

const textOf = ({ task, role, scope }: Request) => JSON.stringify([task, role, scope.table])
const seen = { spent: 0, refused: 0, renewals: 0 }
/** What of these nobody has spent, denied or changed the ground of, as far as is known: most of the time it is worth trying that. */
const openOf = (approvals: ReadonlyMap<string, Known>) => [...approvals].filter(([, { spent, denied }]) => spent === 0 && !denied).map(([id]) => id)

/** As who opened it ends it. */
const end = (task: string) => {
  const told = { id: crypto.randomUUID(), type: 'task.ended', task } as const
  return replicas[0].broker.house().ledger.endTask(task, { state: 'cancelled', cause: 'task_cancelled' }, told)
}

it('no sequence of calls spends an approval twice, for another request or context, or with fewer humans than asked', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (batches) => {
      const tasks = await Promise.all([0, 1].map(() => replicas[0].openTask({ envelope: [{ role: 'api-both' }, { role: 'api-one' }] })))
      const approvals = new Map<string, Known>()
      const changes = [0, 0]
      let turn = 0
      const call = (path: string, token: string, body: object) => replicas[turn++ % 2 ? 0 : 1].call('POST', path, tokens[token] ?? '', body)
      const at = (n: number, among: readonly string[] = [...approvals.keys()]) => among[n % Math.max(1, among.length)]
      const ended = new Set<0 | 1>()
      const leases: { id: string; text: string }[] = []
      const lease = ({ task, role, scope }: Request, more: object) => call('/v1/leases', 'triage', { task: tasks[task], role, scope, ...more })

      for (const batch of batches) {
        const before = [...changes]
        const over = new Set(ended)
        for (const one of batch) if (one.does === 'change') changes[one.task] = (changes[one.task] ?? 0) + 1
        const spending: { id: string; request: Request }[] = []
        const denying: string[] = []
        await Promise.all(
          batch.map(async (one) => {
            if (one.does === 'change') return changeContext(replicas[0], tasks[one.task] ?? '')
            if (one.does === 'end') {
              ended.add(one.task)
              return end(tasks[one.task] ?? '')
            }
            if (one.does === 'renew') {
              const lease = leases[one.lease % Math.max(1, leases.length)]
              // The very same question but for what it is asked for, where there is one.
              const alike = openOf(approvals).filter((id) => textOf(approvals.get(id)?.asked as Request) === lease?.text)
              const approval = at(one.which, alike) ?? at(one.which)
              if (lease === undefined || approval === undefined) return
              const { status } = await replicas[0].call('POST', `/v1/leases/${lease.id}/renew`, await replicas[0].token('triage'), { approval })
              seen.renewals++
              return expect([403, 409]).toContain(status)
            }
            if (one.does === 'ask') {
              const { status, body } = await lease(one.request, {})
              if (status !== 202) return expect(['approval_denied', 'quota_exceeded', 'conflict', 'task_ended']).toContain(body.code)
              const range = [before[one.request.task] ?? 0, changes[one.request.task] ?? 0] as const
              const { id } = body.approval
              const known = approvals.get(id)
              // The same approval, for as long as it is the same question.
              if (known) return expect(textOf(known.asked)).toBe(textOf(one.request))
              approvals.set(id, { asked: one.request, role: one.request.role, context: range, agreed: new Set(), denied: false, spent: 0 })
              return
            }
            const id = at(one.which, one.does === 'spend' && !one.honest ? undefined : openOf(approvals)) ?? at(one.which)
            if (id === undefined) return
            if (one.does === 'spend') {
              const wanted = (one.honest && approvals.get(id)?.asked) || one.request
              const { status, body } = await lease(wanted, { approval: id })
              if (status === 201) {
                leases.push({ id: body.lease.id, text: textOf(wanted) })
                return void spending.push({ id, request: wanted })
              }
              seen.refused++
              return expect(['approval_invalid', 'approval_denied', 'conflict', 'task_ended']).toContain(body.code)
            }
            const { status } = await call(`/v1/approvals/${id}/${one.does}`, one.who, {})
            if (status === 200 && one.does === 'approve') approvals.get(id)?.agreed.add(one.who)
            if (status === 200 && one.does === 'deny') denying.push(id)
          }),
        )
        for (const { id, request: spentFor } of spending) {
          const known = approvals.get(id)
          if (!known) throw new Error('spent what was never asked for')
          seen.spent++
          known.spent++
          expect(over.has(spentFor.task)).toBe(false)
          expect(known.spent).toBe(1)
          expect(textOf(spentFor)).toBe(textOf(known.asked))
          expect(known.denied || denying.includes(id)).toBe(false)
          // Nothing changed between the question and the lease, but for what was sent along with either.
          expect(before[spentFor.task]).toBeLessThanOrEqual(known.context[1])
          for (const [group, count] of Object.entries(NEEDS[known.role])) {
            const agreed = [...known.agreed].filter((sub) => OPERATORS[sub].some((mine) => mine === group))
            expect(agreed.length).toBeGreaterThanOrEqual(count)
          }
        }
        for (const id of denying) {
          const known = approvals.get(id)
          if (known) known.denied = true
        }
      }
      await Promise.all(tasks.map(end))
    }),
    { numRuns: RUNS },
  )
  // Or it has shown nothing.
  expect(seen.spent).toBeGreaterThan(RUNS / 4)
  expect(seen.refused).toBeGreaterThan(RUNS / 2)
  expect(seen.renewals).toBeGreaterThan(0)
}, 240_000)
