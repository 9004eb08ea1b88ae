import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { NewLease } from '../../src/ledger/ledger.js'
import {
  event,
  eventsOf,
  type Fixture,
  granted,
  HOUR,
  newLease,
  newTask,
  openTask,
  reserved,
  setFields,
  startLedger,
  stateOf,
  taskNow,
} from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const END = { state: 'completed', cause: 'task_completed' } as const

describe('opening a task', () => {
  it('writes everything it was opened with, and tells of it', async () => {
    const { ledger } = fixture
    const task = newTask(ledger, {
      assignees: [
        { agent: 'triage', instance: 'pod-1' },
        { agent: 'triage', bindInstance: true },
      ],
      envelope: [{ role: 'warehouse-read', scope: { prefix: 'a' }, maxTtlSeconds: 60, maxLeases: 2 }],
      labels: { ticket: '42' },
      human: 'ada',
      heartbeatSeconds: 30,
    })
    const opened = await ledger.openTask(task, event('task.opened', { task: task.id }))
    if (!opened.ok) throw new Error(opened.refused)
    const { maxDepth: _, ...known } = task
    expect(opened).toMatchObject({ created: true, task: { ...known, root: task.id, depth: 0, state: 'active', contextVersion: 1, obtained: [] } })
    expect(opened.task.heartbeatDueAt).toBe(opened.task.openedAt + 30_000)
    expect(await taskNow(ledger, task.id)).toEqual(opened.task)
    expect((await eventsOf(ledger)).filter((one) => one.task === task.id)).toMatchObject([{ type: 'task.opened' }])
  })

  it('answers a retry with the same task, and an id that is taken by another body with a conflict', async () => {
    const { ledger } = fixture
    const task = newTask(ledger)
    const first = await ledger.openTask(task, event())
    expect(await ledger.openTask({ ...task }, event())).toEqual(first)
    expect(await ledger.openTask({ ...task, intent: 'deploy' }, event())).toMatchObject({ refused: 'conflict' })
  })

  it('opens one task for one external id, from however many requests, and refuses another body', async () => {
    const { ledger } = fixture
    const open = (more = {}) => ledger.openTask(newTask(ledger, { externalId: 'run-7', deadlineAt: 4_000_000_000_000, ...more }), event())
    const all = await Promise.all([open(), open(), open()])
    expect(new Set(all.map((one) => one.ok && one.task.id)).size).toBe(1)
    expect(all.map((one) => one.ok && one.created).sort()).toEqual([false, false, true])
    expect(await open({ intent: 'deploy' })).toMatchObject({ refused: 'conflict' })
    const other = { openedBy: { kind: 'orchestrator', id: 'other', issuer: 'cluster' } } as const
    expect(await open(other)).toMatchObject({ ok: true, created: true })
  })

  it('puts a child below its parent: same root, one deeper, never past its deadline, for the same human', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger, { human: 'ada', deadlineAt: ledger.now() + 60_000 })
    const opener = { kind: 'agent', id: 'triage', issuer: 'cluster' } as const
    const child = await openTask(ledger, { parent: root.id, openedBy: opener, human: 'mallory', deadlineAt: ledger.now() + HOUR })
    expect(child).toMatchObject({ parent: root.id, root: root.id, depth: 1, deadlineAt: root.deadlineAt, human: 'ada' })
    const lease = await granted(ledger, child.id)
    expect(await ledger.lease(lease.id)).toMatchObject({ human: 'ada', orchestrator: 'flows' })
  })

  it('goes only as deep as allowed, and not below what ended or is not there', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const below = (parent: string, more = {}) => ledger.openTask(newTask(ledger, { parent, ...more }), event())
    expect(await below(child.id, { maxDepth: 1 })).toMatchObject({ refused: 'too_deep' })
    await ledger.endTask(root.id, END, event('task.ended'))
    expect(await below(child.id)).toMatchObject({ refused: 'parent_ended' })
    expect(await below(ledger.newTaskId({ parent: root.id }))).toMatchObject({ refused: 'parent_ended' })
    const elsewhere = await openTask(ledger)
    const foreign = newTask(ledger, { parent: elsewhere.id })
    const moved = { ...foreign, id: `task_${elsewhere.id.slice(5, 7) === '00' ? '01' : '00'}${foreign.id.slice(7)}` }
    expect(await ledger.openTask(moved, event())).toMatchObject({ refused: 'parent_ended' })
  })
})

describe('a tree of tasks', () => {
  it('knows through which agents each came, and is told level by level as far as is asked', async () => {
    const { ledger } = fixture
    const agent = (id: string) => ({ kind: 'agent', id, issuer: 'cluster' }) as const
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id, openedBy: agent('ann') })
    const grandchild = await openTask(ledger, { parent: child.id, openedBy: agent('bob') })
    const byOrchestrator = await openTask(ledger, { parent: child.id })
    expect([root, child, grandchild, byOrchestrator].map(({ chain }) => chain)).toEqual([undefined, ['ann'], ['ann', 'bob'], ['ann']])
    expect([root, grandchild].map(({ orchestrator }) => orchestrator)).toEqual(['flows', 'flows'])
    const ids = async (most: number) => {
      const { tasks, more } = await ledger.descendants(root.id, most)
      return { ids: tasks.map(({ id }) => id), more }
    }
    const below = [grandchild.id, byOrchestrator.id].sort()
    expect(await ids(3)).toEqual({ ids: [child.id, ...below], more: false })
    expect(await ids(2)).toEqual({ ids: [child.id, below[0]], more: true })
    await ledger.endTask(child.id, END, event('task.ended'))
    expect(await ids(3)).toEqual({ ids: [], more: false })
  })

  it('has no more leases of a role, all in all, than any of its envelopes says', async () => {
    const { ledger } = fixture
    const envelope = [{ role: 'warehouse-read', maxLeases: 2 }]
    const root = await openTask(ledger, { envelope })
    const children = [await openTask(ledger, { parent: root.id, envelope }), await openTask(ledger, { parent: root.id, envelope })]
    for (const { id } of children) await granted(ledger, id, { limits: { perTaskLive: 0, perAgentLive: 0, maxLeases: 2 } })
    for (const { id } of [root, ...children]) {
      const lease = newLease(ledger, await taskNow(ledger, id), { limits: { perTaskLive: 0, perAgentLive: 0, maxLeases: 2 } })
      expect(await ledger.grant(lease, event())).toMatchObject({ refused: 'quota' })
    }
  })
})

describe('heartbeats', () => {
  it('move the time that the next is due, and tell of an end', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger, { heartbeatSeconds: 30 })
    await setFields(redis, 'task', task.id, { hd: 1 })
    const touched = await ledger.touchTask(task.id)
    if (!touched.ok) throw new Error(touched.refused)
    expect(touched.state).toBe('active')
    expect(touched.heartbeatDueAt).toBeGreaterThanOrEqual(task.heartbeatDueAt ?? 0)
    const child = await openTask(ledger, { parent: task.id })
    expect(await ledger.touchTask(child.id)).toEqual({ ok: true, state: 'active', heartbeatDueAt: undefined })
    await ledger.endTask(task.id, { state: 'cancelled', cause: 'task_cancelled' }, event('task.ended'))
    expect(await ledger.touchTask(task.id)).toMatchObject({ state: 'cancelled' })
    expect(await ledger.touchTask(child.id)).toMatchObject({ state: 'cancelled' })
    expect(await ledger.touchTask(ledger.newTaskId())).toMatchObject({ refused: 'not_found' })
    expect(await ledger.touchTask('no id')).toMatchObject({ refused: 'not_found' })
  })
})

describe('ending a task', () => {
  it('closes every live lease of the subtree in one step and claims them for the caller', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const sibling = await openTask(ledger)
    const leases = [await granted(ledger, root.id), await reserved(ledger, child.id), await granted(ledger, child.id)]
    const spared = await granted(ledger, sibling.id)
    const told = event('task.ended', { task: root.id })
    const ended = await ledger.endTask(root.id, { ...END, reason: 'done' }, told)
    if (!ended.ok) throw new Error(ended.refused)
    expect(ended).toMatchObject({ state: 'completed', first: true, closing: 3 })
    expect(ended.claims.map(({ lease }) => lease.id).sort()).toEqual(leases.map(({ id }) => id).sort())
    for (const claim of ended.claims) expect(claim).toMatchObject({ attempt: 1, lease: { state: 'closing', cause: 'task_completed', attempts: 1 } })
    expect(await stateOf(ledger, spared.id)).toBe('active')
    expect(await taskNow(ledger, root.id)).toMatchObject({ state: 'completed', reason: 'done' })
    expect((await taskNow(ledger, child.id)).state).toBe('completed')

    const events = (await eventsOf(ledger)).filter(({ id }) => id.startsWith(told.id))
    expect(events.map(({ type }) => type).sort()).toEqual(['lease.closing', 'lease.closing', 'lease.closing', 'task.ended', 'task.ended'])
    expect(new Set(events.map(({ id }) => id)).size).toBe(5)
    expect(events.find(({ lease }) => lease === leases[0]?.id)).toMatchObject({
      type: 'lease.closing',
      task: root.id,
      role: 'warehouse-read',
      provider: 'warehouse',
      cause: 'task_completed',
      detail: { agent: 'triage' },
    })
  })

  it('is final: another end is answered with the first', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await granted(ledger, task.id)
    await ledger.endTask(task.id, END, event('task.ended'))
    const again = await ledger.endTask(task.id, { state: 'revoked', cause: 'task_revoked' }, event('task.ended'))
    expect(again).toEqual({ ok: true, state: 'completed', first: false, closing: 1, claims: [] })
    expect(await ledger.grant(newLease(ledger, task), event())).toMatchObject({ refused: 'ended' })
    expect(await ledger.endTask(ledger.newTaskId(), END, event())).toMatchObject({ refused: 'not_found' })
  })

  it('of a task below an ended one is answered with that end', async () => {
    const { ledger, redis } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    await setFields(redis, 'task', root.id, { s: 'revoked', ec: 'task_revoked' })
    expect(await ledger.endTask(child.id, END, event('task.ended'))).toMatchObject({ state: 'revoked', first: false })
  })

  it('leaves what is beyond its budget due at once, and says so to the other brokers', async () => {
    const { ledger, open } = fixture
    const task = await openTask(ledger)
    const facts = { contextVersion: 1, obtained: ['read:confidential'] }
    await granted(ledger, task.id)
    await Promise.all(Array.from({ length: 249 }, () => ledger.grant(newLease(ledger, task, { facts }), event())))
    const other = await open()
    const hinted = new Promise<void>((resolve) => other.onDue(resolve))
    const ended = await ledger.endTask(task.id, END, event('task.ended'))
    expect(ended).toMatchObject({ ok: true, closing: 250 })
    expect(ended.ok && ended.claims.length).toBe(200)
    await hinted
    const claimed = await other.claim(new Map([['warehouse', 1_000]]))
    expect(claimed.claims.filter(({ lease }) => lease.task === task.id)).toHaveLength(50)
    expect((await ledger.leasesOfTask(task.id)).every(({ state }) => state === 'closing')).toBe(true)
  })

  it('ends a tree of more tasks than one step marks in that very step: nothing is issued anywhere below', async () => {
    const { ledger, redis } = fixture
    const root = await openTask(ledger)
    const children = await Promise.all(Array.from({ length: 1_200 }, () => openTask(ledger, { parent: root.id })))
    const asked = children.map((child) => newLease(ledger, child))
    await ledger.endTask(root.id, END, event('task.ended'))
    const marks = await Promise.all(children.map(({ id }) => redis.client.hget(`mf:{p${id.slice(5, 7)}}:task:${id}`, 's')))
    expect(marks.filter((state) => state === 'active')).toHaveLength(201)
    const answers = await Promise.all(asked.map((lease) => ledger.grant(lease, event())))
    expect(answers.filter((answer) => answer.ok || answer.refused !== 'ended')).toEqual([])
    const handOn = await Promise.all(children.map(({ id }) => ledger.openTask(newTask(ledger, { parent: id }), event('task.opened'))))
    expect(handOn.filter((answer) => answer.ok || answer.refused !== 'parent_ended')).toEqual([])
  })

  it('never lets a lease through that races it', async () => {
    const { ledger, open } = fixture
    const other = await open()
    for (let round = 0; round < 20; round++) {
      const task = await openTask(ledger)
      const facts = { contextVersion: 1, obtained: [] }
      const lease = newLease(ledger, task, { facts })
      const [answer, ended] = await Promise.all([other.reserve(lease, event()), ledger.endTask(task.id, END, event('task.ended'))])
      const activated = answer.ok ? await other.activate(lease, { handle: {}, expiresAt: answer.expiresAt }, event()) : undefined
      expect(ended).toMatchObject({ ok: true, closing: answer.ok ? 1 : 0 })
      expect(answer.ok ? activated?.state : answer.refused).toBe(answer.ok ? 'closing' : 'ended')
    }
  })

  it('lets the records go once nothing is left below, parents after their children', async () => {
    const { ledger, redis } = fixture
    const root = await openTask(ledger, { externalId: 'run-8' })
    const child = await openTask(ledger, { parent: root.id })
    await granted(ledger, child.id)
    const ended = await ledger.endTask(root.id, END, event('task.ended'))
    if (!ended.ok) throw new Error(ended.refused)
    const prefix = `mf:{p${root.id.slice(5, 7)}}:`
    const ttl = (id: string) => redis.client.ttl(`${prefix}task:${id}`)
    expect(await ttl(root.id)).toBe(-1)
    expect(await ttl(child.id)).toBe(-1)
    for (const { lease, attempt } of ended.claims) await ledger.settle({ lease: lease.id, attempt }, { result: 'revoked' }, event('lease.revoked'))
    expect(await ttl(root.id)).toBeGreaterThan(3_500)
    expect(await ttl(child.id)).toBeGreaterThan(3_500)
    expect(await redis.client.exists(`${prefix}task:${root.id}:children`, `${prefix}task:${child.id}:closing`)).toBe(0)
  })
})

describe('changing the context', () => {
  it('bumps the version of the task, and asks for each of its live leases to be reaffirmed', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const above = await granted(ledger, root.id)
    const active = await granted(ledger, child.id)
    const pending = await reserved(ledger, child.id)
    const change = { intent: 'deploy', classification: 'restricted', labels: { a: 'b' } } as const
    const changed = await ledger.changeTask(child.id, change, event('task.changed', { task: child.id }))
    if (!changed.ok) throw new Error(changed.refused)
    // Its intent is its parent's, whoever asks.
    expect(changed.task).toMatchObject({ intent: 'incident-triage', classification: 'restricted', labels: { a: 'b' }, contextVersion: 2 })
    expect(changed.live.map(({ id }) => id).sort()).toEqual([active.id, pending.id].sort())
    expect(await ledger.reserve(newLease(ledger, child, { facts: { contextVersion: 1, obtained: ['read:confidential'] } }), event())).toMatchObject({
      refused: 'stale',
    })

    expect(await ledger.reaffirm(active.id, 1)).toMatchObject({ refused: 'stale' })
    expect(await ledger.reaffirm(active.id, 2)).toEqual({ ok: true })
    expect(await ledger.lease(active.id)).toMatchObject({ contextVersion: 2, state: 'active' })
    // Not reaffirmed: what is minted for it is taken back.
    expect(await ledger.activate(pending, { handle: {}, expiresAt: ledger.now() + 1000 }, event())).toMatchObject({
      state: 'closing',
      cause: 'context_changed',
    })
    expect(await ledger.reaffirm(pending.id, 2)).toMatchObject({ refused: 'ended' })
    expect(await ledger.reaffirm(ledger.newLeaseId(root.id), 2)).toMatchObject({ refused: 'not_found' })
    expect(await stateOf(ledger, above.id)).toBe('active')
  })

  it('makes nothing stale but the tasks whose facts are others now: not above, nor beside, nor what was as strict already', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger, { classification: 'internal' })
    const child = await openTask(ledger, { parent: root.id })
    const sibling = await openTask(ledger, { parent: root.id })
    const strict = await openTask(ledger, { parent: child.id })
    const below = await openTask(ledger, { parent: strict.id })
    const change = (id: string, classification: 'internal' | 'confidential') =>
      ledger.changeTask(id, { classification }, event('task.changed', { task: id }))
    await change(strict.id, 'confidential')
    const tasks = [root, child, sibling, strict, below]
    const versions = async () => Promise.all(tasks.map(async ({ id }) => (await taskNow(ledger, id)).contextVersion))
    expect(await versions()).toEqual([1, 1, 1, 2, 2])
    const pending: NewLease[] = []
    for (const { id } of tasks) pending.push(await reserved(ledger, id))

    const changed = await change(child.id, 'confidential')
    expect(changed.ok && changed.live.map(({ task }) => task).sort()).toEqual([child.id, strict.id, below.id].sort())
    expect(await versions()).toEqual([1, 2, 1, 2, 2])
    const states = await Promise.all(
      pending.map(async (lease) => (await ledger.activate(lease, { handle: {}, expiresAt: ledger.now() + 60_000 }, event())).state),
    )
    expect(states).toEqual(['active', 'closing', 'active', 'active', 'active'])
    // What is decided above and beside on the facts of before is carried out, too.
    for (const { id, contextVersion } of [root, sibling]) {
      const { obtained } = await taskNow(ledger, id)
      expect(await ledger.reserve(newLease(ledger, root, { task: id, facts: { contextVersion, obtained } }), event())).toMatchObject({ ok: true })
      const handedOn = newTask(ledger, { parent: id, contextVersion })
      expect(await ledger.openTask(handedOn, event())).toMatchObject({ ok: true })
    }
    expect(await ledger.openTask(newTask(ledger, { parent: child.id, contextVersion: 1 }), event())).toMatchObject({ refused: 'stale' })
  })

  it('is inherited by all below, which stays as strict as it was made itself', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger, { classification: 'internal', confidence: 0.9 })
    // What a child is opened with is its parent's, whatever is said.
    const child = await openTask(ledger, { parent: root.id, intent: 'deploy', classification: 'public', confidence: 1, environment: 'production' })
    const grandchild = await openTask(ledger, { parent: child.id })
    expect(child).toMatchObject({ intent: 'incident-triage', classification: 'internal', confidence: 0.9, environment: 'staging' })
    const change = async (id: string, to: Parameters<typeof ledger.changeTask>[1]) => {
      const changed = await ledger.changeTask(id, to, event('task.changed', { task: id }))
      if (!changed.ok) throw new Error(changed.refused)
    }
    const facts = async (id: string) => {
      const { intent, classified, classification, confidence, environment } = await taskNow(ledger, id)
      return { intent, classified, classification, confidence, environment }
    }
    const as = await facts(root.id)
    await change(child.id, { classification: 'confidential', confidence: 0.5 })
    expect(await facts(root.id)).toEqual(as)
    for (const id of [child.id, grandchild.id]) expect(await facts(id)).toEqual({ ...as, classification: 'confidential', confidence: 0.5 })
    await change(root.id, { intent: 'deploy', classification: 'restricted', confidence: 0.7, environment: 'production' })
    for (const id of [child.id, grandchild.id])
      expect(await facts(id)).toEqual({ ...as, intent: 'deploy', classification: 'restricted', confidence: 0.5, environment: 'production' })
    await change(root.id, { intent: 'incident-triage', classified: false, classification: 'public', confidence: 0.2 })
    for (const id of [child.id, grandchild.id])
      expect(await facts(id)).toEqual({ ...(await facts(root.id)), classification: 'confidential', classified: false, confidence: 0.2 })
    await change(child.id, { classification: 'public', environment: 'unknown' })
    expect(await facts(grandchild.id)).toEqual({ ...(await facts(root.id)), environment: 'unknown' })
  })

  it('makes nothing stale where no decision could read it', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id)
    for (const change of [{ labels: { a: 'b' } }, { classification: task.classification, confidence: task.confidence }]) {
      const changed = await ledger.changeTask(task.id, change, event('task.changed', { task: task.id }))
      expect(changed).toMatchObject({ ok: true, task: { contextVersion: 1, labels: { a: 'b' } }, live: [{ id: lease.id }] })
    }
    expect(await ledger.activate(lease, { handle: {}, expiresAt: ledger.now() + 1000 }, event())).toMatchObject({ state: 'active' })
  })

  it('is refused when the facts that it was decided on have changed, and waits for the outbox only where it widens', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const full = await fixture.open({ outboxLimit: 1 })
    const told = () => event('task.changed', { task: task.id })
    expect(await full.changeTask(task.id, { classification: 'public' }, told())).toMatchObject({ refused: 'outbox_full' })
    expect(await full.changeTask(task.id, { classification: 'restricted' }, told(), { contextVersion: 1, narrows: true })).toMatchObject({ ok: true })
    expect(await ledger.changeTask(task.id, { classification: 'internal' }, told(), { contextVersion: 1 })).toMatchObject({ refused: 'stale' })
    const child = newTask(ledger, { parent: task.id, contextVersion: 1 })
    expect(await ledger.openTask(child, event())).toMatchObject({ refused: 'stale' })
    expect(await ledger.openTask({ ...child, contextVersion: 2 }, event())).toMatchObject({ ok: true })
  })

  it('is refused for what ended or is not there', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await ledger.endTask(task.id, END, event('task.ended'))
    expect(await ledger.changeTask(task.id, { intent: 'deploy' }, event('task.changed'))).toMatchObject({ refused: 'ended' })
    expect(await ledger.changeTask(ledger.newTaskId(), {}, event('task.changed'))).toMatchObject({ refused: 'not_found' })
  })
})

describe('what an agent opens for itself', () => {
  it('is bounded by what the ledger still holds of it, ended or not', async () => {
    const { ledger } = fixture
    const openedBy = { kind: 'agent', id: 'busy', issuer: 'cluster' } as const
    const ask = () => ledger.openTask(newTask(ledger, { id: ledger.newTaskId({ agent: 'busy' }), openedBy, maxOpened: 2 }), event('task.opened'))
    const [first, second] = [await ask(), await ask()]
    expect([first.ok, second.ok]).toEqual([true, true])
    expect(await ask()).toMatchObject({ ok: false, refused: 'quota' })
    if (!first.ok) throw new Error('not opened')
    await ledger.endTask(first.task.id, END, event('task.ended'))
    // Its record is still there; were the place free at once, opening and ending would fill the ledger all the same.
    expect(await ask()).toMatchObject({ ok: false, refused: 'quota' })
    const [key] = await fixture.redis.client.keys('mf:*:agent:*:tasks')
    const gone = Number(await fixture.redis.client.zscore(key ?? '', first.task.id))
    // Not its deadline and the retention on top, as before it ended.
    expect(gone).toBeLessThan(first.task.deadlineAt + 60_000)
    await fixture.redis.client.zadd(key ?? '', 'XX', 1, first.task.id)
    expect(await ask()).toMatchObject({ ok: true })
  })
})
