import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { DUE_CHANNEL } from '../../src/ledger/keys.js'
import { partitionsOf, together } from '../../src/ledger/store.js'
import type { Selector } from '../../src/types.js'
import { startRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'
import { event, eventsOf, type Fixture, HOUR, newLease, newTask, openTask, startLedger, taskNow } from './fixture.js'

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const freeze = (selector: Selector) => fixture.ledger.freeze({ selector, reason: 'suspicious', by: 'sso/ada' }, event('freeze.set'))
const thaw = (id: string) => fixture.ledger.thaw(id, { reason: 'over', by: 'sso/ada' }, event('freeze.thawed'))

/** Whether a lease for `task` gets through now. */
async function grants(task: string, more: object = {}): Promise<boolean> {
  const answer = await fixture.ledger.grant(newLease(fixture.ledger, await taskNow(fixture.ledger, task), more), event())
  if (!answer.ok && answer.refused !== 'frozen') throw new Error(answer.refused)
  return answer.ok
}

describe('a freeze', () => {
  it.each<[string, Selector]>([
    ['everything', { all: true }],
    ['the agent', { agent: ['triage'] }],
    ['the role', { role: ['warehouse-read'] }],
    ['the provider', { provider: ['other', 'warehouse'] }],
    ['the issuer', { issuer: ['cluster'] }],
    ['the owner', { owner: ['sre@example.com'] }],
    ['the human', { human: ['ada & eve=1'] }],
    ['the orchestrator', { orchestrator: ['flows'] }],
    ['a combination', { agent: ['other', 'triage'], role: ['warehouse-read'], human: ['ada & eve=1'] }],
  ])('of %s stops reserve and grant until it is thawed', async (_, selector) => {
    const { ledger } = fixture
    const task = await openTask(ledger, { human: 'ada & eve=1' })
    const { freeze: set, holding, unreachable } = await freeze(selector)
    expect({ holding, unreachable }).toEqual({ holding: 4, unreachable: 0 })
    expect(await ledger.reserve(newLease(ledger, task), event())).toMatchObject({ refused: 'frozen', detail: set.id })
    expect(await grants(task.id)).toBe(false)
    expect(await ledger.freezes()).toEqual([{ ...set, partitions: { holding: 4, unreachable: 0 } }])
    const thawed = await thaw(set.id)
    expect(thawed.ok && thawed.freeze.generation).toBeGreaterThan(set.generation)
    expect(await ledger.freezes()).toEqual([])
    expect(await grants(task.id)).toBe(true)
  })

  it('leaves alone what it does not name', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const others: Selector[] = [
      { agent: ['other'] },
      { agent: ['triage'], role: ['other'] },
      { agent: ['other'], role: ['warehouse-read'] },
      { agent: ['triage%'] },
      { human: [''] },
    ]
    const set = await Promise.all(others.map(freeze))
    expect(await grants(task.id)).toBe(true)
    for (const { freeze: one } of set) await thaw(one.id)
  })

  it('of a task covers its subtree, of an agent or its owner what it opened and delegated', async () => {
    const { ledger } = fixture
    const assignees = [{ agent: 'triage' }, { agent: 'helper' }]
    const root = await openTask(ledger, { assignees })
    const opener = { kind: 'agent', id: 'triage', issuer: 'cluster' } as const
    const delegated = await openTask(ledger, { parent: root.id, openedBy: opener, owner: 'sre@example.com', assignees })
    const deeper = await openTask(ledger, { parent: delegated.id, openedBy: { ...opener, id: 'helper' }, assignees })
    const helper = { agent: { id: 'helper', owner: 'o', issuer: 'cluster' } }

    const byTask = await freeze({ task: [delegated.id] })
    expect([await grants(root.id), await grants(delegated.id), await grants(deeper.id)]).toEqual([true, false, false])
    await thaw(byTask.freeze.id)

    const byAgent = await freeze({ agent: ['triage'] })
    expect([await grants(root.id, helper), await grants(delegated.id, helper), await grants(deeper.id, helper)]).toEqual([true, false, false])
    await thaw(byAgent.freeze.id)

    expect(await grants(deeper.id, helper)).toBe(true)
    const byOwner = await freeze({ owner: ['sre@example.com'] })
    expect([await grants(root.id, helper), await grants(delegated.id, helper), await grants(deeper.id, helper)]).toEqual([true, false, false])
    expect(await ledger.match({ owner: ['sre@example.com'], agent: ['helper'] })).toMatchObject([{ live: 1 }])
    await thaw(byOwner.freeze.id)

    const both = await freeze({ agent: ['triage'], role: ['warehouse-read'] })
    expect([await grants(root.id, helper), await grants(deeper.id, helper)]).toEqual([true, false])
    await thaw(both.freeze.id)
  })

  it('of an issuer covers what its orchestrators opened for agents of another', async () => {
    const { ledger } = fixture
    const openedBy = { kind: 'orchestrator', id: 'flows', issuer: 'stolen' } as const
    const [task, other] = [await openTask(ledger, { openedBy }), await openTask(ledger)]
    const lease = newLease(ledger, task)
    await ledger.grant(lease, event())
    const { freeze: one } = await freeze({ issuer: ['stolen'] })
    expect([await grants(task.id), await grants(other.id)]).toEqual([false, true])
    expect((await ledger.openTask(newTask(ledger, { openedBy }), event())).ok).toBe(false)
    expect(await ledger.match({ issuer: ['stolen'] })).toMatchObject([{ live: 1 }])
    expect((await ledger.lease(lease.id))?.issuer).toBe('cluster')
    await thaw(one.id)
  })

  it('of everything, of its opener, of its human or of what is above it stops a task from opening', async () => {
    const { ledger } = fixture
    const root = await openTask(ledger)
    const opener = { kind: 'agent', id: 'opener', issuer: 'cluster' } as const
    const opens = async (more = {}) => (await ledger.openTask(newTask(ledger, more), event())).ok
    for (const selector of [{ all: true }, { agent: ['opener'] }, { human: ['ada'] }, { task: [root.id] }] as Selector[]) {
      const { freeze: one } = await freeze(selector)
      expect(await opens({ parent: root.id, openedBy: opener, human: 'ada' })).toBe(false)
      await thaw(one.id)
      expect(await opens({ parent: root.id, openedBy: opener, human: 'ada' })).toBe(true)
    }
    const { freeze: orchestrator } = await freeze({ orchestrator: ['flows'] })
    expect(await opens()).toBe(false)
    await thaw(orchestrator.id)
  })

  it('goes on while another of the same name is thawed', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    const first = await freeze({ agent: ['triage', 'other'] })
    const second = await freeze({ agent: ['triage'] })
    await thaw(first.freeze.id)
    expect(await grants(task.id)).toBe(false)
    await thaw(second.freeze.id)
    expect(await grants(task.id)).toBe(true)
  })

  it('is told of once, as is its thaw', async () => {
    const { ledger } = fixture
    const told = event('freeze.set')
    const over = event('freeze.thawed')
    const { freeze: one } = await ledger.freeze({ selector: { agent: ['x'] }, reason: 'r', by: 'op' }, told)
    await ledger.thaw(one.id, { reason: 'r', by: 'op' }, over)
    expect(await ledger.thaw(one.id, { reason: 'r', by: 'op' }, event('freeze.thawed'))).toMatchObject({ ok: true })
    const events = await eventsOf(ledger)
    expect(events.filter(({ id }) => id === told.id)).toHaveLength(1)
    expect(events.filter(({ id }) => id === over.id)).toHaveLength(1)
    expect(await ledger.thaw('freeze_00aaaaaaaaaaaaaaaaaaaaaaaaaa', { reason: 'r', by: 'op' }, event())).toMatchObject({ refused: 'not_found' })
    expect(await ledger.thaw('nothing', { reason: 'r', by: 'op' }, event())).toMatchObject({ refused: 'not_found' })
  })

  it('is refused, with what is wrong, when it names nothing, contradicts itself or makes too many combinations', async () => {
    const many = Array.from({ length: 40 }, (_, i) => `x${i}`)
    for (const selector of [{}, { agent: [] }, { all: true, agent: ['x'] }, { agent: many, role: many }] as Selector[])
      await expect(freeze(selector)).rejects.toMatchObject({ code: 'request_invalid' })
    const { freeze: large } = await freeze({ agent: many, role: many.slice(0, 25) })
    await thaw(large.id)
  })

  it('reaches a partition that missed it before that partition issues again, and a thaw wins over what it undid', async () => {
    const { ledger, redis, open } = fixture
    const task = await openTask(ledger)
    const key = `mf:{p${task.id.slice(5, 7)}}:freezes`
    const held = await freeze({ agent: ['triage'] })
    const before = await redis.client.hgetall(key)
    // But for the mark: a partition whose mark went back issues nothing at all.
    const forget = async () => redis.client.hdel(key, ...(await redis.client.hkeys(key)).filter((field) => field !== 'mark'))
    const { mark: _, ...fields } = before
    await forget()
    expect(await grants(task.id)).toBe(true)
    const reopened = await open()
    expect(await reopened.grant(newLease(ledger, await taskNow(ledger, task.id)), event())).toMatchObject({ refused: 'frozen' })

    await thaw(held.freeze.id)
    // This partition goes back to before the thaw, as after a failover that lost it.
    await forget()
    await redis.client.hset(key, fields)
    expect(await grants(task.id)).toBe(false)
    await open()
    expect(await grants(task.id)).toBe(true)
    expect(await ledger.freezes()).toEqual([])
  })

  it('that is missing somewhere is found by a look, which reads none of them while they are the same everywhere', async () => {
    const own = await startLedger()
    const { ledger, redis } = own
    const { freeze: set } = await ledger.freeze({ selector: { agent: ['a'] }, reason: 'r', by: 'sso/ada' }, event('freeze.set'))
    const key = `mf:{p${set.id.slice(7, 9)}}:freezes`
    const calls = async (command: string) =>
      Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await redis.client.info('commandstats'))?.[1] ?? 0)
    const look = async () => {
      const before = await calls('hget')
      await redis.client.publish(DUE_CHANNEL, set.id)
      await waitFor('a look', async () => (await calls('hget')) > before)
    }
    await look()
    const before = await calls('hgetall')
    await look()
    await look()
    expect(await calls('hgetall')).toBe(before)

    // As it was before, after a failover that lost it.
    await redis.client.hdel(key, `#${set.id}`, 'agent=a', `!F${set.id}`, 'live', 'digest')
    await look()
    await waitFor('it to be back', async () => (await redis.client.hget(key, 'agent=a')) === set.id)
    const digests = await Promise.all((await redis.client.keys('mf:*:freezes')).map((one) => redis.client.hget(one, 'digest')))
    expect(new Set(digests).size).toBe(1)
    expect(digests[0]).toMatch(/^[1-9][0-9]+$/)
    await own.stop()
  })

  it('of so many combinations that it takes several steps holds in every partition, and an emergency is opened after them', async () => {
    const own = await startLedger({ partitions: 8 })
    const { ledger } = own
    try {
      const asks = async () => {
        const tasks = await Promise.all(Array.from({ length: 16 }, () => openTask(ledger)))
        const answers = await Promise.all(tasks.map((task) => ledger.grant(newLease(ledger, task), event())))
        return new Set(answers.map((one) => (one.ok ? 'granted' : one.refused)))
      }
      const names = (like: string) => Array.from({ length: 29 }, (_, n) => `${like}-${n}`)
      const selector = { agent: ['triage', ...names('agent')], role: ['warehouse-read', ...names('role')] }
      const revoke = { verify: 'none', event: event('revocation.started') } as const
      const set = await ledger.freeze({ selector, reason: 'r', by: 'sso/ada', revoke }, event('freeze.set'))
      expect(set).toMatchObject({ holding: 8, unreachable: 0 })
      expect(set.revocation).toBeUndefined()
      expect(await asks()).toEqual(new Set(['frozen']))
      await ledger.thaw(set.freeze.id, { reason: 'r', by: 'sso/ada' }, event('freeze.thawed'))
      expect(await asks()).toEqual(new Set(['granted']))
    } finally {
      await own.stop()
    }
  })

  it('waits for nothing that its broker asked before it', async () => {
    const { ledger } = fixture
    const task = await openTask(ledger)
    let answered = 0
    const asked = Array.from({ length: 3_000 }, () => ledger.grant(newLease(ledger, task), event()).then(() => answered++))
    const set = await freeze({ agent: ['nobody-here'] })
    expect(answered).toBeLessThan(asked.length - 100)
    await Promise.all(asked)
    await thaw(set.freeze.id)
  })

  it('that nobody could tell of, and whose broker may be gone, is told of by whoever looks, once', async () => {
    const { ledger, redis, open } = fixture
    const { freeze: made } = await freeze({ agent: ['nobody-here'] })
    await thaw(made.id)
    const told = async (id: string) => (await eventsOf(ledger)).filter(({ detail }) => detail?.freeze === id)
    const like = (suffix: string, ago: number) => ({ ...made, id: `${made.id.slice(0, -3)}${suffix}`, generation: ledger.now() - ago })
    const [fresh, lately, before, again] = [like('aa2', 0), like('aa3', 10_000), like('aa4', 2 * HOUR), like('aa5', 10_000)]
    const home = `mf:{p${made.id.slice(7, 9)}}:freezes`
    for (const one of [fresh, lately, before, again]) await ledger.restoreFreeze(true, one)
    // Its own partition has missed it, and of the others nothing is known of their being told.
    await redis.client.hdel(home, `#${lately.id}`, ...[fresh, lately, before].map(({ id }) => `!F${id}`))
    await open()
    await open()
    const { selector, reason, generation } = lately
    expect(await told(lately.id)).toMatchObject([{ type: 'freeze.set', detail: { by: 'sso/ada', reason, selector, generation } }])
    // Of the one it is told by whoever was asked, and of the others, it was.
    for (const { id } of [fresh, before, again]) expect(await told(id)).toEqual([])
    for (const one of [fresh, lately, before, again]) await thaw(one.id)
    expect((await told(lately.id)).map(({ type }) => type)).toEqual(['freeze.set', 'freeze.thawed'])
  })

  it('whose thaw nobody could tell of is told to be thawed by whom it was', async () => {
    const { ledger, redis, open } = fixture
    const { freeze: made } = await freeze({ agent: ['nobody-here'] })
    await ledger.thaw(made.id, { reason: 'a mistake', by: 'sso/eve' }, event('freeze.thawed'))
    await redis.client.hdel(`mf:{p${made.id.slice(7, 9)}}:freezes`, `!T${made.id}`)
    const thaws = async () => (await eventsOf(ledger)).filter(({ type, detail }) => type === 'freeze.thawed' && detail?.freeze === made.id)
    expect(await thaws()).toHaveLength(1)
    await new Promise((resolve) => setTimeout(resolve, 3_100))
    await open()
    expect((await thaws())[1]?.detail).toMatchObject({ by: 'sso/eve', reason: 'a mistake', selector: made.selector })
  }, 10_000)

  it('reaches the server that issues, when what it is sent on first leads elsewhere or nowhere', async () => {
    const { redis } = fixture
    const elsewhere = await startRedis()
    let opened = 0
    /** The second connection of a broker is the one for freezes. */
    const server = createServer((socket) => {
      const path = ++opened === 2 ? elsewhere.socketPath : redis.socketPath
      const on = connect(path)
      socket.pipe(on).pipe(socket)
      socket.on('error', () => on.destroy())
      on.on('error', () => socket.destroy())
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const other = await fixture.open({ redis: { url: `redis://127.0.0.1:${port}` } })
    try {
      await waitFor('both connections', () => opened >= 2)
      const set = await other.freeze({ selector: { agent: ['nobody-here'] }, reason: 'r', by: 'sso/ada' }, event('freeze.set'))
      expect(await elsewhere.client.keys('*')).toEqual([])
      expect((await fixture.ledger.freezes()).map(({ id }) => id)).toContain(set.freeze.id)
      await thaw(set.freeze.id)
    } finally {
      await other.disconnect()
      server.close()
      await elsewhere.stop()
    }
  })

  it('stops every grant that begins after it was acknowledged, however many race it', async () => {
    const { ledger, open } = fixture
    const other = await open()
    const tasks = await Promise.all(Array.from({ length: 10 }, () => openTask(ledger)))
    const racing = tasks.map((task) => other.grant(newLease(ledger, task), event()))
    const { freeze: all } = await freeze({ all: true })
    const after = await Promise.all(
      (await Promise.all(tasks.map(({ id }) => taskNow(ledger, id)))).map((task) => other.grant(newLease(ledger, task), event())),
    )
    expect(after.map((one) => one.ok)).toEqual(tasks.map(() => false))
    await Promise.all(racing)
    await thaw(all.id)
  })
})

describe('what one script may look at together', () => {
  const store = (isCluster: boolean) => ({ nodes: { isCluster }, options: { partitions: 5 } }) as Parameters<typeof together>[0]
  const inSteps = (of: ReturnType<typeof store>, most: number, first?: number) => together(of, partitionsOf(of, first), most)

  it('is each partition once: all of one Redis, in groups where it would be too much, and each by itself in a Cluster', () => {
    expect(together(store(false))).toEqual([[0, 1, 2, 3, 4]])
    expect(inSteps(store(false), 2)).toEqual([[0, 1], [2, 3], [4]])
    expect(together(store(true))).toEqual([[0], [1], [2], [3], [4]])
  })

  it("begins with a freeze's own partition", () => {
    expect(inSteps(store(false), 100, 3)).toEqual([[3, 0, 1, 2, 4]])
    expect(inSteps(store(false), 2, 1)).toEqual([[1, 0], [2, 3], [4]])
    expect(inSteps(store(false), 0, 1)).toEqual([[1], [0], [2], [3], [4]])
    expect(inSteps(store(true), 100, 1)).toEqual([[1], [0], [2], [3], [4]])
  })
})
