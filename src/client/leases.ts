import type { IssuedAnswer, Lease, LeaseRequest, RenewedAnswer } from '../api.js'
import type { CallOptions, Transport } from './transport.js'

/** What an agent does with credentials. */
export interface Leases {
  /** Mints a credential. Safe against a lost answer: a repeat under the same key closes the first lease and mints anew. */
  obtain(ask: LeaseRequest, options?: CallOptions): Promise<IssuedAnswer>
  /** The record, never the secret. */
  get(id: string, options?: CallOptions): Promise<Lease>
  /** `ttl` in seconds. A `credential` in the answer takes the place of the one before. */
  renew(id: string, ask?: { ttl?: number }, options?: CallOptions): Promise<RenewedAnswer>
  /** Returns it. `wait`: seconds to wait for the upstream's confirmation, at most 60. */
  release(id: string, options?: CallOptions & { wait?: number }): Promise<Lease>
}

export function leases(send: Transport): Leases {
  return {
    obtain: (ask, options) => {
      const headers = { 'idempotency-key': globalThis.crypto.randomUUID() }
      return send({ method: 'POST', path: 'v1/leases', body: ask, headers, repeatable: true, ...options })
    },
    get: async (id, options) => {
      const { lease } = await send<{ lease: Lease }>({ method: 'GET', path: `v1/leases/${encodeURIComponent(id)}`, repeatable: true, ...options })
      return lease
    },
    renew: (id, ask = {}, options) =>
      send({ method: 'POST', path: `v1/leases/${encodeURIComponent(id)}/renew`, body: ask, repeatable: false, ...options }),
    release: async (id, { wait, signal } = {}) => {
      const path = `v1/leases/${encodeURIComponent(id)}`
      const { lease } = await send<{ lease: Lease }>({ method: 'DELETE', path, query: { wait }, waitSeconds: wait, repeatable: true, signal })
      return lease
    },
  }
}
