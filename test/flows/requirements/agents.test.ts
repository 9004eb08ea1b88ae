import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Config, loadConfig } from '../../../src/config.js'
import { type RedisUpstream, startRedisUpstream } from '../../providers/redis-upstream.js'
import { waitFor } from '../../support/wait.js'
import { connected, query, type Scene, startScene } from './support.js'

const AUTONOMIES = ['scripted', 'supervised', 'autonomous'] as const
/** Leases of one agent, so many that only a limit keeps them from being live at once. */
const ASKED = 8
const agent = (id: string, more: string) => `  - {id: ${id}, match: {issuer: test, sub: ${id}}, ${more}}\n`
const LOGIN = 'provider: warehouse, max_ttl: 2h, params: {member_of: [reporting_ro]}'

let scene: Scene
let cache: RedisUpstream
let oncall: string
beforeAll(async () => {
  cache = await startRedisUpstream()
  scene = await startScene(async (postgres) => ({
    agents: [
      ...AUTONOMIES.map((autonomy) => agent(`${autonomy}-one`, `owner: sre@example.com, autonomy: ${autonomy}, team: platform`)),
      agent('leaver', 'owner: sre@example.com, autonomy: scripted, team: platform'),
      agent('orphaned', 'owner: gone@example.com, autonomy: supervised, team: platform'),
      agent('assistant', 'owner: sre@example.com, autonomy: autonomous, labels: [low-risk]'),
    ].join(''),
    providers: '  archive: {type: postgres, url: env:ARCHIVE_URL, timeout: 2s}\n  cache: {type: redis, url: env:CACHE_URL}',
    roles: [
      `  long-read: {access: read, sensitivity: internal, ${LOGIN}}`,
      '  long-write: {provider: warehouse, access: write, sensitivity: internal, max_ttl: 2h, params: {member_of: [reporting_rw]}}',
      `  long-admin: {access: escalate, sensitivity: internal, ${LOGIN}}`,
      '  archive-read: {provider: archive, access: read, sensitivity: internal, max_ttl: 15m, params: {member_of: [reporting_ro]}}',
      '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 5m, params: {keys: ["reports:*"], commands: ["+@read"]}}',
    ].join('\n'),
    env: { CACHE_URL: cache.url, ARCHIVE_URL: await postgres.createBroker(['reporting_ro'], { name: 'archive_broker' }) },
  }))
  oncall = await scene.token('oncall')
}, 60_000)
afterAll(async () => {
  await scene?.stop()
  await cache?.redis.stop()
})

const openTask = (agents: readonly string[], roles: readonly string[], more: object = {}) =>
  scene.openTask({
    assignees: agents.map((agent) => ({ agent })),
    envelope: roles.map((role) => ({ role })),
    deadline_at: new Date(Date.now() + 4 * 3_600_000).toISOString(),
    ...more,
  })
const secondsOf = ({ lease }: { lease: { issued_at: string; expires_at: string } }) =>
  (Date.parse(lease.expires_at) - Date.parse(lease.issued_at)) / 1000
/** Loads the configuration as it would be if it said something else. */
async function loaded(change: (yaml: string) => string): Promise<Config> {
  const path = join(scene.test.folder, 'changed.yaml')
  await writeFile(path, change(await readFile(scene.test.configPath, 'utf8')))
  return loadConfig(path, scene.test.env)
}

describe('requirement 01: classify workflows: scripted ones stay simple, reasoning ones get another control plane', () => {
  it('no level -> does not load, and neither does one that nobody knows', async () => {
    const line = 'id: autonomous-one, match: {issuer: test, sub: autonomous-one}, owner: sre@example.com, autonomy: autonomous,'
    expect((await loaded((yaml) => yaml)).identity.agents).toHaveLength(9)
    for (const instead of ['', ' autonomy: reckless,'])
      await expect(loaded((yaml) => yaml.replace(line, line.replace(' autonomy: autonomous,', instead)))).rejects.toThrow(/agents\.\d+\.autonomy/)
  })

  it('autonomous is capped below scripted: how long, how much at once, how far, and what at all', async () => {
    const of = async (autonomy: (typeof AUTONOMIES)[number]) => {
      const sub = `${autonomy}-one`
      const task = await openTask([sub], ['long-read', 'long-write', 'long-admin'])
      const read = await scene.issued(task, 'long-read', {}, sub)
      const [until] = await scene.postgres.query('select rolvaliduntil as at from pg_roles where rolname = $1', [read.credential.username])
      const write = await scene.issued(task, 'long-write', {}, sub)
      let atOnce = 2
      while (atOnce < ASKED && (await scene.obtain(task, 'long-write', {}, sub)).status === 201) atOnce++
      const admin = await scene.obtain(task, 'long-admin', {}, sub)
      const handOn = async (parent: string, from: string, to: string) =>
        scene.call('POST', `/v1/tasks/${parent}/children`, await scene.token(from), { assignees: [{ agent: to }], envelope: [{ role: 'long-read' }] })
      const child = await handOn(task, sub, 'leaver')
      await scene.end(task)
      return {
        read: secondsOf(read),
        upstream: Math.round((Number(until?.at) - Date.parse(read.lease.issued_at)) / 1000),
        write: secondsOf(write),
        at_once: atOnce,
        admin: admin.body.code ?? admin.status,
        hands_on: child.status,
      }
    }
    const asks = 202
    expect(await of('scripted')).toEqual({ read: 3_600, upstream: 3_600, write: 1_800, at_once: ASKED, admin: asks, hands_on: 403 })
    expect(await of('supervised')).toEqual({ read: 1_800, upstream: 1_800, write: 900, at_once: 5, admin: asks, hands_on: 201 })
    expect(await of('autonomous')).toEqual({ read: 900, upstream: 900, write: 300, at_once: 2, admin: 'denied', hands_on: 201 })
    await scene.nothingUpstream()
  })
})

describe('requirement 02: an owner, and documented acceptable autonomy', () => {
  it('ownerless agent refused', async () => {
    for (const instead of ['', "owner: '', "])
      await expect(loaded((yaml) => yaml.replace('owner: gone@example.com, ', instead))).rejects.toThrow(/agents\.\d+\.owner/)
  })

  it('both stand with the agent, and the owner in every event of it', async () => {
    const task = await openTask(['orphaned'], ['long-read'])
    const { lease } = await scene.issued(task, 'long-read', {}, 'orphaned')
    await scene.obtain(task, 'long-write', {}, 'orphaned')
    await scene.call('DELETE', `/v1/leases/${lease.id}?wait=10`, await scene.token('orphaned'))
    const { body } = await scene.call('GET', '/v1/agents/orphaned', oncall)
    expect(body.agent).toMatchObject({ owner: 'gone@example.com', autonomy: 'supervised' })
    const told = await scene.told((event) => event.principal?.id === 'orphaned')
    expect(told.map(({ type }) => type)).toEqual(expect.arrayContaining(['lease.reserved', 'lease.issued', 'lease.denied', 'lease.closing']))
    expect(told.filter(({ principal }) => principal.owner !== 'gone@example.com')).toEqual([])
    await scene.end(task)
  })

  it('disabled owner -> deny', async () => {
    const [task, other] = [await openTask(['orphaned'], ['long-read']), await openTask(['supervised-one'], ['long-read'])]
    const child = await scene.call('POST', `/v1/tasks/${task}/children`, await scene.token('orphaned'), {
      assignees: [{ agent: 'leaver' }],
      envelope: [{ role: 'long-read' }],
    })
    const held = [await scene.issued(task, 'long-read', {}, 'orphaned'), await scene.issued(child.body.task.id, 'long-read', {}, 'leaver')]
    const spared = await scene.issued(other, 'long-read', {}, 'supervised-one')
    const left = await scene.call('POST', '/v1/emergency/revoke', oncall, { selector: { owner: 'gone@example.com' }, reason: 'has left' })
    expect(left.status).toBe(202)
    expect((await scene.obtain(task, 'long-read', {}, 'orphaned')).body.code).toBe('frozen')
    // What the agent handed on goes with it.
    expect((await scene.obtain(child.body.task.id, 'long-read', {}, 'leaver')).body.code).toBe('frozen')
    await waitFor('only what is not theirs to be left', async () => (await scene.logins()).length === 1)
    for (const { credential } of held) await expect(query(credential.url, 'select 1')).rejects.toThrow()
    expect(await query(spared.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    await scene.call('POST', `/v1/freezes/${left.body.freeze.id}/thaw`, oncall, { reason: 'somebody else answers for it' })
    expect((await scene.obtain(task, 'long-read', {}, 'orphaned')).status).toBe(201)
    await Promise.all([scene.end(task), scene.end(other)])
  })
})

describe('requirement 03: lifecycle and offboarding across every application boundary', () => {
  const boundaries = ['long-read', 'archive-read', 'cache-read']
  const act = (verb: string) => scene.call('POST', `/v1/agents/leaver/${verb}`, oncall, { reason: 'requirement 03' })
  const report = async () => (await scene.call('GET', '/v1/agents/leaver/offboard', oncall)).body

  it('suspend, resume', async () => {
    const task = await openTask(['leaver'], boundaries)
    const { credential } = await scene.issued(task, 'long-read', {}, 'leaver')
    await scene.issued(task, 'cache-read', {}, 'leaver')
    const { isCut } = await connected(credential.url)
    await act('suspend')
    expect((await scene.obtain(task, 'long-read', {}, 'leaver')).body.code).toBe('frozen')
    await waitFor('the session to be cut', isCut)
    await waitFor('nothing at the other boundary', async () => (await cache.users()).length === 0)
    expect((await act('resume')).body).toMatchObject({ standing: 'active' })
    expect((await scene.obtain(task, 'long-read', {}, 'leaver')).status).toBe(201)
    await scene.end(task)
  })

  it('offboard: leases at three providers, one failing: two revoked, one pending and retried', async () => {
    const task = await openTask(['leaver'], boundaries)
    const leases = []
    for (const role of boundaries) leases.push(await scene.issued(task, role, { ttl: 300 }, 'leaver'))
    const [warehouse, archive, keys] = leases
    await scene.postgres.query('alter role archive_broker nologin')
    await scene.postgres.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'archive_broker'")

    expect((await act('offboard')).body).toMatchObject({ standing: 'offboarded', freeze: { kind: 'offboarding' } })
    const partial = await waitFor('two of three to be revoked, and the third to have failed', async () => {
      const seen = await report()
      return seen.revocation?.revoked === 2 && seen.revocation.failed === 1 ? seen : undefined
    })
    expect(partial).toMatchObject({ state: 'running', pending: [{ id: archive.lease.id, state: 'closing', last_error: expect.any(String) }] })
    expect(partial.revocation.providers).toMatchObject([
      { provider: 'archive', matched: 1, revoked: 0, pending: 1, failed: 1, residual_until: expect.any(String) },
      { provider: 'cache', matched: 1, revoked: 1, pending: 0 },
      { provider: 'warehouse', matched: 1, revoked: 1, pending: 0 },
    ])
    expect(await scene.logins()).toEqual([archive.credential.username])
    expect(await cache.users()).toEqual([])
    await expect(query(warehouse.credential.url, 'select 1')).rejects.toThrow()
    await expect(cache.connect(keys.credential)).rejects.toThrow()

    await scene.postgres.query('alter role archive_broker login')
    const done = await waitFor(
      'it to be retried until it is gone',
      async () => ((await report()).state === 'finished' ? report() : undefined),
      60_000,
    )
    expect(done).toMatchObject({ pending: [], revocation: { matched: 3, revoked: 3, pending: 0, failed: 0 } })
    await expect(query(archive.credential.url, 'select 1')).rejects.toThrow()
    expect(await scene.logins()).toEqual([])
    // For good: nothing is issued, and resuming is no way back.
    expect((await scene.obtain(task, 'cache-read', {}, 'leaver')).body.code).toBe('frozen')
    expect((await act('resume')).status).toBe(409)
  }, 90_000)
})

describe('requirement 17: low-risk agents get scoped read', () => {
  it('read-only preset: write -> deny', async () => {
    const task = await openTask(['assistant'], ['long-read', 'long-write', 'long-admin', 'warehouse-read'])
    const { lease, credential } = await scene.issued(task, 'long-read', {}, 'assistant')
    expect(secondsOf({ lease })).toBe(900)
    expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    await expect(query(credential.url, 'update orders set id = 2')).rejects.toThrow('permission denied')
    await expect(query(credential.url, 'create table mine (id int)')).rejects.toThrow('permission denied')
    for (const role of ['long-write', 'long-admin'])
      expect((await scene.obtain(task, role, {}, 'assistant')).body).toMatchObject({
        status: 403,
        code: 'denied',
        policies: expect.arrayContaining(['low-risk-reads-only']),
      })
    // The preset grants no more than internal data, and the agent is of no team that is granted more.
    expect((await scene.obtain(task, 'warehouse-read', {}, 'assistant')).body).toMatchObject({ status: 403, code: 'denied', policies: [] })
    expect(await scene.logins()).toEqual([credential.username])
    await scene.end(task)
  })
})
