import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { NewLease } from '../../src/ledger/ledger.js'
import { event, type Fixture, makeDue, openTask, PLENTY, reserved, setFields, startLedger, taskNow, tokenNow } from './fixture.js'

/** The keys that a broker must have, because unsettled leases' handles are encrypted with them. */

let fixture: Fixture
beforeAll(async () => {
  fixture = await startLedger()
})
afterAll(() => fixture.stop())

const minted = (key: string | undefined) => ({ handle: { sealed: key ?? '' }, sealedBy: key, expiresAt: fixture.ledger.now() + 600_000 })
const activate = (lease: NewLease, key: string | undefined) => fixture.ledger.activate(lease, minted(key), event('lease.issued', { lease: lease.id }))
const recordKey = (id: string) => `mf:{p${id.slice(6, 8)}}:lease:${id}`

describe('the keys in use', () => {
  it('are those of what is unsettled, in any partition', async () => {
    const { ledger } = fixture
    const leases = []
    for (let n = 0; n < 8; n++) {
      const lease = await reserved(ledger, (await openTask(ledger)).id)
      expect(await activate(lease, n < 4 ? 'old key: {*}' : 'new')).toEqual({ state: 'active' })
      leases.push(lease)
    }
    expect(new Set(leases.map(({ id }) => id.slice(6, 8))).size).toBeGreaterThan(1)
    const settle = async (id: string) => {
      await ledger.close(id, 'released', event('lease.closing'))
      await ledger.settle({ lease: id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
    }
    for (const { id } of leases.slice(1)) {
      expect(await ledger.sealingKeysInUse()).toEqual(expect.arrayContaining(['old key: {*}']))
      await settle(id)
    }
    expect(await ledger.sealingKeysInUse()).toEqual(['old key: {*}'])
    await settle(leases[0]?.id ?? '')
    expect(await ledger.sealingKeysInUse()).toEqual([])
  })

  it('are none where handles are no secrets', async () => {
    const { ledger, redis } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id)
    await activate(lease, undefined)
    expect(await ledger.sealingKeysInUse()).toEqual([])
    expect(await redis.client.hexists(recordKey(lease.id), 'sk')).toBe(0)
    expect(await redis.client.keys('*:sealed')).toEqual([])
  })

  it('are kept by a renewal', async () => {
    const { ledger } = fixture
    const lease = await reserved(ledger, (await openTask(ledger)).id)
    await activate(lease, 'kept')
    const { contextVersion, obtained } = await taskNow(ledger, lease.task)
    const renewed = await ledger.renew(
      lease.id,
      { ttlSeconds: 900, facts: { contextVersion, obtained }, tokenIssuedAt: tokenNow(ledger) },
      event('lease.renewed'),
    )
    expect(renewed).toMatchObject({ ok: true, lease: { handle: { sealed: 'kept' } } })
    expect(await ledger.sealingKeysInUse()).toEqual(['kept'])
    await ledger.close(lease.id, 'released', event('lease.closing'))
    await ledger.settle({ lease: lease.id, attempt: 1 }, { result: 'revoked' }, event('lease.revoked'))
  })
})

const LEASES = 3
const KEYS = ['one', 'two', undefined] as const
const which = fc.nat(LEASES - 1)
const STEPS = fc.oneof(
  fc.record({ step: fc.constant('activate' as const), lease: which, key: fc.constantFrom(...KEYS) }),
  fc.record({ step: fc.constantFrom('close', 'revoked', 'absent', 'awaits_expiry', 'failed', 'mint over', 'expire', 'forget'), lease: which }),
  fc.record({ step: fc.constantFrom('sweep', 'end task'), lease: fc.constant(0) }),
)

it('are counted once each, in any order of what may happen to a lease', async () => {
  const { ledger, redis } = fixture
  const check = async (steps: readonly { step: string; lease: number; key?: (typeof KEYS)[number] }[], ends: boolean) => {
    const run = randomUUID()
    const task = await openTask(ledger)
    const leases: NewLease[] = []
    for (let n = 0; n < LEASES; n++) leases.push(await reserved(ledger, task.id, { expiryEndsUse: ends }))

    const recordsNow = () => Promise.all(leases.map(({ id }) => redis.client.hgetall(recordKey(id))))
    const countsAreRight = async (after: string) => {
      const wanted: Record<string, string> = {}
      for (const { s, ha } of await recordsNow()) {
        const { sealed } = JSON.parse(ha ?? '{}') as { sealed?: string }
        if (sealed && s && 'pac'.includes(s)) wanted[sealed] = String(Number(wanted[sealed] ?? 0) + 1)
      }
      const counts = await redis.client.hgetall(`mf:{p${task.id.slice(5, 7)}}:sealed`)
      expect({ after, counts: Object.fromEntries(Object.entries(counts).filter(([key]) => key.startsWith(run))) }).toEqual({ after, counts: wanted })
    }
    const due = (id: string, fields: Record<string, number>) =>
      setFields(redis, 'lease', id, fields)
        .then(() => makeDue(redis, 'due:warehouse', id))
        .catch(() => undefined)
    const settle = async (id: string, result: 'revoked' | 'absent' | 'awaits_expiry' | 'failed') => {
      const attempt = (await ledger.lease(id))?.attempts ?? 0
      await ledger.settle({ lease: id, attempt }, result === 'failed' ? { result, error: 'x' } : { result }, event('lease.revoked'))
    }
    const take = async ({ step, lease: n, key }: (typeof steps)[number]): Promise<unknown> => {
      const lease = leases[n]
      if (!lease) throw new Error(`there is no lease ${n}`)
      const { s } = await redis.client.hgetall(recordKey(lease.id))
      switch (step) {
        case 'activate':
          return activate(lease, key && `${run} ${key}`)
        case 'close':
          return ledger.close(lease.id, 'released', event('lease.closing'))
        case 'revoked':
        case 'absent':
        case 'awaits_expiry':
        case 'failed':
          return settle(lease.id, step)
        case 'mint over':
          return s && 'pc'.includes(s) && due(lease.id, { mu: ledger.now() - 1_000 })
        case 'expire':
          return s && 'ac'.includes(s) && due(lease.id, { xa: ledger.now() - 1_000 })
        case 'sweep':
          return ledger.claim(PLENTY)
        case 'end task':
          return ledger.endTask(task.id, { state: 'failed', cause: 'task_failed' }, event('task.ended'))
        case 'forget':
          // What Redis does once the retention is over.
          return s && 're'.includes(s) && redis.client.del(recordKey(lease.id))
      }
      throw new Error(`there is no step ${step}`)
    }
    for (const one of steps) {
      await take(one)
      await countsAreRight(JSON.stringify(one))
    }
    for (const { id } of leases) {
      await ledger.close(id, 'released', event('lease.closing'))
      await settle(id, 'revoked')
    }
    expect((await ledger.sealingKeysInUse()).filter((key) => key.startsWith(run))).toEqual([])
  }
  await fc.assert(fc.asyncProperty(fc.array(STEPS, { minLength: 1, maxLength: 25 }), fc.boolean(), check), { numRuns: 150 })
}, 60_000)
