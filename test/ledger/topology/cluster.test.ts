import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Command } from 'ioredis'
import { mostSaid } from '../../../src/ledger/cluster.js'
import { keys } from '../../../src/ledger/keys.js'
import type { Ledger } from '../../../src/ledger/ledger.js'
import { type RedisCluster, startCluster } from '../../support/redis-cluster.js'
import { waitFor } from '../../support/wait.js'
import { event, eventsOf, granted, newLease, stateOf, taskNow } from '../fixture.js'
import { ask, lostOf, openAt, PARTITIONS, startLoad, taskIn } from './support.js'

let cluster: RedisCluster
let ledger: Ledger
let other: Ledger
beforeAll(async () => {
  cluster = await startCluster()
  ledger = await openAt({ cluster: cluster.address })
  other = await openAt({ cluster: cluster.address }, { createMeta: false })
}, 60_000)
afterAll(async () => {
  await Promise.all([ledger?.disconnect(), other?.disconnect()])
  await cluster?.stop()
})

const everyPartition = Array.from({ length: PARTITIONS }, (_, partition) => partition)
const slotOf = (partition: number) => new Command('exists', [keys.prefix(partition)]).getSlot()
const tasksEverywhere = () => Promise.all(everyPartition.map((partition) => taskIn(ledger, partition)))
const rogue = { selector: { agent: ['triage'] }, reason: 'gone rogue', by: 'sso/ada' }

describe('who holds a slot', () => {
  it('is whom most servers name: one that is cut off from the rest still names itself', () => {
    expect(mostSaid([['cut-off'], ['new'], ['new']], 1)).toEqual(['new'])
    expect(
      mostSaid(
        [
          ['one', ''],
          ['one', ''],
        ],
        2,
      ),
    ).toEqual(['one', undefined])
    expect(mostSaid([], 1)).toEqual([undefined])
  })
})

describe('a slot on its way to another server', () => {
  it('loses nothing under load, and refuses nothing but for a moment', async () => {
    const tasks = await tasksEverywhere()
    const load = startLoad(ledger, [...tasks, ...(await tasksEverywhere())])
    await waitFor('some leases', () => load.granted.length > 100)
    for (const partition of [1, 2]) {
      const slot = slotOf(partition)
      const from = await cluster.holderOf(slot)
      const to = cluster.servers.slice(0, 3).find((one) => one !== from) ?? from
      await cluster.moveSlot(slot, to)
    }
    const before = load.granted.length
    await waitFor('every partition to issue again', async () =>
      (await Promise.all(tasks.map((task) => ask(other, task)))).every((one) => 'lease' in one),
    )
    await waitFor('more leases', () => load.granted.length > before + 50)
    await load.stop()
    expect(load.refused.filter((code) => code !== 'ledger_unavailable')).toEqual([])
    expect(await lostOf(other, load.granted)).toEqual([])
  }, 30_000)

  it('issues nothing where half of it is, whatever has moved, and everything the moment that it has arrived', async () => {
    const slot = slotOf(3)
    const from = await cluster.holderOf(slot)
    const to = cluster.servers.slice(0, 3).find((one) => one !== from) ?? from
    const task = await taskIn(ledger, 3)
    const lease = await granted(ledger, task)
    for (let n = 0; n < 60; n++) await granted(ledger, task)
    const set = await ledger.freeze(rogue, event('freeze.set'))
    await cluster.moveSlot(slot, to, async () => {
      for (const one of [ledger, other]) {
        expect(await ask(one, task)).toEqual({ refused: 'ledger_unavailable' })
        await expect(one.endTask(task, { state: 'completed', cause: 'task_completed' }, event('task.ended'))).rejects.toMatchObject({
          code: 'ledger_unavailable',
        })
      }
      // What is asked by one key alone is answered by whoever has it, or not at all.
      expect(['active', 'ledger_unavailable']).toContain(await stateOf(ledger, lease.id).catch((error) => error.code))
    })
    await waitFor('the partition', async () => (await stateOf(ledger, lease.id).catch(() => undefined)) === 'active')
    expect(await ask(ledger, task)).toEqual({ refused: 'frozen' })
    await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
    await granted(other, task)
  }, 30_000)
})

describe('a freeze that one broker cannot write everywhere', () => {
  const user = { username: 'cut', password: 'off' }
  let victim: RedisCluster['servers'][number]
  const setUser = (server: RedisCluster['servers'][number], ...rules: string[]) => server.client.call('ACL', 'SETUSER', user.username, ...rules)
  const openCut = () => openAt({ cluster: { ...cluster.address, ...user } }, { createMeta: false })
  const holdsEverywhere = (freeze: string) => async () => (await ledger.freezes()).find(({ id }) => id === freeze)?.partitions.holding === PARTITIONS
  beforeAll(async () => {
    victim = await cluster.holderOf(slotOf(0))
  })
  beforeEach(async () => {
    for (const server of cluster.servers) await setUser(server, 'on', `>${user.password}`, '~*', '&*', '+@all')
  })

  it('is brought there at once by those who can, twice in less time than lies between two of their looks', async () => {
    const cut = await openCut()
    await setUser(victim, 'resetkeys')
    try {
      for (let n = 0; n < 2; n++) {
        const began = performance.now()
        const set = await cut.freeze(rogue, event('freeze.set'))
        expect(set.unreachable).toBeGreaterThan(0)
        await waitFor('the freeze to hold everywhere', holdsEverywhere(set.freeze.id), 2_000)
        await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
        await new Promise((resolve) => setTimeout(resolve, began + 2_500 - performance.now()))
      }
    } finally {
      await cut.disconnect()
    }
  }, 30_000)

  it('is brought there by others, which never lost anything, when that broker is gone, and is told of once', async () => {
    const cut = await openCut()
    // As if the way to one partition were cut, and its server were not.
    await setUser(victim, 'resetkeys', ...everyPartition.filter((one) => one !== 0).map((one) => `~${keys.prefix(one)}*`))
    let set = await cut.freeze(rogue, event('freeze.set'))
    const isAtHome = () => keys.prefix(0) === `mf:{p${set.freeze.id.slice('freeze_'.length, 'freeze_00'.length)}}:`
    for (let tries = 0; !isAtHome() && tries < 100; tries++) {
      await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
      set = await cut.freeze(rogue, event('freeze.set'))
    }
    expect(isAtHome()).toBe(true)
    expect(set).toMatchObject({ holding: PARTITIONS - 1, unreachable: 1 })
    await cut.disconnect()
    await waitFor('the freeze to hold everywhere', holdsEverywhere(set.freeze.id), 20_000)
    expect(await ask(ledger, await taskIn(ledger, 0))).toEqual({ refused: 'frozen' })
    // By nobody who looks after that time, though its own partition was never told.
    await new Promise((resolve) => setTimeout(resolve, 3_100))
    const late = await openAt({ cluster: cluster.address }, { createMeta: false })
    await late.disconnect()
    expect((await eventsOf(ledger, PARTITIONS)).filter(({ detail }) => detail?.freeze === set.freeze.id)).toHaveLength(1)
    await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
  }, 40_000)
})

describe('a server of a Cluster', () => {
  it('is no ledger by itself', async () => {
    const [server] = cluster.servers
    const alone = openAt({ url: `redis://127.0.0.1:${server?.port}` })
    await expect(alone).rejects.toMatchObject({ code: 'ledger_unavailable', message: expect.stringContaining('Redis Cluster') })
  })
})

describe('a primary that dies under load', () => {
  it('is replaced by its replica: 503 meanwhile in its partitions alone, then issuing again by itself, freezes in force', async () => {
    const tasks = await tasksEverywhere()
    const victim = await cluster.holderOf(slotOf(0))
    const held = await Promise.all(everyPartition.map(async (partition) => ((await cluster.holderOf(slotOf(partition))) === victim ? partition : -1)))
    const away = held.filter((partition) => partition >= 0)
    expect(away.length).toBeGreaterThan(0)
    expect(away.length).toBeLessThan(PARTITIONS)
    const replica = cluster.replicaOf(victim)
    const load = startLoad(ledger, tasks)
    await waitFor('some leases', () => load.granted.length > 50)
    await victim.kill()
    await waitFor('the outage to be noticed', () => load.refused.length > 0)
    await waitFor('the replica to take over', async () => (await cluster.holderOf(slotOf(0))) === replica, 20_000)
    await waitFor(
      'every partition to issue',
      async () => (await Promise.all(tasks.map((task) => ask(ledger, task)))).every((one) => 'lease' in one),
      20_000,
    )
    await load.stop()
    expect(new Set(load.refused)).toEqual(new Set(['ledger_unavailable']))

    // This one has had nothing to ask meanwhile, and finds out by itself.
    await waitFor('the other to see them all', async () => !(await other.status()).problems.some((one) => one.includes('cannot be reached')), 20_000)
    const set = await other.freeze(rogue, event('freeze.set'))
    expect(set).toMatchObject({ holding: PARTITIONS, unreachable: 0 })
    for (const task of tasks) expect(await ledger.grant(newLease(ledger, await taskNow(ledger, task)), event())).toMatchObject({ refused: 'frozen' })
    await other.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
    await victim.restart()
  }, 60_000)

  it('that takes its replica with it stops its own partitions, and a freeze set meanwhile is in force there before they issue again', async () => {
    const tasks = await tasksEverywhere()
    const victim = await cluster.holderOf(slotOf(0))
    const replica = cluster.servers.find((one) => one !== victim && cluster.replicaOf(one) === victim) ?? cluster.replicaOf(victim)
    for (const { client } of cluster.servers) await client.config('SET', 'cluster-require-full-coverage', 'no')
    await waitFor(
      'the replica to be one again',
      async () => /^role:slave[\s\S]*master_link_status:up/m.test(await replica.client.info('replication')),
      20_000,
    )
    process.kill(victim.pid(), 'SIGSTOP')
    process.kill(replica.pid(), 'SIGSTOP')
    let set: Awaited<ReturnType<Ledger['freeze']>>
    try {
      set = await ledger.freeze(rogue, event('freeze.set'))
      expect(set.unreachable).toBeGreaterThan(0)
      expect(set.holding + set.unreachable).toBe(PARTITIONS)
      expect((await other.freezes()).map(({ id }) => id)).toContain(set.freeze.id)
      const swept = await other.claim(new Map([['warehouse', 10]]))
      expect(swept.claims).toEqual([])
      expect(await other.status()).toMatchObject({
        reachable: true,
        problems: expect.arrayContaining([expect.stringContaining('cannot be reached')]),
      })
    } finally {
      process.kill(victim.pid(), 'SIGCONT')
      process.kill(replica.pid(), 'SIGCONT')
    }
    // Whenever a partition answers, it is with the freeze.
    const answers = new Set<string>()
    await waitFor(
      'all partitions',
      async () => {
        const told = await Promise.all(tasks.map((task) => ask(other, task)))
        for (const one of told) answers.add('lease' in one ? 'issued' : one.refused)
        return told.every((one) => 'refused' in one && one.refused === 'frozen')
      },
      20_000,
    )
    expect(answers).not.toContain('issued')
    await ledger.thaw(set.freeze.id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))
  }, 60_000)
})
