import type { Principal } from '../types.js'
import { discoverJwksUri, fetchJwks } from './discovery.js'
import { usableKeys } from './jwk.js'
import { FetchedKeys, type Keys, staticKeys } from './keys.js'
import {
  ALGORITHMS,
  type Algorithm,
  DEFAULT_ALGORITHMS,
  type Fetching,
  type IssuerChecks,
  type IssuerOptions,
  type OidcIssuerOptions,
  type Preset,
  SPIFFE_ALGORITHMS,
  type SpiffeIssuerOptions,
} from './options.js'
import { checkUrl } from './outbound.js'
import { PRESET_URLS } from './presets.js'
import { isTrustDomain } from './spiffe/id.js'
import { createTrustDomain, type TrustDomain } from './spiffe/trust-domain.js'

const DEFAULT_MAX_LIFETIME_SECONDS = 86_400
const DEFAULT_SKEW_SECONDS = 30
const DEFAULT_STALE_LIMIT_SECONDS = 3600

/** One issuer of the configuration, ready to be asked. */
export interface Issuer {
  readonly name: string
  /** The `iss` text, compared byte for byte. Of a trust domain its own URI: its tokens are known by their subject. */
  readonly iss: string
  readonly keys: Keys
  /** Of SPIFFE. */
  readonly domain?: TrustDomain
  /** Absent: it has no tokens, but for certificates. */
  readonly audience?: string
  readonly audienceMayHaveOthers: boolean
  readonly algorithms: readonly Algorithm[]
  /** Lower case. */
  readonly typ: readonly string[]
  readonly maxLifetimeMs: number
  readonly skewMs: number
  readonly singleUse: boolean
  readonly preset?: Preset
  readonly only?: readonly (Principal['kind'] | 'human')[]
}

/** Compiles one issuer; throws an `Error` that names the path of what is wrong. */
export function createIssuer(name: string, options: IssuerOptions, now: () => number): Issuer {
  const path = `issuers.${name}`
  const algorithms = algorithmsOf(path, options)
  const audience = audienceOf(path, options)
  return {
    name,
    ...sourceOf(path, options, algorithms, now),
    audience,
    audienceMayHaveOthers: typeof options.audience === 'object',
    algorithms,
    maxLifetimeMs: 1000 * (options.maxLifetimeSeconds ?? DEFAULT_MAX_LIFETIME_SECONDS),
    skewMs: 1000 * (options.skewSeconds ?? DEFAULT_SKEW_SECONDS),
    singleUse: options.singleUse ?? false,
    only: options.only,
  }
}

/** RFC 7515 §4.1.9: compared without case, and `application/` may be left out. */
export function mediaType(typ: string): string {
  return typ.toLowerCase().replace(/^application\//, '')
}

function algorithmsOf(path: string, { kind, algorithms }: IssuerOptions): readonly Algorithm[] {
  const [possible, usual] = kind === 'spiffe' ? [SPIFFE_ALGORITHMS, SPIFFE_ALGORITHMS] : [ALGORITHMS, DEFAULT_ALGORITHMS]
  if (algorithms === undefined) return usual
  // Typed, but it may come from a file.
  if (algorithms.length === 0 || !algorithms.every((algorithm) => possible.includes(algorithm)))
    throw new Error(`${path}.algorithms: must be some of ${possible.join(', ')}`)
  return algorithms
}

function audienceOf(path: string, { audience }: { readonly audience?: IssuerChecks['audience'] }): string | undefined {
  const text = typeof audience === 'object' ? audience.contains : audience
  if (text === '') throw new Error(`${path}.audience: must not be empty`)
  return text
}

/** Where its keys come from, and what its tokens are known by. */
function sourceOf(
  path: string,
  options: IssuerOptions,
  algorithms: readonly Algorithm[],
  now: () => number,
): Pick<Issuer, 'iss' | 'keys' | 'domain' | 'typ' | 'preset'> {
  if (options.kind === 'spiffe') {
    const domain = domainOf(path, options, algorithms, now)
    // JWT-SVID §2.3.
    return { iss: `spiffe://${domain.name}`, keys: domain.keys, domain, typ: ['jwt', 'jose'], preset: 'spiffe' }
  }
  const iss = issText(path, options)
  const keys = options.kind === 'jwks' ? readKeys(path, options.keys, algorithms, now) : fetchedKeys(path, iss, options, algorithms, now)
  return { iss, keys, typ: ['jwt', ...(options.typ ?? []).map(mediaType)], preset: options.preset }
}

function domainOf(path: string, options: SpiffeIssuerOptions, algorithms: readonly Algorithm[], now: () => number): TrustDomain {
  const { trustDomain, bundle, staleLimitSeconds = DEFAULT_STALE_LIMIT_SECONDS } = options
  if (!isTrustDomain(trustDomain)) throw new Error(`${path}.trustDomain: must be lower-case letters, digits, dots, dashes and underscores`)
  // A workload is known by its certificate, and plain HTTP has none.
  if ('url' in bundle) checked(`${path}.bundle`, bundle.url, bundle.endpoint ? { ...options, allowHttpLoopback: false } : options)
  try {
    return createTrustDomain(options, { algorithms, staleLimitMs: 1000 * staleLimitSeconds, now })
  } catch (error) {
    throw new Error(`${path}.bundle: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}

function issText(path: string, options: Exclude<IssuerOptions, SpiffeIssuerOptions>): string {
  if (options.kind === 'jwks') {
    if (options.issuer === '') throw new Error(`${path}.issuer: must not be empty`)
    return options.issuer
  }
  const url = options.url ?? (options.preset === undefined ? undefined : PRESET_URLS[options.preset])
  if (url === undefined) throw new Error(`${path}.url: is required`)
  checked(`${path}.url`, url, options)
  return url
}

function readKeys(path: string, jwks: { readonly keys: readonly object[] }, algorithms: readonly Algorithm[], now: () => number): Keys {
  const { keys, ignored } = usableKeys(jwks.keys, algorithms)
  if (keys.length === 0 || ignored > 0) {
    throw new Error(
      `${path}.keys: ${ignored} of ${jwks.keys.length} are not public signature keys for ${algorithms.join(', ')}; at least one is needed`,
    )
  }
  return staticKeys({ keys }, now)
}

function fetchedKeys(path: string, iss: string, options: OidcIssuerOptions, algorithms: readonly Algorithm[], now: () => number): Keys {
  const { jwksUri, staleLimitSeconds = DEFAULT_STALE_LIMIT_SECONDS } = options
  if (jwksUri !== undefined) checked(`${path}.jwksUri`, jwksUri, options)
  const fetch = async (signal: AbortSignal) => {
    const rules = { ...options, signal }
    return usableKeys(await fetchJwks(jwksUri ?? (await discoverJwksUri(iss, rules)), rules), algorithms)
  }
  return new FetchedKeys({ fetch, staleLimitMs: 1000 * staleLimitSeconds, now })
}

function checked(path: string, url: string, options: Fetching): void {
  try {
    if (checkUrl(url, options).search !== '' && path.endsWith('.url')) throw new Error('must have no query')
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}
