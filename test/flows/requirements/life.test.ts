import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { waitFor } from '../../support/wait.js'
import { connected, query, type Scene, startScene } from './support.js'

let scene: Scene
beforeAll(async () => {
  scene = await startScene({
    policy: `
      @id("in-tens") @maxTtl("10") forbid (principal, action == Action::"read", resource == Role::"short-read");
      @id("not-for-restricted-data") forbid (principal, action == Action::"read", resource == Role::"warehouse-read") when { context.level > 2 };
      @id("in-production") forbid (principal, action == Action::"read", resource == Role::"warehouse-read") when { context.environment != Environment::"production" };
      @id("for-triage") forbid (principal, action == Action::"read", resource == Role::"warehouse-read") when { context.intent != Intent::"incident-triage" };`,
    roles: ['short-read: {max_ttl: 15m', 'twice-read: {max_ttl: 5m, max_renewals: 2', 'brief-read: {max_ttl: 3s']
      .map((role) => `  ${role}, provider: warehouse, access: read, sensitivity: internal, params: {member_of: [reporting_ro]}}`)
      .join('\n'),
  })
}, 60_000)
afterAll(() => scene?.stop())
afterEach(() => scene.clear())

const envelope = [
  { role: 'warehouse-read' },
  ...['short-read', 'twice-read', 'brief-read'].map((role) => ({ role })),
  { role: 'warehouse-write' },
  { role: 'api-token' },
]
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

describe('requirement 11: bind the credential to workload, task, action', () => {
  it('the lease says to which, and each has a credential of its own', async () => {
    const assignees = [{ agent: 'triage' }, { agent: 'reporter' }]
    const [task, other] = [await openTask({ assignees }), await openTask({ assignees })]
    const leases = [
      await scene.issued(task, 'warehouse-read'),
      await scene.issued(other, 'warehouse-read'),
      await scene.issued(task, 'warehouse-read', {}, 'reporter'),
      await scene.issued(task, 'short-read'),
    ]
    expect(leases.map(({ lease }) => [lease.task, lease.agent, lease.role, lease.access])).toEqual([
      [task, 'triage', 'warehouse-read', 'read'],
      [other, 'triage', 'warehouse-read', 'read'],
      [task, 'reporter', 'warehouse-read', 'read'],
      [task, 'triage', 'short-read', 'read'],
    ])
    expect(new Set(leases.map(({ credential }) => credential.username)).size).toBe(4)
    // PostgreSQL knows it too: who reads its logs finds the lease.
    const [comment] = await scene.postgres.query('select shobj_description(oid, $2) as text from pg_roles where rolname = $1', [
      leases[0].credential.username,
      'pg_authid',
    ])
    for (const part of [leases[0].lease.id, task, 'triage']) expect(comment?.text).toContain(part)
  })

  it('use across tasks, agents or running copies is refused', async () => {
    const assignees = [{ agent: 'copy-copy-a' }, { agent: 'reporter' }]
    const [task, other] = [await openTask({ assignees }), await openTask({ assignees: [{ agent: 'reporter' }] })]
    const [one, two, reporter] = [await scene.token('copy-a', { run: '1' }), await scene.token('copy-a', { run: '2' }), await scene.token('reporter')]
    const { status, body } = await scene.call('POST', '/v1/leases', one, { task, role: 'warehouse-read', ttl: 60 })
    expect(status).toBe(201)
    for (const who of [two, reporter, await scene.token('triage')]) {
      expect((await scene.call('GET', `/v1/leases/${body.lease.id}`, who)).status).toBe(404)
      expect((await scene.call('POST', `/v1/leases/${body.lease.id}/renew`, who, {})).status).toBe(404)
      expect((await scene.call('DELETE', `/v1/leases/${body.lease.id}`, who)).status).toBe(404)
    }
    expect((await scene.call('POST', '/v1/leases', one, { task: other, role: 'warehouse-read' })).status).toBe(404)
    // The end of another task is none of its own, and of its own it is.
    await scene.end(other)
    expect(await query(body.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    await scene.end(task)
    await expect(query(body.credential.url, 'select id from orders')).rejects.toThrow()
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

describe('requirement 13: revoke on context change', () => {
  it('raise the classification: revoked', async () => {
    const task = await openTask()
    const child = await scene.call('POST', `/v1/tasks/${task}/children`, await scene.token('triage'), {
      assignees: [{ agent: 'reporter' }],
      envelope,
    })
    const held = [await scene.issued(task, 'warehouse-read'), await scene.issued(child.body.task.id, 'warehouse-read', {}, 'reporter')]
    const kept = await scene.issued(task, 'short-read', { ttl: 10 })
    const sessions = await Promise.all(held.map(({ credential }) => connected(credential.url)))
    const { body } = await scene.call('PATCH', `/v1/tasks/${task}/context?wait=10`, await scene.token('flows'), { classification: 'restricted' })
    expect(body.leases).toMatchObject({ kept: 1, outcomes: held.map(() => ({ state: 'revoked', cause: 'context_changed' })) })
    expect(new Set(body.leases.closing)).toEqual(new Set(held.map(({ lease }) => lease.id)))
    for (const { isCut } of sessions) await waitFor('the session to be cut', isCut)
    expect(await scene.logins()).toEqual([kept.credential.username])
    expect((await scene.obtain(task, 'warehouse-read')).body).toMatchObject({ code: 'denied', policies: ['not-for-restricted-data'] })
    const told = await scene.told((event) => event.type === 'lease.closing' && held.some(({ lease }) => lease.id === event.lease))
    expect(told.map(({ decision }) => decision.policies)).toEqual([['not-for-restricted-data'], ['not-for-restricted-data']])
  })

  it.each(['environment', 'intent', 'confidence'])('so it does with %s', async (fact) => {
    const changes = { environment: 'elsewhere', intent: 'deploy', confidence: 0.1 }
    const task = await openTask()
    const { lease } = await scene.issued(task, 'warehouse-read')
    const { body } = await scene.call('PATCH', `/v1/tasks/${task}/context?wait=10`, await scene.token('flows'), {
      [fact]: changes[fact as keyof typeof changes],
    })
    expect(body.leases.outcomes).toMatchObject([{ id: lease.id, state: 'revoked', cause: 'context_changed' }])
    expect(await scene.logins()).toEqual([])
  })
})

describe('requirement 21: continuous re-authentication', () => {
  const renew = (lease: string, token: string) => scene.call('POST', `/v1/leases/${lease}/renew`, token, { ttl: 120 })

  it('renew needs a fresh token: an old one is refused, and the login lives no longer for it', async () => {
    const old = await scene.token('triage')
    const task = await openTask()
    const { body } = await scene.call('POST', '/v1/leases', old, { task, role: 'warehouse-read', ttl: 60 })
    expect(await renew(body.lease.id, old)).toMatchObject({ status: 401, body: { code: 'token_not_fresh' } })
    const until = async () =>
      Number(
        (
          await scene.postgres.query('select extract(epoch from rolvaliduntil)::float8 as at from pg_roles where rolname = $1', [
            body.credential.username,
          ])
        )[0]?.at,
      )
    const before = await until()
    const renewed = await renew(body.lease.id, await scene.token('triage'))
    expect(renewed.status).toBe(200)
    expect(await until()).toBeGreaterThan(before + 30)
    expect(Date.parse(renewed.body.lease.expires_at)).toBeGreaterThan(Date.parse(body.lease.expires_at) + 30_000)
  })

  it('missed -> revoked', async () => {
    const { lease, credential } = await scene.issued(await openTask(), 'warehouse-read', { ttl: 1 })
    const { isCut } = await connected(credential.url)
    await waitFor('the session to be cut', isCut)
    await scene.nothingUpstream()
    expect((await renew(lease.id, await scene.token('triage'))).body).toMatchObject({ status: 409, code: 'lease_ended' })
  })
})

describe('requirement 22: hard revocation points', () => {
  const renew = async (lease: string, ttl: number) => scene.call('POST', `/v1/leases/${lease}/renew`, await scene.token('triage'), { ttl })

  it('renewals counted: renew at the limit -> refused', async () => {
    const { lease } = await scene.issued(await openTask(), 'twice-read', { ttl: 30 })
    for (const renewals of [1, 2]) expect((await renew(lease.id, 30 + renewals)).body.lease).toMatchObject({ renewals })
    expect((await renew(lease.id, 60)).body).toMatchObject({ status: 409, code: 'renewals_used' })
  })

  it('hard lifetime: renewed up to it, and not past it, and then it is over', async () => {
    const { lease, credential } = await scene.issued(await openTask(), 'brief-read', { ttl: 2 })
    const renewed = await renew(lease.id, 300)
    expect(renewed.body.lease.expires_at).toBe(lease.renewable_until)
    expect(Date.parse(lease.renewable_until)).toBeLessThanOrEqual(Date.parse(lease.issued_at) + 3_000)
    expect((await renew(lease.id, 300)).body).toMatchObject({ status: 409, code: 'renewal_limit' })
    const { isCut } = await connected(credential.url)
    await waitFor('the session to be cut', isCut)
    await scene.nothingUpstream()
    expect(await scene.leaseOf(lease.id)).toMatchObject({ cause: 'expired' })
  })
})
