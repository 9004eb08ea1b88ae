import { afterEach, describe, expect, it } from '@jest/globals'
import { Command } from 'ioredis'
import { keys } from '../../../src/ledger/keys.js'
import { startTestBroker, type TestBroker } from '../../support/broker.js'
import { startCluster } from '../../support/redis-cluster.js'
import { startSentinel } from '../../support/redis-sentinel.js'
import type { RedisServer } from '../../support/redis-server.js'
import { waitFor } from '../../support/wait.js'

/** A whole broker, over HTTP, on Redis as users run it. */

let test: TestBroker | undefined
let stop: (() => Promise<void>) | undefined
afterEach(async () => {
  await test?.stop()
  await stop?.()
})

interface Place {
  readonly redis: string
  /** The primary that a task's partition is on. */
  primaryOf(task: string): Promise<RedisServer>
  stop(): Promise<void>
}
const PLACES: [string, () => Promise<Place>][] = [
  [
    'Sentinel',
    async () => {
      const sentinel = await startSentinel()
      return { redis: JSON.stringify({ sentinel: sentinel.address }), primaryOf: sentinel.primary, stop: sentinel.stop }
    },
  ],
  [
    'Cluster',
    async () => {
      const cluster = await startCluster()
      const primaryOf = (task: string) => cluster.holderOf(new Command('exists', [keys.prefix(Number(task.slice(5, 7)))]).getSlot())
      return { redis: JSON.stringify({ cluster: cluster.address }), primaryOf, stop: cluster.stop }
    },
  ],
]
const inFile = ({ redis }: Place) => redis.replace(/\{"host":"([^"]+)","port":(\d+)\}/g, '"$1:$2"')

async function brokerAt(place: Place): Promise<TestBroker> {
  stop = place.stop
  test = await startTestBroker({ redisSocket: '', redis: inFile(place), partitions: 8, wait: '{replicas: 1, timeout: 500ms}' })
  return test
}

describe.each(PLACES)('a broker on %s', (_, start) => {
  it('issues, ends, freezes, revokes and thaws', async () => {
    const { call, token, openTask } = await brokerAt(await start())
    const agent = await token('triage')
    const issue = (task: string) => call('POST', '/v1/leases', agent, { task, role: 'api-token' })
    const stateOf = async (lease: string) => (await call('GET', `/v1/leases/${lease}`, agent)).body.lease.state

    const task = await openTask()
    const { status, body } = await issue(task)
    expect(status).toBe(201)
    expect(await stateOf(body.lease.id)).toBe('active')
    expect(await call('POST', `/v1/tasks/${task}/complete`, await token('flows'), {})).toMatchObject({
      status: 200,
      body: { closing: 1, replicated: true },
    })
    await waitFor('the lease to be revoked', async () => (await stateOf(body.lease.id)) === 'revoked')

    const other = await openTask()
    expect((await issue(other)).status).toBe(201)
    const stopped = await call('POST', '/v1/emergency/revoke', await token('oncall'), { selector: { agent: 'triage' }, reason: 'gone rogue' })
    expect(stopped).toMatchObject({ status: 202, body: { freeze: { partitions: { holding: 8, unreachable: 0, replicated: true } } } })
    expect((await issue(other)).body.code).toBe('frozen')
    const revocation = `/v1/emergency/revocations/${stopped.body.revocation.id}`
    await waitFor(
      'the revocation to finish',
      async () => (await call('GET', revocation, await token('oncall'))).body.revocation?.state === 'finished',
      20_000,
    )
    expect((await call('POST', `/v1/freezes/${stopped.body.freeze.id}/thaw`, await token('oncall'), { reason: 'over' })).status).toBe(200)
  }, 60_000)
})

describe('a broker whose primary is killed under load', () => {
  it('answers 503 with Retry-After, stays alive, and issues again by itself', async () => {
    const place = await PLACES[1]?.[1]()
    if (!place) throw new Error('there is no Cluster')
    const { call, token, openTask, metricsUrl } = await brokerAt(place)
    const agent = await token('triage')
    const other = await openTask()
    const issue = () => call('POST', '/v1/leases', agent, { task: other, role: 'api-token' })
    const answers = new Map<number, string | null>()
    let issued = 0
    let isOver = false
    const load = Promise.all(
      [1, 2, 3, 4].map(async () => {
        while (!isOver) {
          const answer = await issue()
          answers.set(answer.status, answer.headers.get('retry-after'))
          if (answer.status === 201) {
            issued++
            await call('DELETE', `/v1/leases/${answer.body.lease.id}`, agent)
          } else await new Promise((resolve) => setTimeout(resolve, 50))
        }
      }),
    )
    await waitFor('some leases', () => issued > 20)
    const victim = await place.primaryOf(other)
    await victim.kill()
    await waitFor('the outage to be noticed', () => answers.has(503))
    expect((await fetch(`${metricsUrl}/healthz`)).status).toBe(200)
    await waitFor('another primary', async () => (await place.primaryOf(other)) !== victim, 20_000)
    await victim.restart()
    const before = issued
    await waitFor('issuing', () => issued > before + 10, 20_000)
    isOver = true
    await load
    expect([...answers.keys()].filter((one) => one !== 201 && one !== 503)).toEqual([])
    expect(answers.get(503)).toBe('1')
  }, 60_000)
})
