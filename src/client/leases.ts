import type { Approval, ApprovalAnswer, IssuedAnswer, Lease, LeaseRequest, RenewedAnswer } from '../api.js'
import { MayflyApprovalPending } from './error.js'
import { type CallOptions, type OnBehalfOf, pause, type Transport, withHuman } from './transport.js'

export interface WaitOptions extends CallOptions, OnBehalfOf {
  /** Seconds to wait for humans, where policy asks for one; absent: not at all. */
  readonly wait?: number
}

/** What an agent does with credentials. */
export interface Leases {
  /**
   * Mints a credential. Safe against a lost answer: a repeat under the same key closes the first lease and mints anew. Where a human has to
   * agree, waits for it as long as `wait` says and then presents the approval. `onBehalfOf`: both the agent and the human must be allowed.
   * @throws MayflyApprovalPending while nobody has agreed
   */
  obtain(ask: LeaseRequest, options?: WaitOptions): Promise<IssuedAnswer>
  /** What became of a question to humans. */
  approval(id: string, options?: CallOptions): Promise<Approval>
  /** The record, never the secret. */
  get(id: string, options?: CallOptions): Promise<Lease>
  /**
   * `ttl` in seconds. A `credential` in the answer takes the place of the one before. Asks the token source for a fresh token; what was obtained
   * with a human's token takes a newer one of theirs.
   */
  renew(id: string, ask?: { ttl?: number; approval?: string }, options?: WaitOptions): Promise<RenewedAnswer>
  /** Returns it. `wait`: seconds to wait for the upstream's confirmation, at most 60. */
  release(id: string, options?: CallOptions & { wait?: number }): Promise<Lease>
}

export function leases(send: Transport): Leases {
  return {
    obtain: (ask, { wait, signal, onBehalfOf } = {}) => {
      const once = (approval = ask.approval) => {
        const headers = { 'idempotency-key': globalThis.crypto.randomUUID() }
        return send<IssuedAnswer | ApprovalAnswer>({
          method: 'POST',
          path: 'v1/leases',
          body: withHuman({ ...ask, approval }, onBehalfOf),
          headers,
          repeatable: true,
          signal,
        })
      }
      return consented(send, once, { wait, signal })
    },
    approval: (id, options) => approvalOf(send, id, options),
    get: async (id, options) => {
      const { lease } = await send<{ lease: Lease }>({ method: 'GET', path: `v1/leases/${encodeURIComponent(id)}`, repeatable: true, ...options })
      return lease
    },
    renew: (id, ask = {}, { wait, signal, onBehalfOf } = {}) => {
      const path = `v1/leases/${encodeURIComponent(id)}/renew`
      const once = (approval = ask.approval) =>
        send<RenewedAnswer | ApprovalAnswer>({
          method: 'POST',
          path,
          body: withHuman({ ...ask, approval }, onBehalfOf),
          freshToken: true,
          repeatable: false,
          signal,
        })
      return consented(send, once, { wait, signal })
    },
    release: async (id, { wait, signal } = {}) => {
      const path = `v1/leases/${encodeURIComponent(id)}`
      const { lease } = await send<{ lease: Lease }>({ method: 'DELETE', path, query: { wait }, waitSeconds: wait, repeatable: true, signal })
      return lease
    },
  }
}

const POLL_MS = 3_000

/** Asks, waits for the humans, and asks again with what they gave. What they refused, or left until it was too late, is the broker's to say. */
async function consented<Answer extends object>(
  send: Transport,
  once: (approval?: string) => Promise<Answer | ApprovalAnswer>,
  { wait = 0, signal }: WaitOptions,
): Promise<Answer> {
  const patience = AbortSignal.timeout(wait * 1000)
  const until = signal ? AbortSignal.any([signal, patience]) : patience
  let answer = await once()
  while ('approval' in answer) {
    let { approval } = answer
    while (approval.state === 'open') {
      if (wait <= 0) throw new MayflyApprovalPending(approval)
      await pause(POLL_MS, until).catch(() => {
        signal?.throwIfAborted()
        throw new MayflyApprovalPending(approval)
      })
      approval = await approvalOf(send, approval.id, { signal })
    }
    answer = await once(approval.id)
  }
  return answer
}

async function approvalOf(send: Transport, id: string, options?: CallOptions): Promise<Approval> {
  const { approval } = await send<ApprovalAnswer>({ method: 'GET', path: `v1/approvals/${encodeURIComponent(id)}`, repeatable: true, ...options })
  return approval
}
