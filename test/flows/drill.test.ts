import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startDrills } from '../../src/drill.js'
import { waitFor } from '../support/wait.js'
import { type Scene, startScene } from './requirements/support.js'

let scene: Scene
beforeAll(async () => {
  scene = await startScene({
    more: `drills:
  - {role: warehouse-read, agent: triage, intent: incident-triage, environment: production, every: 1h}
  - {role: api-signed, agent: triage, intent: incident-triage, environment: production, every: 1h}
  - {role: warehouse-write, agent: triage, intent: incident-triage, environment: production, every: 1h}`,
  })
}, 60_000)
afterAll(() => scene?.stop())

const drill = async (body: object, who = 'oncall') => scene.call('POST', '/v1/drills', await scene.token(who), body)

describe('a drill', () => {
  it('mints a login, ends its task and sees the upstream refuse it', async () => {
    const { status, body } = await drill({ provider: 'warehouse', role: 'warehouse-read' })
    expect(status).toBe(200)
    expect(body.drills).toMatchObject([{ role: 'warehouse-read', provider: 'warehouse', agent: 'triage', outcome: 'dead', probed: true }])
    const [{ lease, confirmed_ms: confirmed, dead_ms: dead }] = body.drills
    // Which of the two is seen first is chance: the ledger is told right after the upstream has done it.
    expect([dead, confirmed]).toEqual([expect.any(Number), expect.any(Number)])
    expect(await scene.leaseOf(lease)).toMatchObject({ state: 'revoked', cause: 'task_completed' })
    expect(await scene.logins()).toEqual([])
    const told = await scene.told((event) => event.type === 'drill.finished' && event.lease === lease)
    expect(told).toMatchObject([{ provider: 'warehouse', detail: { outcome: 'dead', probed: true } }])
    const metrics = await scene.test.broker.house().metrics.registry.metrics()
    expect(metrics).toMatch(/mayfly_time_to_dead_seconds_count\{provider="warehouse"\} [12]/)
    expect(metrics).toMatch(/mayfly_drills_total\{provider="warehouse",outcome="dead"\} [12]/)
  })

  it('says of a credential that cannot be taken back that it only expires, and of one that takes a human that there was none', async () => {
    const { body } = await drill({})
    const of = (role: string) => body.drills.find((one: { role: string }) => one.role === role)
    expect(of('api-signed')).toMatchObject({ outcome: 'expires', probed: false })
    expect(of('api-signed').dead_ms).toBeUndefined()
    expect(of('warehouse-write')).toMatchObject({ outcome: 'failed', detail: expect.stringContaining('approval_required') })
  })

  it('tells that nothing could be minted, and leaves nothing upstream', async () => {
    await scene.postgres.query('revoke reporting_ro from mayfly_broker')
    const { body } = await drill({ role: 'warehouse-read' })
    expect(body.drills).toMatchObject([{ outcome: 'failed', detail: expect.stringContaining('provider_failed') }])
    await scene.postgres.query('grant reporting_ro to mayfly_broker with admin option')
    await scene.nothingUpstream()
  })

  it('is for operators whom policy lets, and names what is configured', async () => {
    expect((await drill({}, 'triage')).status).toBe(403)
    expect((await drill({}, 'flows')).status).toBe(403)
    expect((await drill({ provider: 'nowhere' })).status).toBe(404)
  })

  it('runs by itself, on one replica each time', async () => {
    const house = scene.test.broker.house
    const ran = async () => (await scene.told((event) => event.type === 'drill.finished')).filter(({ role }) => role === 'warehouse-read').length
    const before = await ran()
    // The broker itself ran it at its start: the next time has come.
    const held: string[] = []
    for (const key of await scene.redis.client.keys('mf:*register*'))
      if ((await scene.redis.client.hkeys(key)).includes('u:warehouse-read triage')) held.push(key)
    expect(held).toHaveLength(1)
    await scene.redis.client.del(held)
    const timers = [startDrills(house, { tickMs: 50 }), startDrills(house, { tickMs: 50 })]
    await waitFor('a drill that ran by itself', async () => (await ran()) > before)
    await Promise.all(timers.map((timer) => timer.stop()))
    expect(await ran()).toBe(before + 1)
  })
})
