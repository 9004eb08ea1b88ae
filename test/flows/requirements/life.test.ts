import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { waitFor } from '../../support/wait.js'
import { connected, query, type Scene, startScene } from './support.js'

let scene: Scene
beforeAll(async () => {
  scene = await startScene({
    policy: '@id("in-tens") @maxTtl("10") forbid (principal, action == Action::"read", resource == Role::"short-read");',
    roles: '  short-read: {provider: warehouse, access: read, sensitivity: internal, max_ttl: 15m, params: {member_of: [reporting_ro]}}',
  })
}, 60_000)
afterAll(() => scene?.stop())

const envelope = [{ role: 'warehouse-read' }, { role: 'short-read' }, { role: 'warehouse-write' }, { role: 'api-token' }]
const openTask = (more: Record<string, unknown> = {}) => scene.openTask({ envelope, ...more })
const soon = (ms: number) => new Date(Date.now() + ms).toISOString()
const asOperator = async (path: string, selector: object) =>
  scene.call('POST', path, await scene.token('oncall'), { ...('agent' in selector ? {} : { selector }), reason: 'requirement 12' })

describe('requirement 10: per task, not per environment; shortest viable TTL', () => {
  it.each([
    ['the request', 20, { ttl: 20 }, {}],
    ['the envelope', 40, {}, { envelope: [{ role: 'warehouse-read', max_ttl: 40 }] }],
    ["the task's deadline", 30, {}, { deadline_at: 30_000 }],
    ['policy', 10, { role: 'short-read' }, {}],
    // 15 minutes in the role; policy grants a supervised agent half an hour.
    ['the role', 900, { ttl: 3_600 }, { deadline_at: 7_200_000 }],
  ])('no bound is exceeded where %s is the least', async (_, least, asked, of) => {
    const task = await openTask({ ...of, ...('deadline_at' in of && { deadline_at: soon(of.deadline_at) }) })
    const { lease, credential } = await scene.issued(task, 'warehouse-read', asked)
    const seconds = (Date.parse(credential.expires_at) - Date.parse(lease.issued_at)) / 1000
    expect(seconds).toBeGreaterThan(least - 5)
    expect(seconds).toBeLessThanOrEqual(least)
    // PostgreSQL has been told the same, so that the login is dead by then whatever becomes of the broker.
    const [until] = await scene.postgres.query('select extract(epoch from rolvaliduntil)::float8 as at from pg_roles where rolname = $1', [
      credential.username,
    ])
    expect(Number(until?.at) * 1000).toBeLessThanOrEqual(Date.parse(credential.expires_at))
    await scene.end(task)
  })

  it('each task has a login of its own, and the end of one is none of the other', async () => {
    const tasks = [await openTask(), await openTask()]
    const [first, second] = await Promise.all(tasks.map((task) => scene.issued(task, 'warehouse-read')))
    expect(first.credential.username).not.toBe(second.credential.username)
    await scene.end(tasks[0] ?? '')
    await expect(query(first.credential.url, 'select 1')).rejects.toThrow()
    expect(await query(second.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    await scene.end(tasks[1] ?? '')
  })
})

describe('requirement 12: revoke on completion, failure, expiry, state change', () => {
  const triggers: Record<
    string,
    [cause: string, open: Record<string, unknown>, ask: Record<string, unknown>, pull: (task: string, lease: string) => Promise<unknown>]
  > = {
    'the task completes': ['task_completed', {}, {}, (task) => scene.end(task)],
    'the task fails': ['task_failed', {}, {}, (task) => scene.end(task, 'fail')],
    'the task is cancelled': ['task_cancelled', {}, {}, (task) => scene.end(task, 'cancel')],
    'the lease expires': ['expired', {}, { ttl: 1 }, async () => undefined],
    "the task's deadline passes": ['task_expired', { deadline_at: 1_500 }, {}, async () => undefined],
    'a heartbeat is missed': ['heartbeat_missed', { heartbeat_seconds: 1 }, {}, async () => undefined],
    'the agent returns it': ['released', {}, {}, async (_, lease) => scene.call('DELETE', `/v1/leases/${lease}`, await scene.token('triage'))],
    'an operator revokes': ['task_revoked', {}, {}, (task) => asOperator('/v1/emergency/revoke', { task })],
    'the agent is suspended': ['emergency', {}, {}, () => asOperator('/v1/agents/triage/suspend', { agent: 'triage' })],
  }
  it.each(Object.keys(triggers))('when %s, upstream sees the revoke', async (name) => {
    const [cause, open, ask, pull] = triggers[name] ?? []
    const task = await openTask({ ...open, ...(open?.deadline_at !== undefined && { deadline_at: soon(Number(open.deadline_at)) }) })
    const { lease, credential } = await scene.issued(task, 'warehouse-read', ask)
    const { isCut } = await connected(credential.url)
    await pull?.(task, lease.id)
    await waitFor('the open session to be cut', isCut)
    await expect(connected(credential.url)).rejects.toThrow(/authentication failed|does not exist/)
    await scene.nothingUpstream()
    const settled = await waitFor('the lease to be settled', async () => {
      const now = await scene.leaseOf(lease.id)
      return now.state === 'revoked' ? now : undefined
    })
    expect(settled.cause).toBe(cause)
    const told = await scene.told((event) => event.lease === lease.id)
    expect(told.map(({ type }) => type)).toEqual(expect.arrayContaining(['lease.issued', 'lease.closing', 'lease.revoked']))
    if (name === 'the agent is suspended') await asOperator('/v1/agents/triage/resume', { agent: 'triage' })
  })
})
