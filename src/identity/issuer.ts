import type { Principal } from '../types.js'
import { discoverJwksUri, fetchJwks } from './discovery.js'
import { usableKeys } from './jwk.js'
import { FetchedKeys, type Keys, staticKeys } from './keys.js'
import { ALGORITHMS, type Algorithm, DEFAULT_ALGORITHMS, type IssuerOptions, type OidcIssuerOptions, type Preset } from './options.js'
import { checkUrl } from './outbound.js'
import { PRESET_URLS } from './presets.js'

const DEFAULT_MAX_LIFETIME_SECONDS = 86_400
const DEFAULT_SKEW_SECONDS = 30
const DEFAULT_STALE_LIMIT_SECONDS = 3600

/** One issuer of the configuration, ready to be asked. */
export interface Issuer {
  readonly name: string
  /** The `iss` text, compared byte for byte. */
  readonly iss: string
  readonly keys: Keys
  readonly audience: string
  readonly audienceMayHaveOthers: boolean
  readonly algorithms: readonly Algorithm[]
  /** Lower case. */
  readonly typ: readonly string[]
  readonly maxLifetimeMs: number
  readonly skewMs: number
  readonly singleUse: boolean
  readonly preset?: Preset
  readonly only?: readonly Principal['kind'][]
}

/** Compiles one issuer; throws an `Error` that names the path of what is wrong. */
export function createIssuer(name: string, options: IssuerOptions, now: () => number): Issuer {
  const path = `issuers.${name}`
  const algorithms = options.algorithms ?? DEFAULT_ALGORITHMS
  // Typed, but it may come from a file.
  const unsafe = algorithms.find((algorithm) => !ALGORITHMS.includes(algorithm))
  if (unsafe !== undefined || algorithms.length === 0) throw new Error(`${path}.algorithms: must be some of ${ALGORITHMS.join(', ')}`)
  const audience = typeof options.audience === 'string' ? options.audience : options.audience.contains
  if (audience === '') throw new Error(`${path}.audience: must not be empty`)
  const iss = issText(path, options)
  return {
    name,
    iss,
    keys: options.kind === 'jwks' ? readKeys(path, options.keys, algorithms, now) : fetchedKeys(path, iss, options, algorithms, now),
    audience,
    audienceMayHaveOthers: typeof options.audience !== 'string',
    algorithms,
    typ: ['jwt', ...(options.typ ?? []).map(mediaType)],
    maxLifetimeMs: 1000 * (options.maxLifetimeSeconds ?? DEFAULT_MAX_LIFETIME_SECONDS),
    skewMs: 1000 * (options.skewSeconds ?? DEFAULT_SKEW_SECONDS),
    singleUse: options.singleUse ?? false,
    preset: options.preset,
    only: options.only,
  }
}

/** RFC 7515 §4.1.9: compared without case, and `application/` may be left out. */
export function mediaType(typ: string): string {
  return typ.toLowerCase().replace(/^application\//, '')
}

function issText(path: string, options: IssuerOptions): string {
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
  return staticKeys(keys, now)
}

function fetchedKeys(path: string, iss: string, options: OidcIssuerOptions, algorithms: readonly Algorithm[], now: () => number): Keys {
  const { jwksUri, staleLimitSeconds = DEFAULT_STALE_LIMIT_SECONDS } = options
  if (jwksUri !== undefined) checked(`${path}.jwksUri`, jwksUri, options)
  const fetch = async (signal: AbortSignal) => {
    const rules = { ...options, signal }
    return fetchJwks(jwksUri ?? (await discoverJwksUri(iss, rules)), rules)
  }
  return new FetchedKeys({ fetch, algorithms, staleLimitMs: 1000 * staleLimitSeconds, now })
}

function checked(path: string, url: string, options: OidcIssuerOptions): void {
  try {
    if (checkUrl(url, options).search !== '' && path.endsWith('.url')) throw new Error('must have no query')
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}
