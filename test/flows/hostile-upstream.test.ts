import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type BrokerProcess, type Prepared, prepare, startBrokerProcess } from '../support/broker.js'
import { type StallingServer, startResettingDatabase, startStallingServer } from '../support/faulty-upstream.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** Upstreams whose answers make their drivers throw where nobody can catch it; a broker of its own process, which is to live on. */
const UNKNOWN_AUTHENTICATION = Buffer.from('5200000008ffffffff'.replace('ffffffff', '09090909'), 'hex')
const NOBODY_ASKED = '$-1\r\n'.repeat(5)
let redis: TestRedis
let servers: StallingServer[]
let prepared: Prepared
let broker: BrokerProcess

beforeAll(async () => {
  ;[redis, ...servers] = await Promise.all([
    startRedis(),
    startStallingServer(UNKNOWN_AUTHENTICATION),
    startStallingServer(NOBODY_ASKED),
    startResettingDatabase(),
  ])
  const [database, cache, resetting] = servers.map(({ port }) => port)
  prepared = await prepare({
    redisSocket: redis.socketPath,
    providers: `  database: {type: postgres, url: env:DATABASE_URL, timeout: 500ms}
  cache: {type: redis, url: env:CACHE_URL, timeout: 500ms}
  resetting: {type: postgres, url: env:RESETTING_URL, timeout: 500ms}`,
    roles: `  database-read: {provider: database, access: read, sensitivity: internal, max_ttl: 5m, params: {member_of: [reporting_ro]}}
  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 5m, params: {keys: ["reports:*"], commands: ["+@read"]}}
  resetting-read: {provider: resetting, access: read, sensitivity: internal, max_ttl: 5m, params: {member_of: [reporting_ro]}}`,
    env: {
      DATABASE_URL: `postgres://mayfly:x@127.0.0.1:${database}/d`,
      CACHE_URL: `redis://mayfly:x@127.0.0.1:${cache}/0`,
      RESETTING_URL: `postgres://mayfly:x@127.0.0.1:${resetting}/d`,
    },
  })
  broker = await startBrokerProcess(prepared)
}, 60_000)
afterAll(async () => {
  await broker?.kill()
  await Promise.all([redis?.stop(), ...(servers ?? []).map((server) => server.close())])
  if (prepared) rmSync(prepared.folder, { recursive: true, force: true })
})

describe('an upstream that answers what makes no sense, or breaks off', () => {
  it('fails its own mints and revokes, and ends nothing else', async () => {
    const agent = await prepared.token('triage')
    const roles = ['database-read', 'cache-read', 'resetting-read', 'api-token']
    const task = await broker.openTask({ envelope: roles.map((role) => ({ role })) })
    for (const role of ['database-read', 'cache-read', 'resetting-read']) {
      const { status } = await broker.call('POST', '/v1/leases', agent, { task, role })
      expect({ role, failed: status >= 500 }).toEqual({ role, failed: true })
    }
    // The revokes of what may have been made go on, and throw as well.
    await waitFor('several revokes to have failed', async () => {
      const { body } = await broker.call('GET', `/v1/tasks/${task}`, await prepared.token('oncall'))
      return body.leases.length === 3 && servers.every((server) => server.connections() > 3)
    })
    expect((await broker.call('POST', '/v1/leases', agent, { task, role: 'api-token' })).status).toBe(201)
    expect(broker.output()).toContain('an upstream gave an answer that its driver cannot read')
  }, 60_000)
})
