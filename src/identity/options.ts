import type { Autonomy, EnvelopeEntry, Principal, ToolEntry } from '../types.js'

/**
 * What identity is configured with: plain data, durations in whole seconds, secrets and files already read. `createIdentity` compiles it once
 * and throws an `Error` that names the path of what cannot be compiled (`agents[0].id: …`).
 */
export interface IdentityOptions {
  /** By the name that rules, principals and events use; never the token's `iss` text. */
  readonly issuers: Readonly<Record<string, IssuerOptions>>
  readonly agents?: readonly AgentRule[]
  readonly orchestrators?: readonly OrchestratorRule[]
  readonly operators?: readonly OperatorRule[]
  readonly gateways?: readonly GatewayRule[]
  /** On whose behalf agents may act. */
  readonly humans?: readonly HumanRule[]
  /** The `iss` texts under which this broker itself signs: such a token is never a workload token. */
  readonly ownIssuers?: readonly string[]
  /** Verified tokens remembered at most; 20,000 when absent, 0 turns the cache off. */
  readonly cacheEntries?: number
}

export type IssuerOptions = OidcIssuerOptions | JwksIssuerOptions | SpiffeIssuerOptions

/** How what an issuer publishes is fetched. */
export interface Fetching {
  /** PEM of the authorities to trust instead of the system's, for issuers with a private one (a cluster's API server). */
  readonly ca?: string
  /** Development only: permits `http:` and loopback addresses, and `http:` to nothing else. */
  readonly allowHttpLoopback?: boolean
  /** Permits addresses of private networks (RFC 1918, RFC 4193, RFC 6598) and loopback. Link-local and metadata addresses never are. */
  readonly allowPrivateAddresses?: boolean
  /** How long keys serve while the issuer cannot be reached; 3600 when absent. */
  readonly staleLimitSeconds?: number
}

/** Keys by OIDC discovery. */
export interface OidcIssuerOptions extends IssuerChecks, Fetching {
  readonly kind: 'oidc'
  /** Compared byte for byte with `iss` and with the discovery document's `issuer`. Required unless the preset has one. */
  readonly url?: string
  /** Skips discovery. */
  readonly jwksUri?: string
}

/** Keys from a file, read by whoever read the configuration: works with every identity provider down. */
export interface JwksIssuerOptions extends IssuerChecks {
  readonly kind: 'jwks'
  readonly keys: { readonly keys: readonly object[] }
  /** The `iss` text its tokens carry. */
  readonly issuer: string
}

/**
 * A SPIFFE trust domain. Its tokens and certificates are known by the trust domain of the SPIFFE ID in them: a JWT-SVID need not name an issuer,
 * and what `iss` it names says nothing.
 */
export interface SpiffeIssuerOptions extends Omit<IssuerChecks, 'audience' | 'typ' | 'preset'>, Fetching {
  readonly kind: 'spiffe'
  /** In lower case, without `spiffe://`. */
  readonly trustDomain: string
  /** Absent: JWT-SVIDs are refused, and only X.509-SVIDs are taken. */
  readonly audience?: IssuerChecks['audience']
  readonly bundle: BundleOptions
}
/** Where the bundle of a trust domain comes from: fetched (SPIFFE Federation), or with the configuration. */
export type BundleOptions =
  | {
      readonly url: string
      /** Profile https_spiffe: the endpoint is this workload of the trust domain, by its X.509-SVID. Absent: https_web. */
      readonly endpoint?: {
        readonly spiffeId: string
        /** A bundle to begin with; from then on the last one fetched says who serves the next. */
        readonly bootstrap: object
      }
    }
  | { readonly jwks: object }
  /** X.509 authorities alone. */
  | { readonly pem: string }

/** RFC 8725: what a token of this issuer must be. */
export interface IssuerChecks {
  /** The broker's name: the sole `aud`, or one of several when said so. */
  readonly audience: string | { readonly contains: string }
  /** `DEFAULT_ALGORITHMS` when absent. */
  readonly algorithms?: readonly Algorithm[]
  /** Values of `typ` accepted besides none and `JWT`, for example `at+jwt`. */
  readonly typ?: readonly string[]
  /** Largest `exp - iat`; 86,400 when absent. */
  readonly maxLifetimeSeconds?: number
  /** Tolerance for `exp`, `nbf` and `iat`; 30 when absent. */
  readonly skewSeconds?: number
  /** Each token serves one request, on whatever replica. */
  readonly singleUse?: boolean
  readonly preset?: Exclude<Preset, 'spiffe'>
  /** Whom this issuer may speak for; all when absent. */
  readonly only?: readonly (Principal['kind'] | 'human')[]
  /** For the day on which nobody else can say who an operator is: each use is told. */
  readonly breakGlass?: boolean
}

export type Preset = 'kubernetes' | 'github-actions' | 'spiffe'

/** Asymmetric only: a verifier that holds a symmetric key could also sign. */
export const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'EdDSA', 'Ed25519'] as const
export type Algorithm = (typeof ALGORITHMS)[number]
/** JWT-SVID §2.1. */
export const SPIFFE_ALGORITHMS: readonly Algorithm[] = ['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512']
export const DEFAULT_ALGORITHMS: readonly Algorithm[] = ['ES256', 'ES384', 'PS256', 'RS256', 'EdDSA', 'Ed25519']

/**
 * `claims`: claim -> pattern, all must match; a list-valued claim matches when one member does. A pattern is exact text in which `*` stands for
 * one or more characters other than `/` and `:`.
 */
export interface Match {
  readonly issuer: string
  readonly claims: Readonly<Record<string, string>>
}

interface Rule {
  /** `"triage/{namespace}"`: `{claim}` is filled from the token; at most one per `/`-separated segment, so that no two tokens fill alike. */
  readonly id: string
  readonly match: Match
  readonly team?: string
  readonly labels?: readonly string[]
}
export interface AgentRule extends Rule {
  /** The claim that tells two running copies apart; a token without it is refused. */
  readonly instance?: string
  readonly owner: string
  readonly autonomy: Autonomy
  /** What it may open for itself; absent: it opens no tasks. */
  readonly openTasks?: readonly EnvelopeEntry[]
  /** What the tasks that it opens for itself may call. */
  readonly openTools?: readonly ToolEntry[]
  readonly onBehalfOf?: ActsFor
}
export interface OrchestratorRule extends Rule {
  readonly onBehalfOf?: ActsFor
}
/** `audience`: of the tokens with which humans let it act for them, filled as ids are, so that each has one of its own. */
export interface ActsFor {
  readonly audience: string
}
export interface OperatorRule extends Rule {
  readonly groups: readonly string[]
  /** Templates, as ids are. */
  readonly persons?: readonly string[]
}
export interface GatewayRule extends Rule {
  readonly audiences: readonly string[]
  /** Names of tools that it stands in front of; absent: none. */
  readonly tools?: readonly string[]
  /** In whose stead it asks: ids, `prefix/*` for all that begin so, `*` for all; absent: whichever agent it names. */
  readonly agents?: readonly string[]
}
/** A person, who calls nothing. */
export interface HumanRule {
  readonly id: string
  readonly match: Match
  readonly team?: string
  /** A list is for all who match; else each group with the claims by which a token shows it. */
  readonly groups?: readonly string[] | Readonly<Record<string, Match['claims']>>
}
