import type { z } from 'zod'
import type { Handle, Register, Revocation, Scope, ScopeKind } from '../types.js'

export type { Lock, Register, RegisterEntry } from '../types.js'

/**
 * The contract between Mayfly and one upstream: plan, mint, revoke. `test/providers/contract.ts` holds every provider to it.
 *
 * A provider has two halves. The **module** is what the configuration needs (schemas, role check) and must be cheap to import;
 * the **provider** is one configured upstream, opened, and loads the upstream's client library in `open`.
 */
export interface ProviderModule<Options = unknown, Params = unknown> {
  /** Name in the configuration, e.g. `postgres`. */
  readonly type: string
  readonly options: z.ZodType<Options>
  readonly params: z.ZodType<Params>
  /** What the configuration must have for this type of provider, besides its own options. */
  readonly needs?: readonly ('signing' | 'sealing')[]
  /** Options that are secrets: the configuration takes them as `env:NAME` or `file:PATH` alone. */
  readonly secrets?: readonly string[]
  /** What is wrong with one role, in sentences; found when the configuration is read. Empty: nothing. */
  checkRole(params: Params, scope: Readonly<Record<string, ScopeKind>>, options: Options): string[]
  /**
   * What of the parameters lets a role reach other credentials: what it reads of secrets, or writes of who may do what. Such a role has access
   * `escalate`, whatever it does otherwise. Only what can be seen here; absent, or empty: nothing.
   */
  escalates?(params: Params): string[]
  /** Which upstream the options point at, without its credentials: what a reload may not change under live leases. */
  target(options: Options): string
  open(options: Options, context: ProviderContext): Promise<Provider<Params>>
}

/** The small capabilities a provider is opened with. */
export interface ProviderContext {
  /** Name of this provider in the configuration. */
  readonly name: string
  /** Name of this installation: part of every name made upstream. */
  readonly instance: string
  /** Longest that one call to the upstream may take, milliseconds. */
  readonly timeoutMs: number
  /** Mints and revokes that may run at once, each; a provider with a connection pool makes room for both. */
  readonly concurrency: number
  /** Present when the configuration has `signing`. */
  readonly signer?: Signer
  /** The ledger's clock, ms, which every lease's times are of; the process's own where there is no ledger, as when only `check` is asked. */
  readonly now?: () => number
  /** What this provider withdrew and must go on withdrawing, for upstreams that only know lists: durable, shared by all brokers. Absent where there is no ledger, as when only `check` is asked. */
  readonly register?: Register
  /** What operators and auditors must know and no lease tells: an event `provider.told`, and a line in the log. No secrets. */
  tell?(what: string, detail: Readonly<Record<string, unknown>>): void
  /**
   * Closes the live leases of all roles with such parameters, because what was minted for them no longer works upstream: an upstream that
   * could withdraw one only together with others. Carried on by every broker until it is done.
   */
  withdraw?(why: string, concerns: (params: unknown) => boolean): void
}

/** Signs what Mayfly asserts. */
export interface Signer {
  readonly issuer: string
  /**
   * Compact JWS; `iat`, `exp`, `nbf` are the caller's, in seconds. Adds `iss` and the `kid` of the active key, or of the first of this `alg`
   * for an upstream that verifies nothing else. @throws Error when there is none
   */
  sign(claims: Readonly<Record<string, unknown>>, header: { readonly typ: string; readonly alg?: 'RS256' }): Promise<string>
}

/** What is known of a lease before anything exists upstream. */
export interface LeasePlan {
  readonly id: string
  readonly task: string
  readonly agent: string
  readonly owner: string
  readonly human?: string
  /** Agents through which the task was handed on, the first one first, this one last. Absent: it was not. */
  readonly chain?: readonly string[]
  readonly role: string
  readonly scope: Scope
}

export interface MintRequest<Params> {
  readonly lease: LeasePlan
  readonly handle: Handle
  readonly params: Params
  readonly issuedAt: number
  /** When the credential must stop working by itself, if the upstream can. Ledger's clock, ms. */
  readonly expiresAt: number
  /** Absolute end of the mint, ledger's clock, ms. Passed on to the upstream, because a paused broker defeats relative ones. */
  readonly until: number
  /** `until` seen from here: milliseconds left when `mint` was called. */
  readonly deadlineMs: number
}

/** The one time that the secret is in memory. `fields` are described on the provider's page. */
export interface Credential {
  readonly type: string
  readonly fields: Readonly<Record<string, unknown>>
  /** What a process needs in its environment to use it. */
  readonly env: Readonly<Record<string, string>>
}
export interface Minted {
  readonly credential: Credential
  /** Replaces the planned handle where only the mint knows it. */
  readonly handle?: Handle
  /** The upstream's own expiry where it is earlier than asked for. */
  readonly expiresAt?: number
  /** The upstream's own expiry where it is later than asked for: the lease is closed at its own, and usable until this if no revoke comes through. */
  readonly usableUntil?: number
}

/** What a revoke may know of the lease besides its handle. */
export interface RevokeAbout {
  /** True: its task, or one above it, is over, so that nothing is ever issued for it again. */
  readonly taskEnded: boolean
  /** When the credential stops working by itself at the latest, ms on the ledger's clock. */
  readonly usableUntil: number
  /** No mint of it came to its end after this, ms on the ledger's clock; absent: nobody knows. */
  readonly mintedBy?: number
}

/** Something a provider publishes for whoever checks its credentials: a CRL, a KRL, a CA certificate. Served without authentication. */
export interface PublishedDocument {
  /** Last part of `/v1/providers/<provider>/<name>`, e.g. `crl.der`. */
  readonly name: string
  readonly contentType: string
  read(): Promise<Buffer>
}

export interface Provider<Params = unknown> {
  readonly type: string
  readonly revocation: Revocation
  /** Worst case between a confirmed revoke and "no longer works". */
  readonly residualSeconds: number
  /** True: nothing exists upstream, so the ledger's `grant` (one round trip) is enough. */
  readonly inProcess: boolean
  /**
   * `returned`: only the mint knows the handle. Then `blindWindowSeconds` says how long a credential whose handle was lost with the broker may
   * live, and `expiryEndsUse` must be true.
   */
  readonly handle: 'planned' | 'returned'
  readonly blindWindowSeconds?: number
  /** The upstream gives no credential a shorter life than this, whatever was asked for. */
  readonly shortestLifeSeconds?: number
  /** True: a revoke also ends sessions that were opened before it. */
  readonly cutsSessions: boolean
  /** Revokes that may wait together, where they share one call to the upstream; by default as many as `concurrency`. */
  readonly revokesAtOnce?: number
  /** Read by whoever checks its credentials. */
  readonly documents?: readonly PublishedDocument[]
  /** True: the handle is itself a secret and is stored encrypted. */
  readonly sensitiveHandle: boolean
  /** True where the upstream's expiry ends all use; false where open sessions outlive it, or there is none. */
  readonly expiryEndsUse: boolean
  /**
   * Pure: upstream names derived from the lease id. Self-sufficient: revocable after its role is gone from the configuration.
   * `{}` where only the mint knows the handle (`returned`).
   */
  plan(lease: LeasePlan, params: Params): Handle
  mint(request: MintRequest<Params>): Promise<Minted>
  /** Idempotent; `absent` is success; safe before, during and after the mint. Not called for `at-expiry`, nor for a handle that was never learnt. */
  revoke(handle: Handle, deadlineMs: number, about?: RevokeAbout): Promise<'revoked' | 'absent'>
  /** Where the upstream can extend a credential in place. */
  renew?(handle: Handle, expiresAt: number, deadlineMs: number): Promise<void>
  /** Probes that the credential no longer works. */
  verify?(handle: Handle, deadlineMs: number): Promise<'dead' | 'alive'>
  /** What this instance made and still exists upstream, for reconciliation. */
  list?(): AsyncIterable<{ readonly lease: string; readonly handle: Handle; readonly expiresAt?: number }>
  /**
   * Readiness and the least-privilege self-test of the broker's own access, for the roles that use this provider; throws a ProviderError
   * that says how to mend it.
   */
  check(roles?: readonly { readonly name: string; readonly params: Params }[]): Promise<void>
  close(): Promise<void>
}

/**
 * What went wrong at the upstream. Of a mint, `refused`, `throttled` and `invalid` say that nothing was made. `message` is written by the provider and holds no secret and no statement text;
 * the driver's error goes into `cause`, which is never logged whole.
 */
export class ProviderError extends Error {
  override readonly name = 'ProviderError'
  constructor(
    readonly kind: 'timeout' | 'unreachable' | 'refused' | 'throttled' | 'invalid' | 'broken',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}
