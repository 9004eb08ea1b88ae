import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { mayfly } from './mayfly.js'

let redis: TestRedis
let test: TestBroker
let env: Record<string, string>
beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({ redisSocket: redis.socketPath })
  const tokenFile = join(test.folder, 'oncall.token')
  writeFileSync(tokenFile, await test.token('oncall'))
  env = { MAYFLY_URL: test.url, MAYFLY_TOKEN_FILE: tokenFile }
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})
const agents = async (...args: string[]) => mayfly(['agents', ...args], env)

describe('mayfly agents', () => {
  it('lists, shows, and tells what one can reach', async () => {
    const task = await test.openTask()
    const listed = await agents()
    expect(listed.code).toBe(0)
    expect(JSON.parse(listed.out).agents.map(({ id }: { id: string }) => id)).toEqual(['triage', 'reporter', 'copy-{sub}'])
    expect(JSON.parse((await agents('show', 'triage')).out).agent).toMatchObject({ id: 'triage', standing: 'active', tasks: 1 })
    expect(JSON.parse((await agents('reach', 'triage')).out).own[0]).toMatchObject({ task, role: 'api-token' })
    expect(await agents('show', 'nobody')).toMatchObject({ code: 1, out: '' })
    const { MAYFLY_URL: url = '', ...rest } = env
    expect((await mayfly(['agents', 'show', 'triage', '--url', url], rest)).code).toBe(0)
  }, 60_000)

  it('ready tells what is wrong before an agent goes to work, and rehearses when it is told to', async () => {
    const ready = (id: string, ...more: string[]) => mayfly(['agents', 'ready', id, '--config', test.configPath, '--json', ...more], test.env)
    const copy = await ready('reporter', '--rehearse', '--role', 'api-token')
    expect(JSON.parse(copy.out).findings.filter(({ level }: { level: string }) => level === 'fail')).toEqual([])
    expect(copy).toMatchObject({ code: 0, err: expect.stringContaining('minting and revoking a real credential of api-token') })
    expect(JSON.parse(copy.out)).toMatchObject({ agent: 'reporter', ready: true })
    expect(JSON.parse(copy.out).findings.at(-1)).toMatchObject({ area: 'rehearsal', level: 'ok', what: expect.stringContaining('revoked') })
    expect(JSON.parse((await ready('copy-copy-1')).out)).toMatchObject({
      ready: false,
      findings: expect.arrayContaining([expect.objectContaining({ level: 'fail' })]),
    })
    expect(await ready('nobody')).toMatchObject({ code: 1 })
    expect((await ready('triage', '--role', 'api-token')).code).toBe(2)
  }, 60_000)

  it('suspends and resumes, and fails while something else covers the agent', async () => {
    expect((await agents('suspend', 'triage')).code).toBe(2)
    expect(JSON.parse((await agents('suspend', 'triage', '--reason', 'drill')).out)).toMatchObject({ standing: 'suspended' })
    await test.call('POST', '/v1/freezes', await test.token('oncall'), { selector: { agent: 'triage' }, reason: 'more' })
    const covered = await agents('resume', 'triage', '--reason', 'over')
    expect(covered).toMatchObject({ code: 1, err: expect.stringContaining('covers it still: agent triage') })
  }, 60_000)

  it('tells how one behaves, and what it could touch at a time that has passed', async () => {
    expect((await agents('risk', 'copy-x', '--floor', '70')).code).toBe(2)
    expect((await agents('risk', 'copy-x', '--floor', '101', '--reason', 'drill')).code).toBe(2)
    const raised = await agents('risk', 'copy-x', '--floor', '70', '--for', '1h', '--reason', 'drill')
    expect(JSON.parse(raised.out)).toMatchObject({ agent: 'copy-x', risk: { level: 70, floor: { value: 70, reason: 'drill' } } })
    expect(JSON.parse((await agents('risk', 'copy-x', '--floor', '0', '--reset', '--reason', 'over')).out).risk).toMatchObject({ value: 0 })
    expect(JSON.parse((await agents('reach', 'triage', '--at', '1s')).out)).toMatchObject({ agent: 'triage', source: 'audit' })
    expect((await agents('reach', 'triage', '--at', 'yesterday')).code).toBe(2)
  }, 60_000)

  it('offboards and reports', async () => {
    expect((await agents('offboard', 'reporter')).code).toBe(2)
    const done = await agents('offboard', 'reporter', '--reason', 'drill', '--wait')
    expect(done).toMatchObject({ code: 0, err: expect.stringContaining('reporter is offboarded by freeze_') })
    expect(JSON.parse(done.out)).toMatchObject({ agent: 'reporter', state: 'finished', pending: [] })
    expect(JSON.parse((await agents('offboard', 'reporter', '--report')).out)).toMatchObject({ agent: 'reporter', state: 'finished' })
  }, 60_000)
})
