import type { X509Certificate } from 'node:crypto'
import { FetchedKeys, type Keys, staticKeys } from '../keys.js'
import type { Algorithm, BundleOptions, SpiffeIssuerOptions } from '../options.js'
import { getJson, type OutboundRules } from '../outbound.js'
import { type Bundle, parseAuthorities, parseBundle } from './bundle.js'
import { endpointRules } from './endpoint.js'

/** What vouches for the identities of one trust domain. Never merged with another's: its keys and authorities are only ever found here. */
export interface TrustDomain {
  readonly name: string
  /** Of its JWT-SVIDs. */
  readonly keys: Keys
  /** Of its X.509-SVIDs; none while the bundle is missing or older than the stale limit. The same array until they change. */
  authorities(): readonly X509Certificate[]
  /** Called after each change of the authorities; takes the place of the listener before. */
  onChange(listener: () => void): void
}

const NONE: readonly X509Certificate[] = []

type FetchedBundle = Extract<BundleOptions, { url: string }>
interface Terms {
  readonly algorithms: readonly Algorithm[]
  readonly staleLimitMs: number
  readonly now: () => number
}

/** Throws an `Error` on a bundle of the configuration that vouches for nothing. */
export function createTrustDomain(options: SpiffeIssuerOptions, terms: Terms): TrustDomain {
  const { trustDomain: name, bundle } = options
  if ('url' in bundle) return fetchedDomain(bundle, options, terms)
  const { keys, authorities } = 'pem' in bundle ? { keys: [], authorities: parseAuthorities(bundle.pem) } : parseBundle(bundle.jwks, terms.algorithms)
  if (keys.length === 0 && authorities.length === 0) throw new Error('has neither a key for JWT-SVIDs nor an authority for X.509-SVIDs')
  const held = staticKeys({ keys, authorities: authorities.length }, terms.now)
  return { name, keys: held, authorities: () => authorities, onChange: () => undefined }
}

function fetchedDomain({ url, endpoint }: FetchedBundle, options: SpiffeIssuerOptions, { algorithms, staleLimitMs, now }: Terms): TrustDomain {
  const rulesOf = endpoint === undefined ? undefined : endpointRules(options, endpoint)
  let tell = () => {}
  let authorities = NONE
  let told = NONE
  let sequence: number | undefined
  const fetch = async (signal: AbortSignal) => {
    const rules = rulesOf === undefined ? options : await rulesOf(authorities)
    const bundle = await fetchBundle(url, { ...rules, signal }, algorithms)
    refuseOlder(bundle, sequence)
    sequence = bundle.sequence
    if (!isSame(authorities, bundle.authorities)) authorities = bundle.authorities
    return { ...bundle, authorities: bundle.authorities.length }
  }
  const onFetched = () => {
    if (told === authorities) return
    told = authorities
    tell()
  }
  const keys = new FetchedKeys({ fetch, onFetched, staleLimitMs, now })
  return {
    name: options.trustDomain,
    keys,
    authorities: () => (keys.isCurrent() ? authorities : NONE),
    onChange: (listener) => {
      tell = listener
    },
  }
}

async function fetchBundle(url: string, rules: OutboundRules, algorithms: readonly Algorithm[]): Promise<Bundle> {
  const document = await getJson(url, rules)
  try {
    return parseBundle(document, algorithms)
  } catch (error) {
    throw new Error(`${url} ${error instanceof Error ? error.message : 'is not a SPIFFE bundle'}`, { cause: error })
  }
}

/** SPIFFE Federation §4.2: of two bundles the one with the higher number is the later one. A cache on the way, or a copy of the endpoint that is
 * behind, would bring back keys that were withdrawn. It is remembered as long as the broker runs. */
function refuseOlder({ sequence }: Bundle, held: number | undefined): void {
  if (sequence !== undefined && held !== undefined && sequence < held)
    throw new Error(`the bundle has the sequence ${sequence}, and ${held} was seen before: it is an older one, and not used`)
}

function isSame(some: readonly X509Certificate[], others: readonly X509Certificate[]): boolean {
  return some.length === others.length && some.every((one, index) => one.fingerprint256 === others[index]?.fingerprint256)
}
