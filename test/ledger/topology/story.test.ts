import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { RedisAddress } from '../../../src/ledger/address.js'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { startCluster } from '../../support/redis-cluster.js'
import { startSentinel } from '../../support/redis-sentinel.js'
import type { RedisServer } from '../../support/redis-server.js'
import { waitFor } from '../../support/wait.js'
import { event, eventsOf, granted, newLease, openTask, PLENTY, stateOf, taskNow } from '../fixture.js'
import { openAt, PARTITIONS, taskIn } from './support.js'

interface Place {
  readonly redis: RedisAddress
  readonly servers: readonly RedisServer[]
  stop(): Promise<void>
}
const PASSWORD = 'of-the-servers'
const USER = { username: 'mayfly', password: 'of-the-broker' }
/** What docs/operations.md says that the broker's user needs, and no more. */
async function addUser({ client }: RedisServer): Promise<void> {
  const [, rules = ''] = /`ACL SETUSER mayfly on >… (.+?)`/.exec(await readFile('docs/operations.md', 'utf8')) ?? []
  await client.call('ACL', 'SETUSER', USER.username, 'on', `>${USER.password}`, ...rules.split(' '))
}

const PLACES: [string, () => Promise<Place>][] = [
  [
    'Sentinel',
    async () => {
      const sentinel = await startSentinel({ password: PASSWORD })
      for (const server of sentinel.servers) await addUser(server)
      return { redis: { sentinel: { ...sentinel.address, ...USER, sentinelPassword: PASSWORD } }, servers: sentinel.servers, stop: sentinel.stop }
    },
  ],
  [
    'Cluster',
    async () => {
      const cluster = await startCluster({ replicas: false, password: PASSWORD })
      for (const server of cluster.servers) await addUser(server)
      return { redis: { cluster: { ...cluster.address, ...USER } }, servers: cluster.servers, stop: cluster.stop }
    },
  ],
]

describe.each(PLACES)('a ledger on %s', (_, start) => {
  let place: Place
  let ledger: Ledger
  let other: Ledger
  beforeAll(async () => {
    place = await start()
    ledger = await openAt(place.redis)
    other = await openAt(place.redis, { createMeta: false })
  }, 60_000)
  afterAll(async () => {
    await Promise.all([ledger?.disconnect(), other?.disconnect()])
    await place?.stop()
  })
  const everyPartition = Array.from({ length: PARTITIONS }, (_, partition) => partition)

  it('issues in every partition, and ends a task for every broker', async () => {
    for (const partition of everyPartition) {
      const task = await taskIn(ledger, partition)
      const lease = await granted(ledger, task)
      expect(await stateOf(other, lease.id)).toBe('active')
      const ended = await other.endTask(task, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
      expect(ended).toMatchObject({ ok: true, first: true, closing: 1 })
      const claim = ended.ok ? ended.claims[0] : undefined
      await other.settle({ lease: lease.id, attempt: claim?.attempt ?? 0 }, { result: 'revoked' }, event('lease.revoked'))
      expect(await stateOf(ledger, lease.id)).toBe('revoked')
      expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task)), event())).toMatchObject({ refused: 'ended' })
    }
  })

  it('freezes everywhere, revokes what a selector matches, sweeps the rest, and thaws', async () => {
    const tasks = await Promise.all(everyPartition.map((partition) => taskIn(ledger, partition)))
    const leases = await Promise.all(tasks.map((task) => granted(ledger, task)))
    const set = await ledger.freeze({ selector: { agent: ['triage'] }, reason: 'gone rogue', by: 'sso/ada' }, event('freeze.set'))
    expect(set).toMatchObject({ holding: PARTITIONS, unreachable: 0 })
    for (const task of tasks) expect(await other.grant(newLease(other, await taskNow(other, task)), event())).toMatchObject({ refused: 'frozen' })

    const opened = await ledger.openRevocation(
      { selector: { agent: ['triage'] }, reason: 'gone rogue', by: 'sso/ada', freeze: set.freeze.id },
      event('revocation.started'),
    )
    await waitFor('all to have been looked at', async () => (await ledger.advanceRevocation(opened.id, 0)).done)
    let settled = 0
    await waitFor('what is due to be claimed and revoked', async () => {
      const { claims } = await other.claim(PLENTY)
      for (const { lease, attempt } of claims) await other.settle({ lease: lease.id, attempt }, { result: 'revoked' }, event('lease.revoked'))
      settled += claims.length
      return settled >= leases.length
    })
    await ledger.advanceRevocation(opened.id)
    expect(await other.revocation(opened.id)).toMatchObject({ state: 'finished', matched: leases.length, revoked: leases.length })

    expect(await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))).toMatchObject({ ok: true })
    for (const task of tasks) await granted(other, task)
  })

  it('lists, counts and hands on events over all partitions, and tells others that work is due', async () => {
    const task = await openTask(ledger)
    const lease = await granted(ledger, task.id)
    let hints = 0
    other.onDue(() => hints++)
    await ledger.close(lease.id, 'released', event('lease.closing', { lease: lease.id }), { left: true })
    await waitFor('the hint', () => hints > 0)
    const found = new Set<string>()
    let cursor: string | undefined
    do {
      const page = await other.leases({ agent: 'triage' }, { limit: 5, cursor })
      for (const { id } of page.leases) found.add(id)
      cursor = page.cursor
    } while (cursor !== undefined)
    expect(found).toContain(lease.id)
    expect(await other.providersInUse()).toEqual(['warehouse'])
    expect(await ledger.status()).toMatchObject({ reachable: true, redisVersion: expect.stringMatching(/^7\./) })
    expect((await eventsOf(ledger, PARTITIONS)).filter((one) => one.lease === lease.id).map(({ type }) => type)).toEqual([
      'lease.issued',
      'lease.closing',
    ])
    expect(await ledger.outbox.hold('reader', 1_000)).toHaveLength(PARTITIONS)
    expect([await ledger.consume('a token', 60_000), await other.consume('a token', 60_000)]).toEqual([true, false])
  })

  it('goes on when scripts are forgotten', async () => {
    const task = await openTask(ledger)
    await Promise.all(place.servers.map(({ client }) => client.script('FLUSH')))
    await granted(ledger, task.id)
  })
})
