import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RedisUpstream, startRedisUpstream } from '../providers/redis-upstream.js'
import { type Answer, startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const INTERLEAVINGS = 1_000
const AT_ONCE = 8
/** Leases that wait for their expiry together. */
const WAITING_AT_ONCE = 64
/** Each place that a stop can fall into must have been hit this often, or the test has shown nothing. */
const AT_LEAST = 50

/** The ledger's Redis, and the upstream's: the role `cache-read` is an ACL user there. */
let redis: TestRedis
let upstream: RedisUpstream
let test: TestBroker
let agent: string
let flows: string
let oncall: string

beforeAll(async () => {
  ;[redis, upstream] = await Promise.all([startRedis(), startRedisUpstream()])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    // Each race is in one partition; a thousand freezes and emergencies of a task go to all of them.
    partitions: 8,
    providers: '  cache: {type: redis, url: env:CACHE_URL, concurrency: 16}',
    roles:
      '  cache-read: {provider: cache, access: read, sensitivity: internal, max_ttl: 5m, max_lifetime: 30m, params: {keys: ["reports:*"], commands: ["+@read"]}}',
    limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 100000}',
    env: { CACHE_URL: upstream.url },
  })
  ;[agent, flows, oncall] = await Promise.all([test.token('triage'), test.token('flows'), test.token('oncall')])
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis?.stop(), upstream?.redis.stop()])
})

interface Interleaving {
  readonly task: string
  readonly issued: Answer
  readonly stopped: Answer
}

const openTask = () => test.openTask({ envelope: [{ role: 'cache-read' }] })
const obtain = (task: string, ttl = 300) => test.call('POST', '/v1/leases', agent, { task, role: 'cache-read', ttl })
const usersUpstream = () => upstream.users()

/** Issues and stops at about the same time: either begins first, by up to as long as it usually takes. */
async function interleave(stop: (task: string) => Promise<Answer>): Promise<Interleaving[]> {
  const tasks = await inParallel(INTERLEAVINGS, openTask)
  const usual = { issue: 10, stop: 10 }
  const timed = async (what: keyof typeof usual, run: () => Promise<Answer>) => {
    const began = performance.now()
    const answer = await run()
    usual[what] = usual[what] * 0.95 + (performance.now() - began) * 0.05
    return answer
  }
  return inParallel(INTERLEAVINGS, async (n) => {
    const task = tasks[n] ?? ''
    const lead = Math.random() * (usual.issue * 1.1 + usual.stop) - usual.stop
    const issuing = (async () => {
      await elapse(-lead)
      return timed('issue', () => obtain(task))
    })()
    await elapse(lead)
    const stopped = await timed('stop', () => stop(task))
    return { task, issued: await issuing, stopped }
  })
}

/** Finer than a timer's millisecond. */
async function elapse(ms: number): Promise<void> {
  const end = performance.now() + ms
  while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
}

async function inParallel<T>(count: number, work: (n: number) => Promise<T>, width = AT_ONCE): Promise<T[]> {
  const results: T[] = []
  let next = 0
  const worker = async () => {
    for (let n = next++; n < count; n = next++) results[n] = await work(n)
  }
  await Promise.all(Array.from({ length: width }, worker))
  return results
}

interface Told {
  readonly type: string
  readonly task?: string
  readonly lease?: string
  readonly partition: number
  readonly stream_id: string
  readonly detail?: { readonly selector?: { readonly task?: string[] } }
}
async function events(): Promise<Told[]> {
  await test.broker.audit()?.flush()
  const text = await readFile(join(test.folder, 'audit/events.jsonl'), 'utf8')
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

/** Where each stop fell, read off what was recorded, not off what was meant. */
async function placesOf(interleavings: readonly Interleaving[]) {
  const told = await events()
  const with_ = (type: string) => new Set(told.filter((one) => one.type === type).map((one) => one.task))
  const [reserved, issued] = [with_('lease.reserved'), with_('lease.issued')]
  const places = { before_reserve: 0, between: 0, after_activate: 0 }
  for (const { task } of interleavings) places[issued.has(task) ? 'after_activate' : reserved.has(task) ? 'between' : 'before_reserve']++
  return places
}

function expectEachPlace(places: Record<string, number>): void {
  for (const [place, count] of Object.entries(places))
    expect(count < AT_LEAST ? `${place}: only ${count} of ${JSON.stringify(places)}` : 'enough').toBe('enough')
}

describe.each([
  ['complete', (task: string) => test.call('POST', `/v1/tasks/${task}/complete`, flows, {}), 200],
  ['emergency revoke', (task: string) => test.call('POST', '/v1/emergency/revoke', oncall, { selector: { task }, reason: 'race' }), 202],
] as const)('%s against issue', (_what, stop, accepted) => {
  it(`leaves nothing alive in ${INTERLEAVINGS} interleavings`, async () => {
    const interleavings = await interleave(stop)
    for (const { issued, stopped } of interleavings) {
      expect(stopped.status).toBe(accepted)
      expect([201, 409]).toContain(issued.status)
    }
    expectEachPlace(await placesOf(interleavings))
    await waitFor('every credential to be gone upstream', async () => (await usersUpstream()).length === 0, 30_000)
    // And none comes back: what was acknowledged as ended stays so.
    const again = await inParallel(50, (n) => obtain(interleavings[n]?.task ?? ''))
    for (const answer of again) expect(answer.body.code).toBe('task_ended')
    expect(await usersUpstream()).toEqual([])
  }, 300_000)
})

describe('freeze against issue', () => {
  it(`issues nothing after the freeze is acknowledged, in ${INTERLEAVINGS} interleavings`, async () => {
    const interleavings = await interleave((task) => test.call('POST', '/v1/freezes', oncall, { selector: { task }, reason: 'race' }))
    const told = await events()
    const order = (one: Told) => one.stream_id.split('-').map(Number) as [number, number]
    const frozenAt = new Map(
      told
        .filter((one) => one.type === 'freeze.set')
        .flatMap((one) => (one.detail?.selector?.task ?? []).map((task) => [`${one.partition} ${task}`, order(one)])),
    )
    for (const one of told.filter((event) => event.type === 'lease.issued')) {
      const frozen = frozenAt.get(`${one.partition} ${one.task}`)
      if (!frozen) continue
      const [at, n] = order(one)
      expect(at < frozen[0] || (at === frozen[0] && n < frozen[1])).toBe(true)
    }
    expectEachPlace(await placesOf(interleavings))
    await inParallel(INTERLEAVINGS, (n) => test.call('POST', `/v1/tasks/${interleavings[n]?.task}/complete`, flows, {}))
    await waitFor('every credential to be gone upstream', async () => (await usersUpstream()).length === 0, 30_000)
  }, 300_000)
})

describe('renew against expiry', () => {
  it(`either renews or refuses, and nothing outlives its time, in ${INTERLEAVINGS} interleavings`, async () => {
    const task = await openTask()
    const outcomes = { renewed: 0, refused: 0 }
    await inParallel(
      INTERLEAVINGS,
      async () => {
        const { body } = await obtain(task, 1)
        const expires = Date.parse(body.lease.expires_at)
        const fresh = await test.token('triage')
        // From well before to just after, since the request takes its time too.
        const at = expires - 120 + Math.random() * 150
        await waitFor('the expiry to be near', () => Date.now() > at - 15)
        await elapse(at - Date.now())
        const answer = await test.call('POST', `/v1/leases/${body.lease.id}/renew`, fresh, { ttl: 1 })
        expect([200, 409]).toContain(answer.status)
        outcomes[answer.status === 200 ? 'renewed' : 'refused']++
        if (answer.status === 409) expect(answer.body.code).toBe('lease_ended')
        else expect(Date.parse(answer.body.lease.issued_at)).toBeLessThan(expires)
        if (answer.status === 200) expect(Date.parse(answer.body.lease.expires_at)).toBeGreaterThan(expires)
      },
      WAITING_AT_ONCE,
    )
    console.info(JSON.stringify(outcomes))
    for (const [outcome, count] of Object.entries(outcomes)) expect(count < AT_LEAST ? `${outcome}: only ${count}` : 'enough').toBe('enough')
    await waitFor('every credential to be gone upstream', async () => (await usersUpstream()).length === 0, 30_000)
  }, 300_000)
})
