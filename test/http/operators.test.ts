import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

describe('an operator', () => {
  let redis: TestRedis
  let test: TestBroker
  let call: TestBroker['call']
  let agent: string
  let oncall: string
  beforeAll(async () => {
    redis = await startRedis()
    test = await startTestBroker({ redisSocket: redis.socketPath })
    call = checking(test.call)
    ;[agent, oncall] = await Promise.all([test.token('triage'), test.token('oncall')])
  })
  afterAll(async () => {
    await test?.stop()
    await redis?.stop()
  })
  const obtain = (task: string, role = 'api-token') => call('POST', '/v1/leases', agent, { task, role })

  it('blocks issuing with a freeze, before its answer, and lifts it with a thaw', async () => {
    const task = await test.openTask()
    const live = (await obtain(task)).body.lease.id
    const frozen = await call('POST', '/v1/freezes', oncall, { selector: { role: 'api-token' }, reason: 'looking into it' })
    expect(frozen.status).toBe(201)
    expect(frozen.body).toMatchObject({
      freeze: { selector: { role: ['api-token'] }, by: 'oncall', reason: 'looking into it' },
      partitions: { unreachable: 0 },
    })
    expect(frozen.body.partitions.holding).toBeGreaterThan(0)
    expect((await obtain(task)).body.code).toBe('frozen')
    expect((await obtain(task, 'api-signed')).status).toBe(201)
    expect((await call('GET', `/v1/leases/${live}`, agent)).body.lease.state).toBe('active')

    const { id } = frozen.body.freeze
    const { partitions } = frozen.body
    expect((await call('GET', '/v1/freezes', oncall)).body.freezes).toEqual([{ ...frozen.body.freeze, partitions }])
    expect((await call('POST', `/v1/freezes/freeze_00${'a'.repeat(26)}/thaw`, oncall, { reason: 'over' })).status).toBe(404)
    expect((await call('POST', `/v1/freezes/${id}/thaw`, oncall)).status).toBe(415)
    expect((await call('POST', `/v1/freezes/${id}/thaw`, oncall, { reason: 'over' })).body.freeze.id).toBe(id)
    expect((await call('GET', '/v1/freezes', oncall)).body.freezes).toEqual([])
    expect((await obtain(task)).status).toBe(201)
    const told = (await eventsOf(test, redis.client)).filter(({ type }) => type.startsWith('freeze.'))
    expect(told.map(({ type, principal }) => [type, principal.id])).toEqual([
      ['freeze.set', 'oncall'],
      ['freeze.thawed', 'oncall'],
    ])
  })

  it('counts with a dry run and changes nothing', async () => {
    const task = await test.openTask()
    const leases = [await obtain(task), await obtain(task), await obtain(task, 'api-signed')]
    const dry = await call('POST', '/v1/emergency/revoke', oncall, { selector: { task }, reason: 'drill', dry_run: true })
    expect(dry.status).toBe(200)
    expect(dry.body).toMatchObject({ dry_run: true, matched: 3 })
    expect(dry.body.providers.toSorted((a: { provider: string }, b: { provider: string }) => a.provider.localeCompare(b.provider))).toMatchObject([
      { provider: 'signed', live: 1, revocation: 'at-expiry' },
      { provider: 'tokens', live: 2, revocation: 'immediate' },
    ])
    for (const { body } of leases) expect((await call('GET', `/v1/leases/${body.lease.id}`, agent)).body.lease.state).toBe('active')
    expect((await call('GET', '/v1/freezes', oncall)).body.freezes).toEqual([])
    expect((await obtain(task)).status).toBe(201)
  })

  it('stops everything of a selector, and sees how far it has come', async () => {
    const [task, other] = [await test.openTask(), await test.openTask()]
    const lease = (await obtain(task)).body.lease.id
    const spared = (await obtain(other)).body.lease.id
    const stop = await call('POST', '/v1/emergency/revoke', oncall, { selector: { task: [task] }, reason: 'leak' })
    expect(stop.status).toBe(202)
    expect(stop.body).toMatchObject({
      revocation: { by: 'oncall', reason: 'leak', selector: { task: [task] } },
      freeze: { selector: { task: [task] } },
    })
    expect(stop.body.freeze.partitions.unreachable).toBe(0)
    expect(['frozen', 'task_ended']).toContain((await obtain(task)).body.code)
    const progress = () => call('GET', `/v1/emergency/revocations/${stop.body.revocation.id}`, oncall)
    const done = await waitFor('the revocation to finish', async () => {
      const { body } = await progress()
      return body.revocation.state === 'finished' && body.revocation
    })
    expect(done).toMatchObject({ pending: 0, failed: 0 })
    expect((await call('GET', `/v1/leases/${lease}`, agent)).body.lease.state).toBe('revoked')
    expect((await call('GET', `/v1/leases/${spared}`, agent)).body.lease.state).toBe('active')
    expect((await call('GET', `/v1/emergency/revocations/revocation_00${'a'.repeat(26)}`, oncall)).status).toBe(404)
    await call('POST', `/v1/freezes/${stop.body.freeze.id}/thaw`, oncall, { reason: 'over' })
  })

  it('revokes without a freeze when asked to', async () => {
    const task = await test.openTask()
    const lease = (await obtain(task)).body.lease.id
    const stop = await call('POST', '/v1/emergency/revoke', oncall, {
      selector: { agent: 'triage', role: 'api-token' },
      reason: 'rotate',
      freeze: false,
    })
    expect(stop.status).toBe(202)
    expect(stop.body.freeze).toBeUndefined()
    await waitFor('the lease to be revoked', async () => (await call('GET', `/v1/leases/${lease}`, oncall)).body.lease.state === 'revoked')
    expect((await obtain(task)).status).toBe(201)
  })

  it.each([
    ['an empty selector', { selector: {}, reason: 'x' }],
    ['a selector that says everything and something', { selector: { all: true, agent: 'triage' }, reason: 'x' }],
    ['an unknown dimension', { selector: { agents: ['triage'] }, reason: 'x' }],
    ['all: false', { selector: { all: false }, reason: 'x' }],
    ['an empty list', { selector: { agent: [] }, reason: 'x' }],
    ['no reason', { selector: { all: true } }],
    ['an empty reason', { selector: { all: true }, reason: '' }],
  ])('stops nothing with %s', async (_what, body) => {
    expect((await call('POST', '/v1/emergency/revoke', oncall, body)).status).toBe(422)
    expect((await call('POST', '/v1/freezes', oncall, body)).status).toBe(422)
    expect((await call('GET', '/v1/freezes', oncall)).body.freezes).toEqual([])
  })

  it('lists leases, tasks and agents, a page at a time', async () => {
    const task = await test.openTask()
    const made = await Promise.all([1, 2, 3, 4, 5].map(async () => (await obtain(task)).body.lease.id))
    const seen: string[] = []
    for (let cursor: string | undefined = ''; cursor !== undefined; ) {
      const query = `?task=${task}&limit=2${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`
      const { status, body } = await call('GET', `/v1/leases${query}`, oncall)
      expect(status).toBe(200)
      expect(body.leases.length).toBeLessThanOrEqual(2)
      seen.push(...body.leases.map(({ id }: { id: string }) => id))
      cursor = body.next_cursor
    }
    expect(seen.toSorted()).toEqual(made.toSorted())
    const active = await call('GET', '/v1/leases?agent=triage&state=active&provider=tokens&limit=500', oncall)
    expect(active.body.leases.map(({ id }: { id: string }) => id)).toEqual(expect.arrayContaining(made))
    const tasks = await call('GET', '/v1/tasks?state=active&orchestrator=flows&limit=500', oncall)
    expect(tasks.body.tasks.map(({ id }: { id: string }) => id)).toContain(task)
    expect((await call('GET', `/v1/tasks/${task}`, oncall)).body.leases).toHaveLength(5)
    const { agents } = (await call('GET', '/v1/agents', oncall)).body
    const known = { id: 'triage', owner: 'sre@example.com', autonomy: 'supervised', team: 'platform', standing: 'active' }
    expect(agents).toContainEqual(expect.objectContaining(known))
  })

  it.each(['?limit=0', '?limit=501', '?limit=x', '?state=gone', '?task=nope', '?cursor=%00', '?nothing=1', '?agent=a&agent=b'])(
    'is told that %s is no listing',
    async (query) => {
      expect((await call('GET', `/v1/leases${query}`, oncall)).status).toBe(422)
    },
  )

  it('gets an error of its own making for a cursor of its own making', async () => {
    for (const cursor of ['x', '[]', 'eyJhIjoxfQ', '99999999', 'W10'])
      expect((await call('GET', `/v1/leases?cursor=${cursor}`, oncall)).status).toBe(422)
  })
})
