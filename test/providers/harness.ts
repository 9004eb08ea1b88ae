import { randomBytes } from 'node:crypto'
import type { Credential, LeasePlan, Minted, MintRequest, Provider, ProviderModule, Register, Signer } from '../../src/providers/provider.js'
import type { Handle, Scope } from '../../src/types.js'

/** What a provider's test brings to the contract suite: its upstream, and eyes of its own on it. */
export interface Harness {
  readonly module: ProviderModule
  /** As in the configuration, secrets resolved. */
  readonly options: unknown
  readonly params: unknown
  /** What a request for this role names, if it must name something. */
  readonly scope?: Scope
  readonly signer?: Signer
  /** For a provider that keeps lists: one of a ledger, `openRegister` of `register.ts`. */
  readonly register?: Register
  /** What the upstream is here: the real thing, a fake built from its published description, or a part of Mayfly's own. */
  readonly upstream: 'real' | 'fake' | 'self'
  /** The upstream's own address, and the options that reach it through a proxy on another loopback port. */
  readonly address?: { readonly host: string; readonly port: number }
  optionsAt?(port: number): unknown
  /** The broker's own secret at the upstream. */
  readonly brokerSecret?: string
  /** Uses the credential as its holder would, on a connection of its own; `at` moves the upstream's clock where there is one to move. */
  works(credential: Credential, at?: number): Promise<boolean>
  /** Waits until a confirmed revoke holds: `residualSeconds`, or less where the upstream's clock can be moved. */
  afterResidual?(): Promise<void>
  /** A handle of the right shape that nothing has, where handles are `returned`. */
  readonly someHandle?: Handle
  openSession?(credential: Credential): Promise<Session>
  /** Names of what providers made and still exists upstream, seen with other eyes than the broker's. */
  made(): Promise<string[]>
  /** The upstream's own expiry of it, ms. */
  expiry?(credential: Credential, handle: Handle): Promise<number | undefined>
  /** A scope that narrows, and one thing that it must still allow and one that it must not. */
  readonly narrowing?: {
    readonly scope: Scope
    allows(credential: Credential): Promise<boolean>
    denies(credential: Credential): Promise<boolean>
  }
  /** Scopes that reach beyond the role, or mean nothing to it: refused at the mint. */
  readonly widening: readonly Scope[]
  /** Parameters that must be refused by the schema or the role check. */
  readonly hostileParams: readonly unknown[]
  /** Parameters that only the upstream can tell are wrong: refused at the mint, with nothing left. */
  readonly refusedParams?: readonly unknown[]
  secretsOf(credential: Credential): readonly string[]
  /** Bytes in the request that makes the credential. */
  readonly mintSign?: string
  readonly halfAnswer?: string | Buffer
  /** A whole answer by which the upstream says that it has too much to do. */
  readonly busyAnswer?: string | Buffer
  /** The upstream greets whoever connects, so both answers come before any request. */
  readonly speaksFirst?: boolean
  /** All that the upstream logged. */
  log?(): string
  stop(): Promise<void>
}

export interface Session {
  usable(): Promise<boolean>
  close(): Promise<void>
}

export const INSTANCE = 'contract'
export const TIMEOUT_MS = 5000
/** For upstreams that don't answer: long enough to be met, short enough to wait for. */
export const SHORT_MS = 300
export const TTL_MS = 60_000

/** One opened provider and the steps that the paths through the house take with it. */
export interface Opened {
  readonly provider: Provider
  plan(change?: Partial<LeasePlan>): LeasePlan
  mint(options?: MintOptions): Promise<Minted & { handle: Handle; request: MintRequest<unknown> }>
}
export interface MintOptions {
  lease?: LeasePlan
  scope?: Scope
  params?: unknown
  untilMs?: number
  ttlMs?: number
}

export async function open(harness: Harness, where: { port?: number; instance?: string; timeoutMs?: number } = {}): Promise<Opened> {
  const { port, instance = INSTANCE, timeoutMs = TIMEOUT_MS } = where
  const raw = port === undefined ? harness.options : harness.optionsAt?.(port)
  const { module, signer, register } = harness
  const provider = await module.open(module.options.parse(raw), { name: 'under-test', instance, timeoutMs, concurrency: 4, signer, register })
  const planned = (change: Partial<LeasePlan> = {}) => plan({ scope: harness.scope, ...change })
  return {
    provider,
    plan: planned,
    async mint({ scope = harness.scope, lease = planned({ scope }), params = harness.params, untilMs = timeoutMs, ttlMs = TTL_MS } = {}) {
      const request = requestOf(provider, lease, harness.module.params.parse(params), untilMs, ttlMs)
      const minted = await provider.mint(request)
      return { ...minted, handle: minted.handle ?? request.handle, request }
    },
  }
}

/** `until` may lie in the past; the time that is left seen from here is then still a whole timeout, as for a broker that was paused. */
export function requestOf<P>(provider: Provider<P>, lease: LeasePlan, params: P, untilMs: number, ttlMs = TTL_MS): MintRequest<P> {
  const now = Date.now()
  const deadlineMs = untilMs > 0 ? untilMs : TIMEOUT_MS
  return { lease, handle: provider.plan(lease, params), params, issuedAt: now, expiresAt: now + ttlMs, until: now + untilMs, deadlineMs }
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
export function newLeaseId(): string {
  return `lease_17${[...randomBytes(26)].map((byte) => BASE32[byte % 32]).join('')}`
}

export function plan(change: Partial<LeasePlan> = {}): LeasePlan {
  const scope = change.scope ?? {}
  return { id: newLeaseId(), task: `task_17${'b'.repeat(26)}`, agent: 'triage/team-a', owner: 'sre@example.com', role: 'a-role', ...change, scope }
}

/** Text that breaks out of quotes, lines, patterns and protocols that don't expect it. */
export const HOSTILE_TEXTS = [
  `x'; DROP ROLE postgres; --`,
  `x"; ALTER ROLE postgres NOLOGIN; --`,
  "$$; SELECT 1; $$ \\ E'\\' %I %s",
  'line\r\nFLUSHALL\r\n\u2028+OK\u0000',
  '* ? [a-z] ~* &* +@all allkeys $\u007baws:username} $\u007bscope.x}',
  '{"__proto__":{"polluted":true}}',
  '\ud800 lone surrogate',
  'a'.repeat(10_240),
]
