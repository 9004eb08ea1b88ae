import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { waitFor } from '../support/wait.js'
import {
  event,
  eventsOf,
  type Fixture,
  granted,
  HOUR,
  newLease,
  openTask,
  reserved,
  setFields,
  startLedger,
  stateOf,
  taskNow,
  tokenNow,
} from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

describe('reserve', () => {
  it('writes a pending lease with every field before anything exists upstream', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { human: 'ada', assignees: [{ agent: 'triage' }] })
    const lease = newLease(ledger, task, {
      agent: { id: 'triage', instance: 'pod 1/ü', owner: 'sre@example.com', issuer: 'cluster' },
      scope: { prefix: 'a/b', tables: ['x', 'y'] },
      handle: { user: 'mf_1', nested: { deep: [1] } },
    })
    const answer = await ledger.reserve(lease, event('lease.reserved', { task: task.id, lease: lease.id }))
    expect(answer).toMatchObject({ ok: true, superseded: [] })
    if (!answer.ok) return
    expect(answer.expiresAt - answer.issuedAt).toBe(600_000)
    expect(answer.renewableUntil - answer.issuedAt).toBe(1_800_000)
    expect(answer.mintUntil - answer.issuedAt).toBe(5_000)
    expect(await ledger.lease(lease.id)).toEqual({
      id: lease.id,
      task: task.id,
      state: 'pending',
      agent: 'triage',
      instance: 'pod 1/ü',
      owner: 'sre@example.com',
      issuer: 'cluster',
      orchestrator: 'flows',
      human: 'ada',
      role: 'warehouse-read',
      provider: 'warehouse',
      access: 'read',
      sensitivity: 'confidential',
      scope: lease.scope,
      handle: lease.handle,
      revocation: 'immediate',
      residualSeconds: 0,
      expiryEndsUse: false,
      issuedAt: answer.issuedAt,
      expiresAt: answer.expiresAt,
      renewableUntil: answer.renewableUntil,
      mintUntil: answer.mintUntil,
      contextVersion: 1,
      attempts: 0,
    })
    expect((await eventsOf(ledger)).find((one) => one.lease === lease.id)).toMatchObject({ type: 'lease.reserved', task: task.id })
  })

  it('answers a retry with the first answer and changes nothing', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = newLease(ledger, task)
    const first = await ledger.reserve(lease, event('lease.reserved'))
    const events = (await eventsOf(ledger)).length
    expect(await ledger.reserve(lease, event('lease.reserved'))).toEqual(first)
    expect((await eventsOf(ledger)).length).toBe(events)
    expect((await taskNow(ledger, task.id)).counts.read).toBe(1)
  })

  it('refuses an id that is another lease of another task', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const lease = await reserved(ledger, task.id)
    const other = await openTask(ledger, { parent: task.id })
    const answer = await ledger.reserve({ ...newLease(ledger, other), id: lease.id }, event())
    expect(answer).toMatchObject({ ok: false, refused: 'conflict' })
  })

  it('clamps expiry and renewal to the deadline of the task', async () => {
    const { ledger } = fixture
    const deadlineAt = ledger.now() + 60_000
    const task = await openTask(ledger, { deadlineAt })
    expect(await ledger.reserve(newLease(ledger, task), event())).toMatchObject({ expiresAt: deadlineAt, renewableUntil: deadlineAt })
  })

  it('never goes beyond what the lease that it renews allowed', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const renewableUntil = ledger.now() + 90_000
    expect(await ledger.grant(newLease(ledger, task, { renewableUntil }), event())).toMatchObject({ expiresAt: renewableUntil, renewableUntil })
    expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { renewableUntil: ledger.now() - 1_000 }), event())).toMatchObject({
      refused: 'ended',
    })
  })

  it('knows no task that is not there, nor a lease in another partition', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const gone = { ...task, id: `${task.id.slice(0, -1)}${task.id.endsWith('a') ? 'e' : 'a'}` }
    expect(await ledger.reserve(newLease(ledger, gone), event())).toMatchObject({ refused: 'not_found' })
    const foreign = `lease_${task.id.slice(5, 7) === '00' ? '01' : '00'}${task.id.slice(7)}`
    expect(await ledger.reserve(newLease(ledger, task, { id: foreign }), event())).toMatchObject({ refused: 'not_found' })
    expect(await ledger.reserve(newLease(ledger, { ...task, id: 'task_../../x' }), event())).toMatchObject({ refused: 'not_found' })
  })

  it('refuses below any ended ancestor, before that end has reached the task itself', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const grandchild = await openTask(ledger, { parent: child.id })
    await setFields(fixture.redis, 'task', root.id, { s: 'cancelled', ec: 'task_cancelled' })
    expect(await ledger.reserve(newLease(ledger, grandchild), event())).toMatchObject({ refused: 'ended', detail: 'cancelled' })
    expect((await taskNow(ledger, grandchild.id)).state).toBe('cancelled')
  })

  it('refuses past the deadline, whether or not anybody swept', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await setFields(fixture.redis, 'task', task.id, { dl: ledger.now() - 1_000 })
    expect(await ledger.grant(newLease(ledger, task), event())).toMatchObject({ refused: 'ended', detail: 'expired' })
  })

  it('refuses an agent that is no assignee, and another copy than the named one', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { assignees: [{ agent: 'triage', instance: 'pod-1' }] })
    const by = (agent: string, instance?: string) =>
      ledger.reserve(newLease(ledger, task, { agent: { id: agent, instance, owner: 'o', issuer: 'cluster' } }), event())
    expect(await by('stranger', 'pod-1')).toMatchObject({ refused: 'not_assigned' })
    expect(await by('triage', 'pod-2')).toMatchObject({ refused: 'not_assigned' })
    expect(await by('triage')).toMatchObject({ refused: 'not_assigned' })
    expect(await by('triage', 'pod-1')).toMatchObject({ ok: true })
  })

  it('binds the first copy that obtains a lease, and only one of two at the same time', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { assignees: [{ agent: 'triage', bindInstance: true }] })
    const agent = (instance?: string) => ({ id: 'triage', instance, owner: 'o', issuer: 'cluster' })
    expect(await ledger.reserve(newLease(ledger, task, { agent: agent() }), event())).toMatchObject({ refused: 'not_assigned' })
    const both = await Promise.all(['pod%1', 'pod-2'].map((instance) => ledger.reserve(newLease(ledger, task, { agent: agent(instance) }), event())))
    expect(both.map((one) => one.ok)).toEqual([true, false])
    const now = await taskNow(ledger, task.id)
    expect(await ledger.reserve(newLease(ledger, now, { agent: agent('pod-2') }), event())).toMatchObject({ refused: 'not_assigned' })
    expect(await ledger.reserve(newLease(ledger, now, { agent: agent('pod%1') }), event())).toMatchObject({ ok: true })
  })

  it('refuses a decision on facts that have changed: version, what was obtained, counts', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const stale = (facts: Parameters<typeof newLease>[2]) => ledger.reserve(newLease(ledger, task, facts), event())
    expect(await stale({ facts: { contextVersion: 2, obtained: [] } })).toMatchObject({ refused: 'stale' })
    expect(await stale({ facts: { contextVersion: 1, obtained: ['write:internal'] } })).toMatchObject({ refused: 'stale' })
    await granted(ledger, task.id)
    expect(await stale({})).toMatchObject({ refused: 'stale' })
    const facts = { contextVersion: 1, obtained: ['read:confidential'] }
    expect(await stale({ facts: { ...facts, counts: { read: 0, write: 0, escalate: 0 } } })).toMatchObject({ refused: 'stale' })
    expect(await stale({ facts: { ...facts, counts: { read: 1, write: 0, escalate: 0 } } })).toMatchObject({ ok: true })
  })

  it('keeps what the whole tree obtained, sorted, each once, with its counts', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const child = await openTask(ledger, { parent: root.id })
    const role = (access: 'read' | 'write', sensitivity: 'public' | 'restricted') => ({
      role: { name: 'r', provider: 'warehouse', access, sensitivity, params: {} },
    })
    await granted(ledger, root.id, role('write', 'restricted'))
    await granted(ledger, child.id, role('read', 'public'))
    await granted(ledger, root.id, role('read', 'public'))
    const facts = { obtained: ['read:public', 'write:restricted'], counts: { read: 2, write: 1, escalate: 0 } }
    expect(await taskNow(ledger, root.id)).toMatchObject(facts)
    expect(await taskNow(ledger, child.id)).toMatchObject(facts)
  })

  it('answers a task from memory with what its own grants changed', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    await granted(ledger, task.id)
    expect(await ledger.task(task.id)).toMatchObject({ obtained: ['read:confidential'], counts: { read: 1 } })
    const lease = newLease(ledger, (await ledger.task(task.id)) ?? task)
    expect(await ledger.grant(lease, event())).toMatchObject({ ok: true })
  })
})

describe('quotas', () => {
  it('counts the unsettled leases of a task', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const limits = { perTaskLive: 2, perAgentLive: 0 }
    const first = await granted(ledger, task.id, { limits })
    await granted(ledger, task.id, { limits })
    const third = async () => ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { limits }), event())
    expect(await third()).toMatchObject({ refused: 'quota' })
    const closed = await ledger.close(first.id, 'released', event('lease.closing'))
    // Closing is not gone: it may still work upstream.
    expect(await third()).toMatchObject({ refused: 'quota' })
    if (!closed.ok || !closed.claim) throw new Error('not claimed')
    await ledger.settle({ lease: first.id, attempt: closed.claim.attempt }, { result: 'revoked' }, event('lease.revoked'))
    expect(await third()).toMatchObject({ ok: true })
  })

  it('counts what one agent has in a whole tree', async () => {
    const { ledger } = fixture
    const assignees = [{ agent: 'triage' }, { agent: 'other' }]
    const root = await openTask(ledger, { assignees })
    const child = await openTask(ledger, { parent: root.id, assignees })
    const limits = { perTaskLive: 0, perAgentLive: 0, maxLive: 1 }
    await granted(ledger, root.id)
    expect(await ledger.grant(newLease(ledger, await taskNow(ledger, child.id), { limits }), event())).toMatchObject({ refused: 'quota' })
    const other = { id: 'other', owner: 'o', issuer: 'cluster' }
    expect(await ledger.grant(newLease(ledger, await taskNow(ledger, child.id), { limits, agent: other }), event())).toMatchObject({ ok: true })
  })

  it('counts the leases of a role that a task ever had', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const limits = { perTaskLive: 0, perAgentLive: 0, maxLeases: 1 }
    const first = await granted(ledger, task.id, { limits })
    const closed = await ledger.close(first.id, 'released', event('lease.closing'))
    if (!closed.ok || !closed.claim) throw new Error('not claimed')
    await ledger.settle({ lease: first.id, attempt: closed.claim.attempt }, { result: 'revoked' }, event('lease.revoked'))
    expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { limits }), event())).toMatchObject({ refused: 'quota' })
  })

  it.each(['anywhere', "in the agent's own partition", 'in both'])(
    'counts what one agent has %s, and leaves nothing live that it refused',
    async (where) => {
      const { ledger } = fixture
      const agent = { id: `spread-${where}`, owner: 'o', issuer: 'cluster' }
      const limits = { perTaskLive: 0, perAgentLive: 3 }
      const idOf = (n: number) => ledger.newTaskId(where === 'anywhere' || (where === 'in both' && n % 2 === 0) ? undefined : { agent: agent.id })
      const tasks = await Promise.all(Array.from({ length: 8 }, (_, n) => openTask(ledger, { id: idOf(n), assignees: [{ agent: agent.id }] })))
      const leases = tasks.map((task) => newLease(ledger, task, { agent, limits }))
      const answers = await Promise.all(leases.map((lease) => ledger.grant(lease, event())))
      expect(answers.filter((one) => one.ok)).toHaveLength(3)
      for (const [index, lease] of leases.entries()) {
        // At home a refused lease was never written; elsewhere it was, and ended before anybody saw it.
        expect((await stateOf(ledger, lease.id)) ?? 'revoked').toBe(answers[index]?.ok ? 'active' : 'revoked')
        expect(await ledger.grant(lease, event())).toEqual(answers[index]?.ok ? answers[index] : expect.objectContaining({ refused: 'quota' }))
      }
      const kept = leases.find((_, index) => answers[index]?.ok)
      if (!kept) throw new Error('none was granted')
      const closed = await ledger.close(kept.id, 'released', event('lease.closing'))
      if (!closed.ok || !closed.claim) throw new Error('not claimed')
      await ledger.settle({ lease: kept.id, attempt: closed.claim.attempt }, { result: 'revoked' }, event('lease.revoked'))
      const again = await openTask(ledger, { assignees: [{ agent: agent.id }] })
      expect(await ledger.grant(newLease(ledger, again, { agent, limits }), event())).toMatchObject({ ok: true })
    },
  )

  it('takes no place of an agent for a renewal whose lease has ended', async () => {
    const { ledger, redis } = fixture
    const agent = { id: 'renews-late', owner: 'o', issuer: 'cluster', tokenIssuedAt: 1 }
    const task = await openTask(ledger, { assignees: [{ agent: agent.id }] })
    const limits = { perTaskLive: 0, perAgentLive: 2 }
    const first = await granted(ledger, task.id, { agent, limits })
    await ledger.close(first.id, 'released', event('lease.closing'))
    await ledger.settle({ lease: first.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    const late = newLease(ledger, await taskNow(ledger, task.id), { agent, limits, supersedes: first.id })
    expect(await ledger.grant(late, event())).toMatchObject({ ok: false, refused: 'closed' })
    const taken = async () => {
      const keys = await redis.client.keys('mf:*:agent:*:live')
      return (await Promise.all(keys.map((key) => redis.client.zscore(key, late.id)))).some((score) => score !== null)
    }
    await waitFor('the place to be free', async () => !(await taken()), 2_000)
  })

  it.each(['leaky', 'leaky-at-home'])('frees a place that nobody gave back once its lease would have been over (%s)', async (id) => {
    const { ledger, redis } = fixture
    const agent = { id, owner: 'o', issuer: 'cluster' }
    const task = await openTask(ledger, { id: ledger.newTaskId(id === 'leaky' ? undefined : { agent: id }), assignees: [{ agent: id }] })
    const limits = { perTaskLive: 0, perAgentLive: 1 }
    await granted(ledger, task.id, { agent, limits })
    const refused = await ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { agent, limits }), event())
    expect(refused).toMatchObject({ refused: 'quota' })
    const places = await Promise.all(
      (await redis.client.keys('mf:*:agent:*:live')).map(async (key) => ({ key, ids: await redis.client.zrange(key, '0', '-1') })),
    )
    const held = new Set((await ledger.leasesOfTask(task.id)).map((lease) => lease.id))
    const mine = places.find(({ ids }) => ids.length === 1 && held.has(ids[0] ?? ''))
    if (!mine) throw new Error('no place was taken')
    await redis.client.zadd(mine.key, 'XX', 1, mine.ids[0] ?? '')
    expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task.id), { agent, limits }), event())).toMatchObject({ ok: true })
  })
})

describe('superseding', () => {
  it.each(['full', 'full-at-home'])('does not count what it takes the place of, in the task nor over all partitions (%s)', async (id) => {
    const { ledger } = fixture
    const agent = { id, owner: 'o', issuer: 'cluster' }
    const task = await openTask(ledger, { id: ledger.newTaskId(id === 'full' ? undefined : { agent: id }), assignees: [{ agent: id }] })
    const limits = { perTaskLive: 1, perAgentLive: 1, maxLive: 1 }
    const first = await granted(ledger, task.id, { agent, limits, idempotency: `${id}-1` })
    const next = async (more: object) =>
      ledger.grant(
        newLease(ledger, await taskNow(ledger, task.id), { agent: { ...agent, tokenIssuedAt: tokenNow(ledger) }, limits, ...more }),
        event(),
      )
    expect(await next({})).toMatchObject({ refused: 'quota' })
    expect(await next({ idempotency: `${id}-1` })).toMatchObject({ ok: true, superseded: [{ lease: { id: first.id } }] })
    const freed = await ledger.settle({ lease: first.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    expect(freed.state).toBe('revoked')
    const [second] = await ledger.leasesOfTask(task.id)
    expect(await next({ supersedes: second?.id })).toMatchObject({ ok: true, superseded: [{ lease: { id: second?.id } }] })
  })

  it('closes the first lease of an Idempotency-Key when it comes again, and claims it for the caller', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const limits = { perTaskLive: 1, perAgentLive: 0 }
    const first = await granted(ledger, task.id, { idempotency: 'key-1', limits })
    const again = newLease(ledger, await taskNow(ledger, task.id), { idempotency: 'key-1', limits })
    const answer = await ledger.grant(again, event())
    expect(answer).toMatchObject({ ok: true, superseded: [{ attempt: 1, lease: { id: first.id, state: 'closing', cause: 'superseded' } }] })
    expect(await stateOf(ledger, again.id)).toBe('active')
  })

  it('takes over from nothing that has expired, swept or not', async () => {
    const { ledger, redis } = fixture
    const task = await openTask(ledger)
    const old = await granted(ledger, task.id)
    await setFields(redis, 'lease', old.id, { xa: ledger.now() - 1_000 })
    const late = newLease(ledger, await taskNow(ledger, task.id), { supersedes: old.id })
    expect(await ledger.grant(late, event())).toMatchObject({ ok: false, refused: 'closed' })
  })

  it('takes over from a named live lease of the same agent and task, and from no other', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { assignees: [{ agent: 'triage' }, { agent: 'other' }] })
    const old = await granted(ledger, task.id)
    const next = async (more: object) => newLease(ledger, await taskNow(ledger, task.id), { supersedes: old.id, ...more })
    const other = { agent: { id: 'other', owner: 'o', issuer: 'cluster' } }
    expect(await ledger.grant(await next(other), event())).toMatchObject({ refused: 'closed' })
    expect(await ledger.grant(await next({}), event())).toMatchObject({ ok: true, superseded: [{ lease: { id: old.id, state: 'closing' } }] })
    expect(await ledger.grant(await next({}), event())).toMatchObject({ refused: 'closed' })
  })
})

describe('ids', () => {
  it('carry 128 random bits and the partition of the root', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger, { deadlineAt: ledger.now() + HOUR })
    expect(task.id).toMatch(/^task_0[0-3][a-z2-7]{26}$/)
    expect(ledger.newLeaseId(task.id).slice(0, 8)).toBe(`lease_${task.id.slice(5, 7)}`)
    expect(ledger.newTaskId({ parent: task.id }).slice(0, 7)).toBe(task.id.slice(0, 7))
    expect(new Set(Array.from({ length: 1_000 }, () => ledger.newTaskId())).size).toBe(1_000)
  })
})
