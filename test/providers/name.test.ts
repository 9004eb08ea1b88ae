import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { leaseOfName, upstreamName } from '../../src/providers/name.js'
import { ProviderError } from '../../src/providers/provider.js'
import { newLeaseId } from './harness.js'

const instances = fc.stringMatching(/^[a-z0-9-]{1,20}$/)

describe('names made upstream', () => {
  it('lead back to the lease, and fit into 63 bytes', () => {
    fc.assert(
      fc.property(instances, (instance) => {
        const lease = newLeaseId()
        const name = upstreamName(instance, lease)
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63)
        expect(leaseOfName(instance, name)).toBe(lease)
      }),
    )
  })

  it('of one instance are never taken for those of another', () => {
    fc.assert(
      fc.property(instances, instances, (one, other) => {
        fc.pre(one !== other)
        expect(leaseOfName(other, upstreamName(one, newLeaseId()))).toBeUndefined()
      }),
    )
    expect(leaseOfName('prod', upstreamName('prod-eu', newLeaseId()))).toBeUndefined()
  })

  it('are made of nothing else than a lease id and an instance name', () => {
    for (const lease of [
      '',
      'lease_',
      'task_17aaaaaaaaaaaaaaaaaaaaaaaaaa',
      'lease_17AAAAAAAAAAAAAAAAAAAAAAAAAA',
      `${newLeaseId()}-`,
      `x${newLeaseId()}`,
    ])
      expect(() => upstreamName('prod', lease)).toThrow(ProviderError)
    for (const instance of ['', 'Prod', 'a b', 'a'.repeat(21), 'a"b', 'ä']) expect(() => upstreamName(instance, newLeaseId())).toThrow(ProviderError)
  })
})
