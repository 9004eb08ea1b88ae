import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { event } from '../../src/event.js'
import { checking } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker
let call: TestBroker['call']
let oncall: string

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role reporting_ro nologin')
  const archive = await postgres.createBroker(['reporting_ro'], { name: 'archive_broker' })
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    env: { ARCHIVE_URL: archive },
    providers: '  archive: {type: postgres, url: env:ARCHIVE_URL, timeout: 2s}',
    roles: '  archive-read: {provider: archive, access: read, sensitivity: internal, max_ttl: 15m, params: {member_of: [reporting_ro]}}',
  })
  call = checking(test.call)
  oncall = await test.token('oncall')
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const ROLES = ['warehouse-read', 'archive-read', 'api-token']
const openTask = (agent: string, more: object = {}) => test.openTask({ assignees: [{ agent }], envelope: ROLES.map((role) => ({ role })), ...more })
const obtain = async (task: string, role: string, agent: string) => call('POST', '/v1/leases', await test.token(agent), { task, role, ttl: 300 })
const stateOf = async (lease: string) => (await call('GET', `/v1/leases/${lease}`, oncall)).body.lease
const act = (agent: string, verb: string, token = oncall) =>
  call('POST', `/v1/agents/${encodeURIComponent(agent)}/${verb}`, token, { reason: 'drill' })
const agentOf = async (agent: string) => (await call('GET', `/v1/agents/${encodeURIComponent(agent)}`, oncall)).body

describe('suspending an agent', () => {
  it('revokes what it holds and blocks what it asks for, until it is resumed; its task goes on', async () => {
    const task = await openTask('triage')
    const { lease, credential } = (await obtain(task, 'warehouse-read', 'triage')).body
    const spared = (await obtain(await openTask('reporter'), 'api-token', 'reporter')).body.lease.id
    expect(await agentOf('triage')).toMatchObject({
      agent: { id: 'triage', owner: 'sre@example.com', autonomy: 'supervised', standing: 'active', live_leases: 1, tasks: 1 },
      freezes: [],
    })

    const suspended = await act('triage', 'suspend')
    expect(suspended).toMatchObject({
      status: 202,
      body: { agent: 'triage', configured: true, standing: 'suspended', freeze: { kind: 'suspension', partitions: { unreachable: 0 } } },
    })
    expect((await obtain(task, 'api-token', 'triage')).body.code).toBe('frozen')
    await waitFor('the lease to be revoked', async () => (await stateOf(lease.id)).state === 'revoked')
    expect((await stateOf(lease.id)).cause).toBe('emergency')
    expect(await postgres.query('select 1 from pg_roles where rolname = $1', [credential.username])).toEqual([])
    expect((await stateOf(spared)).state).toBe('active')
    expect(await agentOf('triage')).toMatchObject({ agent: { standing: 'suspended', live_leases: 0, tasks: 1 }, freezes: [{ kind: 'suspension' }] })

    const manual = await call('POST', '/v1/freezes', oncall, { selector: { agent: 'triage' }, reason: 'something else' })
    const resumed = await act('triage', 'resume')
    expect(resumed.body).toMatchObject({ standing: 'frozen', thawed: [{ id: suspended.body.freeze.id }], freezes: [{ id: manual.body.freeze.id }] })
    expect((await obtain(task, 'api-token', 'triage')).body.code).toBe('frozen')
    await call('POST', `/v1/freezes/${manual.body.freeze.id}/thaw`, oncall, { reason: 'over' })
    expect((await act('triage', 'resume')).body).toMatchObject({ standing: 'active', thawed: [], freezes: [] })
    expect((await obtain(task, 'api-token', 'triage')).status).toBe(201)
  }, 30_000)

  it('twice is taken back by resuming once', async () => {
    await Promise.all([act('reporter', 'suspend'), act('reporter', 'suspend')])
    expect((await act('reporter', 'resume')).body).toMatchObject({ standing: 'active', thawed: [{}, {}] })
    expect((await obtain(await openTask('reporter'), 'api-token', 'reporter')).status).toBe(201)
  })

  it('leaves nothing live of an agent that obtains all the while', async () => {
    const task = await openTask('reporter')
    const token = await test.token('reporter')
    const answers: Awaited<ReturnType<typeof obtain>>[] = []
    let over = false
    const asking = Array.from({ length: 4 }, async () => {
      while (!over) answers.push(await test.call('POST', '/v1/leases', token, { task, role: 'api-token', ttl: 300 }))
    })
    await waitFor('some leases', () => answers.length > 20)
    await act('reporter', 'suspend')
    const before = answers.length
    await waitFor('some refusals', () => answers.length > before + 20)
    over = true
    await Promise.all(asking)
    expect(answers.at(-1)?.body.code).toBe('frozen')
    await waitFor('nothing to be live', async () => (await agentOf('reporter')).agent.live_leases === 0)
    await act('reporter', 'resume')
  }, 30_000)

  it('works for an agent that is not configured, and says so', async () => {
    const gone = await act('gone/team-a', 'suspend')
    expect(gone).toMatchObject({ status: 202, body: { agent: 'gone/team-a', configured: false, freeze: { selector: { agent: ['gone/team-a'] } } } })
    expect((await agentOf('gone/team-a')).agent).toMatchObject({ id: 'gone/team-a', standing: 'suspended' })
    // A slash may be sent as it is, too.
    expect((await call('POST', '/v1/agents/gone/team-a/resume', oncall, { reason: 'over' })).body).toMatchObject({ standing: 'active', thawed: [{}] })
    expect((await call('GET', '/v1/agents/gone/team-a', oncall)).status).toBe(404)
  })

  it.each(['suspend', 'resume', 'offboard'])('%s is for operators whom policy lets, and for nobody else', async (verb) => {
    for (const sub of ['triage', 'flows', 'visitor', 'reports-api']) {
      expect(await act('triage', verb, await test.token(sub))).toMatchObject({ status: 403, body: { code: 'denied' } })
    }
    expect((await agentOf('triage')).agent.standing).toBe('active')
    expect((await call('POST', `/v1/agents/triage/${verb}`, oncall, {})).status).toBe(422)
    expect((await call('POST', `/v1/agents/${encodeURIComponent('a\nb')}/${verb}`, oncall, { reason: 'r' })).status).toBe(404)
  })
})

describe('offboarding an agent', () => {
  it('with leases at three providers, one of them failing: two are revoked, one is pending, told until when, and retried', async () => {
    const agent = 'copy-copy-leaver'
    const token = await test.token('copy-leaver', { run: '1' })
    const task = await openTask(agent)
    const leases: Record<string, string> = {}
    for (const role of ROLES) leases[role] = (await call('POST', '/v1/leases', token, { task, role, ttl: 300 })).body.lease.id
    await postgres.query('alter role archive_broker nologin')
    await postgres.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'archive_broker'")

    expect((await call('GET', `/v1/agents/${agent}/offboard`, oncall)).status).toBe(404)
    const begun = await act(agent, 'offboard')
    expect(begun.body).toMatchObject({ standing: 'offboarded', configured: true, freeze: { kind: 'offboarding' } })
    const report = async () => (await call('GET', `/v1/agents/${agent}/offboard`, oncall)).body
    const partial = await waitFor('two of three to be revoked', async () => {
      const seen = await report()
      const { providers = [] } = seen.revocation ?? {}
      return (
        providers.filter(({ revoked }: { revoked: number }) => revoked === 1).length === 2 &&
        providers.some((one: { failed: number }) => one.failed === 1) &&
        seen
      )
    })
    expect(partial.state).toBe('running')
    expect(partial.revocation.providers).toMatchObject([
      { provider: 'archive', matched: 1, revoked: 0, pending: 1, failed: 1, residual_until: expect.any(String) },
      { provider: 'tokens', matched: 1, revoked: 1, pending: 0 },
      { provider: 'warehouse', matched: 1, revoked: 1, pending: 0 },
    ])
    expect(partial.revocation.providers[1].residual_until).toBeUndefined()
    expect(partial.pending).toMatchObject([{ id: leases['archive-read'], state: 'closing', last_error: expect.any(String) }])

    await postgres.query('alter role archive_broker login')
    const done = await waitFor('the last to be revoked', async () => ((await report()).state === 'finished' ? report() : undefined), 60_000)
    expect(done).toMatchObject({ pending: [], revocation: { matched: 3, revoked: 3, pending: 0, failed: 0 } })
    for (const lease of Object.values(leases)) expect((await stateOf(lease)).state).toBe('revoked')
    expect(await postgres.query("select rolname from pg_roles where rolname like 'mf-test-%'")).toEqual([])
  }, 90_000)

  it('is for good: resuming does not take it back, and thawing takes the right to offboard too', async () => {
    const agent = 'copy-copy-gone'
    const { freeze } = (await act(agent, 'offboard')).body
    await act(agent, 'suspend')
    const refused = await act(agent, 'resume')
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict', next: expect.stringContaining('thaw') } })
    const token = await test.token('copy-gone', { run: '1' })
    const own = { intent: 'x', envelope: [{ role: 'api-token', max_ttl: 60 }], deadline_at: new Date(Date.now() + 60_000).toISOString() }
    expect((await call('POST', '/v1/tasks', token, own)).body.code).toBe('frozen')
    expect((await call('POST', `/v1/freezes/${freeze.id}/thaw`, oncall, { reason: 'a mistake' })).status).toBe(200)
    expect((await act(agent, 'resume')).body).toMatchObject({ standing: 'active' })
  })

  it('that its broker did not live to go on with is told as interrupted, and is finished by asking again', async () => {
    const agent = 'copy-copy-cut'
    const token = await test.token('copy-cut', { run: '1' })
    const { lease } = (await call('POST', '/v1/leases', token, { task: await openTask(agent), role: 'api-token' })).body
    const { ledger } = test.broker.house()
    const told = event('freeze.set', undefined, undefined, { detail: { selector: { agent: [agent] } } })
    await ledger.freeze({ selector: { agent: [agent] }, reason: 'leaves', by: 'oncall', kind: 'offboarding' }, told)
    const report = async () => (await call('GET', `/v1/agents/${agent}/offboard`, oncall)).body
    expect(await report()).toMatchObject({ state: 'interrupted', pending: [{ id: lease.id, state: 'active' }] })
    await act(agent, 'offboard')
    await waitFor('it to be finished', async () => (await report()).state === 'finished')
    expect((await stateOf(lease.id)).state).toBe('revoked')
  })

  it('is in the trail: the freeze with what it was for, and the revocation with how it ended', async () => {
    const { freeze, revocation } = (await act('copy-copy-told', 'offboard')).body
    expect(revocation.id.slice('revocation_'.length)).toBe(freeze.id.slice('freeze_'.length))
    const told = await waitFor('the revocation to finish', async () => {
      const all = await eventsOf(test, redis.client)
      return all.some((event) => event.type === 'revocation.finished' && event.detail.revocation === revocation.id) ? all : undefined
    })
    const set = told.find((event) => event.type === 'freeze.set' && event.detail.selector?.agent?.[0] === 'copy-copy-told')
    expect(set).toMatchObject({ principal: { id: 'oncall' }, detail: { kind: 'offboarding', reason: 'drill' } })
  })
})
