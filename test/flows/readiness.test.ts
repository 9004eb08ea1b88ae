import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Finding, ready } from '../../src/doctor/index.js'
import { rehearse } from '../../src/rehearse.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { eventsOf } from '../support/events.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'

let postgres: TestPostgres
let redis: TestRedis
let test: TestBroker

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  await postgres.query('create role reporting_ro nologin')
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    roles: `  secret-signed: {provider: signed, access: read, sensitivity: restricted, labels: [irrevocable-accepted], max_ttl: 5m, params: {audience: "https://reports.example"}}
  api-write: {provider: tokens, access: write, sensitivity: restricted, max_ttl: 5m, params: {audience: "https://reports.example"}}`,
  })
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
})

const look = (id: string) => ready(test.configPath, test.env, id)
const about = (findings: readonly Finding[], area: Finding['area'], text: string) =>
  findings.find((one) => one.area === area && one.what.includes(text))
const asked = async (id: string, role: string) => {
  const { found } = await look(id)
  if (!found) throw new Error('the agent was not found')
  return { ...found, one: found.obtainable.filter((each) => each.role.name === role) }
}

describe('whether an agent is ready', () => {
  it('tells owner, autonomy, and each role that it could obtain, with what is left after a revoke', async () => {
    const { findings } = await look('triage')
    expect(about(findings, 'agent', 'owner sre@example.com, supervised')).toMatchObject({ level: 'ok' })
    expect(about(findings, 'roles', 'warehouse-read (read, confidential)')).toMatchObject({
      level: 'ok',
      what: expect.stringContaining('revokes immediate'),
    })
    expect(about(findings, 'roles', 'api-signed')).toMatchObject({ level: 'warn', what: expect.stringContaining('cannot be taken back') })
    expect(about(findings, 'roles', 'api-write')).toMatchObject({ what: expect.stringContaining("with a human's consent") })
    expect(about(findings, 'roles', 'secret-signed')).toMatchObject({ what: expect.stringContaining("with a human's consent") })
    expect(about(findings, 'providers', 'warehouse (postgres)')).toMatchObject({ level: 'ok' })
    expect(about(findings, 'limits', 'audit.sinks.local can be written')).toMatchObject({ level: 'ok' })
    expect(findings.filter(({ level }) => level === 'fail')).toEqual([])
  })

  it('fails for who is not configured, and takes an id that a rule makes', async () => {
    expect(await look('nobody')).toMatchObject({ findings: [{ level: 'fail', mend: expect.stringContaining('owner') }] })
    expect(about((await look('copy-copy-1')).findings, 'agent', 'copy-copy-1: owner')).toMatchObject({ level: 'ok' })
  })

  it('fails where a provider refuses the broker', async () => {
    await postgres.query('revoke reporting_ro from mayfly_broker')
    const { findings } = await look('triage')
    expect(about(findings, 'providers', 'warehouse')).toMatchObject({ level: 'fail', mend: expect.any(String) })
    await postgres.query('grant reporting_ro to mayfly_broker with admin true, inherit false, set false')
  })

  it('changes nothing', async () => {
    const before = await redis.client.dbsize()
    await look('triage')
    expect(await redis.client.dbsize()).toBe(before)
    expect(await postgres.query("select 1 from pg_roles where rolname like 'mf-test-%'")).toEqual([])
  })
})

describe('a rehearsal', () => {
  it('mints a real credential, sees it revoked upstream, and is in the trail', async () => {
    const { config, agent, one } = await asked('triage', 'warehouse-read')
    expect(await rehearse(config, agent, one)).toMatchObject([
      { level: 'ok', what: expect.stringMatching(/warehouse-read: minted, and revoked \d+ ms/) },
    ])
    expect(await postgres.query("select 1 from pg_roles where rolname like 'mf-test-%'")).toEqual([])
    const told = await eventsOf(test, redis.client)
    const opened = told.find((event) => event.type === 'task.opened' && event.detail?.rehearsal === true)
    expect(told.filter((event) => event.task === opened?.task).map(({ type }) => type)).toEqual(
      expect.arrayContaining(['lease.issued', 'task.ended', 'lease.closing', 'lease.revoked']),
    )
  })

  it('tells of what cannot be taken back, and mints nothing that takes a human', async () => {
    const { config, agent, one, obtainable } = await asked('triage', 'api-signed')
    expect(await rehearse(config, agent, one)).toMatchObject([{ level: 'warn', what: expect.stringContaining('not taken back') }])
    expect(obtainable.map(({ role }) => role.name)).not.toContain('api-write')
  })

  it('of a suspended agent fails', async () => {
    const oncall = await test.token('oncall')
    await test.call('POST', '/v1/agents/triage/suspend', oncall, { reason: 'drill' })
    const { config, agent, one } = await asked('triage', 'warehouse-read')
    expect(await rehearse(config, agent, one)).toMatchObject([{ level: 'fail', what: expect.stringContaining('frozen') }])
    await test.call('POST', '/v1/agents/triage/resume', oncall, { reason: 'over' })
  })
})
