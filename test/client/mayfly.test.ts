import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { LeaseRequest, TaskRequest } from '../../src/api.js'
import { Mayfly, type MayflyApiError, MayflyUnreachableError } from '../../src/client/index.js'
import { waitFor } from '../support/wait.js'
import { issued, LEASE_ID, lease, problem, startWire, TASK_ID, task, type Wire } from './wire.js'

let wire: Wire
let mayfly: Mayfly
beforeAll(async () => {
  wire = await startWire()
})
beforeEach(() => {
  wire.asked.length = 0
  mayfly = new Mayfly({ url: wire.url, token: 'a.b.c', timeoutMs: 2_000 })
})
afterAll(() => wire.stop())

const ask = { intent: 'deploy', envelope: [{ role: 'api-token' }], assignees: [{ agent: 'triage' }], deadline_at: '2030-01-01T00:00:00Z' }
const refused = (promise: Promise<unknown>): Promise<MayflyApiError> =>
  promise.then(
    () => {
      throw new Error('it was not refused')
    },
    (error: MayflyApiError) => error,
  )

describe('a request', () => {
  it('is what the broker takes, below the path of its URL', async () => {
    wire.answers({ status: 201, body: issued() })
    const behind = new Mayfly({ url: `${wire.url}/mayfly`, token: 'a.b.c' })
    const answer = await behind.leases.obtain({ task: TASK_ID, role: 'api-token', ttl: 60, scope: { prefix: 'a/b' } })
    expect(answer.lease.id).toBe(LEASE_ID)
    expect(wire.asked).toMatchObject([{ method: 'POST', path: '/mayfly/v1/leases', headers: { authorization: 'Bearer a.b.c' } }])
    expect(LeaseRequest.safeParse(wire.asked[0]?.body).success).toBe(true)
  })
  it('shows the token of its own moment, because tokens rotate', async () => {
    let n = 0
    wire.answers({ status: 200, body: { lease: lease() } })
    const rotating = new Mayfly({ url: wire.url, token: async () => `token-${++n}\n` })
    await rotating.leases.get(LEASE_ID)
    await rotating.leases.get(LEASE_ID)
    expect(wire.asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer token-1', 'Bearer token-2'])
  })
  it('shows no token where it has none: its connection says who is calling', async () => {
    wire.answers({ status: 200, body: { lease: lease() } })
    await new Mayfly({ url: wire.url }).leases.get(LEASE_ID)
    expect(wire.asked[0]?.headers).not.toHaveProperty('authorization')
  })
  it('is not sent with what can be no token', async () => {
    for (const token of ['', 'a\nb', 'ü']) await expect(new Mayfly({ url: wire.url, token }).whoami()).rejects.toThrow(/token/)
    expect(wire.asked).toEqual([])
  })
  it('is on behalf of a human with a token of its own moment, at each attempt', async () => {
    let n = 0
    const onBehalfOf = async () => `human-${++n}\n`
    wire.answers({ status: 503, body: problem(503, 'ledger_unavailable').body, headers: { 'retry-after': '0' } }, { status: 201, body: issued() })
    await mayfly.leases.obtain({ task: TASK_ID, role: 'api-token' }, { onBehalfOf })
    expect(wire.asked.map(({ body }) => (body as LeaseRequest).on_behalf_of)).toEqual(['human-1', 'human-2'])
    expect(LeaseRequest.safeParse(wire.asked[0]?.body).success).toBe(true)
    wire.answers({ status: 200, body: { lease: lease() } })
    await mayfly.leases.renew(LEASE_ID, { ttl: 60 }, { onBehalfOf })
    wire.answers({ status: 201, body: { task: task() } })
    await mayfly.tasks.open(ask, { onBehalfOf: 'human' })
    await mayfly.tasks.open(ask)
    expect(wire.asked.slice(2).map(({ body }) => body)).toEqual([{ ttl: 60, on_behalf_of: 'human-3' }, { ...ask, on_behalf_of: 'human' }, ask])
  })
  it('keeps an id in its place', async () => {
    wire.answers(problem(404, 'not_found'))
    await refused(mayfly.tasks.get('../freezes?x='))
    expect(wire.asked[0]?.path).toBe('/v1/tasks/..%2Ffreezes%3Fx%3D')
  })
})

describe('a refusal', () => {
  it('has the code, what to do next and where to read more', async () => {
    const no = problem(429, 'quota_exceeded', { next: 'return a lease', instance: 'urn:mayfly:event:1', policies: ['p'] })
    wire.answers({ ...no, headers: { 'retry-after': '7' } })
    const error = await refused(mayfly.leases.obtain({ task: TASK_ID, role: 'api-token' }))
    expect(error).toMatchObject({
      name: 'MayflyApiError',
      code: 'quota_exceeded',
      status: 429,
      next: 'return a lease',
      instance: 'urn:mayfly:event:1',
      retryAfterSeconds: 7,
      policies: ['p'],
      message: 'it is quota_exceeded',
    })
    expect(wire.asked).toHaveLength(1)
  })
  it('by something that is no broker says so, and a redirect is not followed', async () => {
    wire.answers({ status: 502, body: '<html>' })
    expect(await refused(mayfly.whoami())).toMatchObject({ code: 'unexpected_answer', status: 502 })
    wire.asked.length = 0
    wire.answers({ status: 307, body: {}, headers: { location: `${wire.url}/elsewhere` } })
    expect(await refused(mayfly.whoami())).toMatchObject({ code: 'unexpected_answer', status: 307 })
    expect(wire.asked).toHaveLength(1)
  })
})

describe('sending again', () => {
  const busy = problem(503, 'ledger_unavailable')
  const later = { ...busy, headers: { 'retry-after': '0' } }

  it('obtains under one key of its own, at most twice more', async () => {
    wire.answers('cut', later, { status: 201, body: issued() })
    await mayfly.leases.obtain({ task: TASK_ID, role: 'api-token' })
    const keys = wire.asked.map(({ headers }) => headers['idempotency-key'])
    expect(keys).toHaveLength(3)
    expect(new Set(keys).size).toBe(1)
    wire.asked.length = 0
    wire.answers('cut')
    await expect(mayfly.leases.obtain({ task: TASK_ID, role: 'api-token' })).rejects.toBeInstanceOf(MayflyUnreachableError)
    expect(wire.asked).toHaveLength(3)
    expect(wire.asked[0]?.headers['idempotency-key']).not.toBe(keys[0])
  })
  it.each([
    ['a return', (m: Mayfly) => m.leases.release(LEASE_ID), { lease: lease({ state: 'revoked' }) }],
    ['a heartbeat', (m: Mayfly) => m.tasks.heartbeat(TASK_ID), { state: 'active' }],
    ['an end', (m: Mayfly) => m.tasks.complete(TASK_ID), { state: 'completed', closing: 0 }],
    ['opening by an external id', (m: Mayfly) => m.tasks.open({ ...ask, external_id: 'x' }), { task: task() }],
  ])('happens for %s', async (_what, call, body) => {
    wire.answers('cut', { status: 200, body })
    await call(mayfly)
    expect(wire.asked).toHaveLength(2)
  })
  it.each([
    ['a renewal', (m: Mayfly) => m.leases.renew(LEASE_ID)],
    ['opening without an external id', (m: Mayfly) => m.tasks.open(ask)],
    ['the stop', (m: Mayfly) => m.operator.emergencyRevoke({ selector: { all: true }, reason: 'r' })],
  ])('does not happen for %s', async (_what, call) => {
    wire.answers('cut')
    await expect(call(mayfly)).rejects.toBeInstanceOf(MayflyUnreachableError)
    expect(wire.asked).toHaveLength(1)
  })
  it('does not happen after a 503 that does not say when', async () => {
    wire.answers(busy)
    expect(await refused(mayfly.whoami())).toMatchObject({ code: 'ledger_unavailable' })
    expect(wire.asked).toHaveLength(1)
  })
})

it('asks for a fresh token to renew with, and for any other request for none', async () => {
  const needs: boolean[] = []
  const token = ({ fresh }: { fresh: boolean }) => {
    needs.push(fresh)
    return 'a.b.c'
  }
  wire.answers({ status: 200, body: { lease: lease() } }, { status: 200, body: { lease: lease() } })
  const kept = new Mayfly({ url: wire.url, token })
  await kept.leases.get(LEASE_ID)
  await kept.leases.renew(LEASE_ID)
  expect(needs).toEqual([false, true])
})

describe('waiting', () => {
  it('ends when the time allowed is over', async () => {
    wire.answers('silent')
    const hasty = new Mayfly({ url: wire.url, token: 'a.b.c', timeoutMs: 50 })
    await expect(hasty.whoami()).rejects.toThrow(/within 50 ms/)
  })
  it("ends with the caller's signal, and its reason", async () => {
    wire.answers('silent')
    const stop = new AbortController()
    const call = mayfly.whoami({ signal: stop.signal })
    await waitFor('the request to arrive', () => wire.asked.length === 1)
    stop.abort(new Error('enough'))
    await expect(call).rejects.toThrow('enough')
  })
})

describe('a task as a block', () => {
  it('is completed when the block ends', async () => {
    wire.answers({ status: 201, body: { task: task() } }, { status: 201, body: issued() }, { status: 200, body: { state: 'completed', closing: 1 } })
    const result = await mayfly.task(ask, async (open) => (await open.obtain('api-token')).lease.id)
    expect(result).toBe(LEASE_ID)
    expect(wire.asked.map(({ path }) => path)).toEqual(['/v1/tasks', '/v1/leases', `/v1/tasks/${TASK_ID}/complete`])
    expect(TaskRequest.safeParse(wire.asked[0]?.body).success).toBe(true)
  })
  it('is failed when the block throws, and what it threw stays here', async () => {
    wire.answers({ status: 201, body: { task: task() } }, { status: 200, body: { state: 'failed', closing: 0 } })
    await expect(mayfly.task(ask, () => Promise.reject(new Error('the password is hunter2')))).rejects.toThrow('hunter2')
    expect(wire.asked.at(-1)?.path).toBe(`/v1/tasks/${TASK_ID}/fail`)
    expect(JSON.stringify(wire.asked)).not.toContain('hunter2')
  })
  it('is told to stop when the task ended without it', async () => {
    wire.answers({ status: 201, body: { task: task({ heartbeat_seconds: 1 }) } }, { status: 200, body: { state: 'revoked' } })
    const block = mayfly.task(ask, ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))))
    await expect(block).rejects.toThrow(`task ${TASK_ID} is revoked`)
    expect(wire.asked[1]?.path).toBe(`/v1/tasks/${TASK_ID}/heartbeat`)
  })
})
