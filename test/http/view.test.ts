import { describe, expect, it } from '@jest/globals'
import * as api from '../../src/api.js'
import { leaseView } from '../../src/http/view.js'
import type { LeaseRecord } from '../../src/types.js'

const at = Date.now()
const lease: LeaseRecord = {
  id: `lease_00${'a'.repeat(26)}`,
  task: `task_00${'a'.repeat(26)}`,
  state: 'active',
  agent: 'triage',
  role: 'reader',
  provider: 'cluster',
  access: 'read',
  scope: {},
  revocation: 'immediate',
  residualSeconds: 10,
  issuedAt: at,
  expiresAt: at + 60_000,
  renewableUntil: at + 600_000,
}
const usableUntil = at + 600_000
/** As it is sent. */
const sent = (record: LeaseRecord): api.Lease => api.Lease.strict().parse(JSON.parse(JSON.stringify(leaseView(record, Date))))

describe('the view of a lease', () => {
  it('says until when its upstream lets it go on, where that is longer than the lease', () => {
    expect(sent({ ...lease, usableUntil })).toMatchObject({
      expires_at: new Date(at + 60_000).toISOString(),
      usable_until: new Date(usableUntil).toISOString(),
      revocation: { mode: 'immediate', residual_seconds: 10 },
    })
    expect(sent(lease)).not.toHaveProperty('usable_until')
  })

  it('reckons what cannot be taken back to the end of its upstream, and to its own where there is no other', () => {
    const residual = (record: LeaseRecord) => sent({ ...record, revocation: 'at-expiry' }).revocation.residual_seconds
    const passed = () => Math.ceil((Date.now() - at) / 1_000)
    for (const [record, seconds] of [
      [{ ...lease, usableUntil }, 610],
      [lease, 70],
    ] as const) {
      const told = residual(record)
      expect(told).toBeLessThanOrEqual(seconds)
      expect(told).toBeGreaterThanOrEqual(seconds - passed())
    }
    expect(residual({ ...lease, expiresAt: at - 600_000, usableUntil: at - 60_000 })).toBe(10)
  })
})
