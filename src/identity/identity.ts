import type { Agent, Human, Orchestrator, Principal } from '../types.js'
import type { PeerCertificate } from './certificate.js'

/** Token, or X.509-SVID, -> Principal. Throws `MayflyError` with `token_missing|token_invalid|token_expired|token_replayed|issuer_unavailable`. */
export interface Identity {
  /**
   * `authorization` is the raw header value, exactly one; the reason for a refusal is in `error.details.internal`, never in its message.
   * `certificate`: what the connection showed. Without a token it says who is calling; with one the token does, and a certificate that is
   * somebody else's is a refusal.
   */
  verify(authorization: string | undefined, certificate?: PeerCertificate): Promise<Principal>
  /**
   * On whose behalf `presenter` may act with this token of a human's. Throws `MayflyError` with `on_behalf_of_invalid|on_behalf_of_expired`;
   * the reason is in `error.details.internal` alone.
   */
  verifyHuman(token: string, presenter: Agent | Orchestrator): Promise<Human>
  /** Which check failed, in words, for `mayfly doctor --token-file`. Uses no cache and consumes nothing. Takes certificates (PEM), too. */
  explain(token: string): Promise<TokenExplanation>
  /** The X.509 authorities of a trust domain, as PEM; none while they are not known. */
  authorities(issuer: string): readonly string[]
  /** Called after each change of the authorities of any trust domain; takes the place of the listener before, also of the identity that this one took over from. */
  onAuthorities(listener: () => void): void
  status(): readonly IssuerStatus[]
  readonly cache: { readonly hits: number; readonly misses: number }
  close(): Promise<void>
}

export interface TokenExplanation {
  readonly ok: boolean
  readonly steps: readonly { readonly check: string; readonly ok: boolean; readonly detail: string }[]
  readonly principal?: Principal
}

export interface IssuerStatus {
  readonly name: string
  readonly state: 'ready' | 'stale' | 'down'
  readonly keys: number
  /** X.509 authorities of a trust domain; absent where there can be none. */
  readonly authorities?: number
  readonly fetchedAt?: number
  readonly error?: string
}

/** What identity needs of the house and may not import. */
export interface IdentityCapabilities {
  /** True the first time, on whatever replica; throws when the ledger is unreachable (and the token is then refused). */
  consume(hash: string, ttlMs: number): Promise<boolean>
  now(): number
}
