import { readFile, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../src/config.js'
import { startTestBroker, type TestBroker } from './support/broker.js'
import { startRedis, type TestRedis } from './support/redis.js'

let redis: TestRedis
let test: TestBroker
beforeEach(async () => {
  redis = await startRedis()
  test = await startTestBroker({ redisSocket: redis.socketPath })
})
afterEach(async () => {
  await test?.stop()
  await redis?.stop()
})

/** Reloads the configuration with one text in place of another. */
async function reload(from: string | RegExp, to: string): Promise<void> {
  const text = await readFile(test.configPath, 'utf8')
  expect(text.replace(from, to)).not.toBe(text)
  await writeFile(test.configPath, text.replace(from, to))
  try {
    await test.broker.reload(await loadConfig(test.configPath, test.env))
  } finally {
    await writeFile(test.configPath, text)
  }
}
const obtain = async (task: string, role = 'api-token') => test.call('POST', '/v1/leases', await test.token('triage'), { task, role })

describe('a reload', () => {
  it('takes effect for the next request', async () => {
    const task = await test.openTask()
    const ttl = async () => {
      const { body } = await obtain(task)
      return Date.parse(body.lease.expires_at) - Date.parse(body.lease.issued_at)
    }
    expect(await ttl()).toBe(300_000)
    await reload(
      'api-token: {provider: tokens, access: read, sensitivity: internal, max_ttl: 5m',
      'api-token: {provider: tokens, access: read, sensitivity: internal, max_ttl: 1m',
    )
    expect(await ttl()).toBe(60_000)
  })

  it('takes a role away from who has not got it yet, and an agent out of the house', async () => {
    const task = await test.openTask()
    await reload(/ {2}api-signed: .*\n/, '')
    expect((await obtain(task, 'api-signed')).body.code).toBe('outside_envelope')
    await reload(/ {2}- \{id: triage, .*\n/, '')
    expect((await obtain(task)).status).toBe(401)
  })

  it.each([
    [
      'a provider that unsettled leases need',
      / {2}tokens: .*\n([\s\S]*)provider: tokens/,
      '$1provider: signed',
      /providers\.tokens: unsettled leases still need it/,
    ],
    ['a role that unsettled leases need', / {2}api-token: .*\n/, '', /roles\.api-token: unsettled leases still need it/],
    ['the address', 'address: 127.0.0.1:0}, metrics', 'address: 127.0.0.1:1}, metrics', /listeners: only certificates/],
    ['the instance', 'instance: test', 'instance: other', /instance: changes only with a restart/],
  ])('is refused as a whole when it would change %s', async (_what, from, to, why) => {
    const task = await test.openTask()
    expect((await obtain(task)).status).toBe(201)
    // The agent's envelope names the role too; without it the file would be refused for that.
    const before = test.broker.house()
    const text = await readFile(test.configPath, 'utf8')
    await writeFile(test.configPath, text.replace(/, open_tasks: \{envelope: \[.*?\]\}/g, ''))
    await expect(reload(from, to)).rejects.toThrow(why)
    expect(test.broker.house()).toBe(before)
    expect((await obtain(task)).status).toBe(201)
  })

  it('is refused as a whole when a policy of it is wrong, and the old policies decide on', async () => {
    const bad = `${test.folder}/bad.cedar`
    await writeFile(bad, '@id("typo") permit (principal is Agent, action == Action::"raed", resource);')
    const task = await test.openTask()
    await expect(reload('files: [', `files: ["${bad}", `)).rejects.toThrow(/policies cannot be used/)
    expect((await obtain(task)).status).toBe(201)
  })

  it('may drop a role once nothing needs it any more', async () => {
    const task = await test.openTask()
    const { body } = await obtain(task, 'api-token')
    await test.call('DELETE', `/v1/leases/${body.lease.id}?wait=5`, await test.token('triage'))
    const text = await readFile(test.configPath, 'utf8')
    await writeFile(test.configPath, text.replace(/, open_tasks: \{envelope: \[.*?\]\}/g, ''))
    await reload(/ {2}api-token: .*\n/, '')
    expect((await obtain(task, 'api-token')).body.code).toBe('outside_envelope')
  })
})
