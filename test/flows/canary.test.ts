import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { type BrokerProcess, type Prepared, prepare, startBrokerProcess } from '../support/broker.js'
import { find, formsOf } from '../support/canary.js'
import { newPeople, type TestPeople } from '../support/people.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let postgres: TestPostgres
let redis: TestRedis
let upstream: RedisUpstream
let prepared: Prepared
let broker: BrokerProcess
let people: TestPeople

beforeAll(async () => {
  ;[postgres, redis, upstream] = await Promise.all([
    startPostgres(),
    startRedis(['appendonly yes', 'appendfsync always', 'slowlog-log-slower-than 0', 'slowlog-max-len 100000']),
    startRedisUpstream(),
  ])
  people = await newPeople()
  prepared = await prepare({
    issuers: `  sso: {jwks: env:SSO, issuer: "${people.issuer}", audience: mayfly, typ: [at+jwt]}`,
    more: 'humans: [{id: "{sub}", match: {issuer: sso, person: "yes"}}]',
    redisSocket: redis.socketPath,
    postgresUrl: await postgres.createBroker(['reporting_ro']),
    providers: '  cache: {type: redis, url: env:CACHE_URL}',
    roles: '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 5m, params: {keys: ["reports:*"], commands: ["+@read"]}}',
    env: { CACHE_URL: upstream.url, SSO: people.jwks },
  })
  broker = await startBrokerProcess(prepared)
}, 60_000)
afterAll(async () => {
  await broker?.stop()
  await Promise.all([postgres?.stop(), redis?.stop(), upstream?.redis.stop()])
  if (prepared) rmSync(prepared.folder, { recursive: true, force: true })
})

/** Everything that is kept, told or visible from outside. */
async function everyPlace(): Promise<Record<string, string>> {
  const pids = [broker.pid, redis.pid(), upstream.redis.pid(), ...Object.values(await postgresPids())]
  const slow = (await redis.client.call('SLOWLOG', 'GET', '100000')) as unknown[]
  return {
    'the log': broker.output(),
    'the events': readFileSync(join(prepared.folder, 'audit/events.jsonl'), 'utf8'),
    'the metrics': await (await fetch(`${broker.metricsUrl}/metrics`)).text(),
    'the append-only file': filesBelow(dirname(redis.socketPath))
      .map((path) => readFileSync(path, 'latin1'))
      .join('\n'),
    'the slow log': JSON.stringify(slow),
    "PostgreSQL's log": readFileSync(postgres.logPath, 'utf8'),
    'process environments': pids.map((pid) => readFileSync(`/proc/${pid}/environ`, 'latin1')).join('\n'),
    'command lines': pids.map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1')).join('\n'),
  }
}

async function postgresPids(): Promise<number[]> {
  return (await postgres.query('select pid from pg_stat_activity where pid is not null')).map((row) => Number(row.pid))
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

describe('a secret', () => {
  it('that was issued, used, refused or half-made stands nowhere', async () => {
    const agent = await prepared.token('triage')
    const secrets: Record<string, string> = { 'workload token': agent, 'its signature': agent.split('.')[2] ?? '' }
    const task = await broker.openTask({ envelope: ['warehouse-read', 'api-token', 'api-signed', 'cache-read'].map((role) => ({ role })) })
    for (const role of ['warehouse-read', 'api-token', 'api-signed', 'cache-read']) {
      const { status, body } = await broker.call('POST', '/v1/leases', agent, { task, role, reason: 'a reason' })
      expect(status).toBe(201)
      const secret = String(body.credential.password ?? body.credential.token)
      expect(secret.length).toBeGreaterThan(16)
      secrets[role] = secret
    }
    for (const [name, may_act] of Object.entries({ "a human's token": { sub: 'triage' }, "a human's token for another": { sub: 'reporter' } })) {
      const token = await people.token('ann', { aud: 'mayfly', person: 'yes', may_act })
      const { status } = await broker.call('POST', '/v1/leases', agent, { task, role: 'api-token', on_behalf_of: token })
      expect(status).toBe(may_act.sub === 'triage' ? 201 : 403)
      Object.assign(secrets, { [name]: token, [`the signature of ${name}`]: token.split('.')[2] })
    }
    // Error paths: a forged and an expired token, a token where none belongs, a body that is not JSON.
    const forged = `${agent.slice(0, -20)}${'A'.repeat(20)}`
    secrets['a forged token'] = forged
    await broker.call('POST', '/v1/leases', forged, { task, role: 'api-token' })
    await broker.call('GET', `/v1/leases/${forged}`, agent)
    await broker.call('POST', `/v1/leases?token=${agent}`, agent, { task, role: 'api-token', extra: secrets['api-token'] })
    await postgres.query('alter role reporting_ro nologin')
    await broker.call('POST', `/v1/tasks/${task}/complete?wait=10`, await prepared.token('flows'), { reason: 'done' })
    await waitFor('the end to be told', () => readFileSync(join(prepared.folder, 'audit/events.jsonl'), 'utf8').includes('"task.ended"'))

    expect(find(secrets, await everyPlace())).toEqual([])
  }, 60_000)

  it('that is leaked on purpose is found, in every place and form', async () => {
    const places = await everyPlace()
    const canary = 'can"ary/+ \u00e9 0123456789'
    for (const place of Object.keys(places)) {
      for (const [form, value] of Object.entries(formsOf(canary))) {
        const leaked = { ...places, [place]: `${places[place]} ${value} ` }
        expect(find({ canary }, leaked)).toContainEqual(`canary in ${place} (${form})`)
      }
    }
    // And the places are the real ones: what is really said there is read there.
    await redis.client.set('canary', 'planted-in-redis')
    await postgres.query("select 'planted-in-postgres'")
    const planted = await everyPlace()
    expect(find({ a: 'planted-in-redis' }, planted)).toEqual(expect.arrayContaining(['a in the append-only file (raw)', 'a in the slow log (raw)']))
    expect(find({ b: 'planted-in-postgres' }, planted)).toContain("b in PostgreSQL's log (raw)")
    expect(find({ c: prepared.env.SIGNING ?? '' }, planted)).toContain('c in process environments (raw)')
  }, 60_000)
})
