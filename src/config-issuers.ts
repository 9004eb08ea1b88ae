import type { ConfigFile, IssuerFile } from './config-schema.js'
import type { BundleOptions, IssuerChecks, IssuerOptions } from './identity/options.js'

/** Of a token that opens everything; and what it is where nothing is said, seconds. */
const MOST_BREAK_GLASS = 900
const USUAL_BREAK_GLASS = 600
const OF_SPIFFE = ['trust_domain', 'bundle', 'bundle_endpoint'] as const
const NEEDED = ['trust_domain', 'bundle'] as const
const NOT_OF_SPIFFE = ['url', 'jwks_uri', 'jwks', 'issuer', 'typ', 'break_glass'] as const

/** One issuer of the file: by discovery, with a key set, or a SPIFFE trust domain. None where a field that its kind needs is missing. */
export function issuerOf(name: string, issuer: IssuerFile, problems: string[]): [string, IssuerOptions][] {
  const { audience, algorithms, typ, preset, only } = issuer
  if (preset === 'spiffe') return trustDomainOf(name, issuer, problems)
  for (const field of OF_SPIFFE) if (issuer[field] !== undefined) problems.push(`issuers.${name}.${field}: is for "preset: spiffe"`)
  if (audience === undefined) {
    problems.push(`issuers.${name}.audience: missing: what its tokens carry as "aud" for this broker`)
    return []
  }
  const glass = breakGlassOf(name, issuer, problems)
  const checks = { ...lifeOf(issuer), audience, algorithms, typ, preset, only, ...glass }
  if (issuer.jwks) {
    const text = issuer.issuer ?? issuer.url
    if (!text) problems.push(`issuers.${name}.issuer: say which "iss" the tokens of this key set carry`)
    return text ? [[name, { kind: 'jwks', keys: issuer.jwks, issuer: text, ...checks }]] : []
  }
  if (!issuer.url && preset !== 'github-actions') {
    problems.push(`issuers.${name}.url: name the issuer's URL, or a key set with "jwks"`)
    return []
  }
  return [[name, { kind: 'oidc', url: issuer.url, jwksUri: issuer.jwks_uri, ...fetchingOf(issuer), ...checks }]]
}

function trustDomainOf(name: string, issuer: IssuerFile, problems: string[]): [string, IssuerOptions][] {
  for (const field of NOT_OF_SPIFFE)
    if (issuer[field] !== undefined) problems.push(`issuers.${name}.${field}: is not for a trust domain, which has trust_domain and bundle`)
  const { trust_domain: trustDomain, bundle, bundle_endpoint: endpoint, audience, algorithms, only } = issuer
  if (trustDomain === undefined || bundle === undefined) {
    for (const field of NEEDED) if (issuer[field] === undefined) problems.push(`issuers.${name}.${field}: missing: "preset: spiffe" needs it`)
    return []
  }
  const found = bundleOf(`issuers.${name}.bundle`, bundle, problems)
  const source = found && endpoint && 'url' in found ? { ...found, endpoint: { spiffeId: endpoint.spiffe_id, bootstrap: endpoint.bootstrap } } : found
  if (endpoint && (issuer.ca !== undefined || (found && !('url' in found))))
    problems.push(`issuers.${name}.bundle_endpoint: is for a bundle at a URL, and verified by its own trust domain: without "ca"`)
  return source ? [[name, { kind: 'spiffe', trustDomain, bundle: source, audience, algorithms, only, ...lifeOf(issuer), ...fetchingOf(issuer) }]] : []
}

/** Listeners whose certificates are of no trust domain, and trust domains of which nothing is taken: neither tokens nor certificates. */
export function unusedDomains({ issuers, listeners }: ConfigFile): string[] {
  const asked = (['public', 'operator'] as const).flatMap((listener) => {
    const name = listeners[listener]?.tls?.spiffe
    return name === undefined ? [] : [{ listener, name }]
  })
  const isDomain = (name: string) => Object.hasOwn(issuers, name) && issuers[name]?.preset === 'spiffe'
  return [
    ...asked
      .filter(({ name }) => !isDomain(name))
      .map(({ listener, name }) => `listeners.${listener}.tls.spiffe: there is no issuer "${name}" with "preset: spiffe"`),
    ...Object.entries(issuers)
      .filter(([name, { audience }]) => isDomain(name) && audience === undefined && !asked.some((one) => one.name === name))
      .map(([name]) => `issuers.${name}.audience: missing: what its tokens carry as "aud" for this broker (or let a listener take its certificates)`),
  ]
}

/** What `file:` or `env:` stood for is there by now. */
function bundleOf(path: string, text: string, problems: string[]): BundleOptions | undefined {
  if (text.startsWith('-----BEGIN')) return { pem: text }
  if (!text.trimStart().startsWith('{')) return { url: text }
  try {
    return { jwks: JSON.parse(text) as object }
  } catch {
    problems.push(`${path}: is neither a URL, nor a SPIFFE bundle (JSON), nor certificates (PEM)`)
    return undefined
  }
}

/** Keys that work with every identity provider down: they are here, their tokens serve one request, soon, and none but operators. */
function breakGlassOf(name: string, issuer: IssuerFile, problems: string[]): Partial<IssuerChecks> {
  if (issuer.break_glass !== true) return {}
  const life = issuer.max_lifetime ?? USUAL_BREAK_GLASS
  const wrong = {
    jwks: issuer.jwks === undefined && 'missing: its keys must be known with everything else down',
    single_use: issuer.single_use === false && 'a token that breaks the glass serves one request',
    max_lifetime: life > MOST_BREAK_GLASS && `is at most ${MOST_BREAK_GLASS} s`,
    only: issuer.only !== undefined && issuer.only.join() !== 'operator' && 'is [operator], or left out',
  }
  for (const [field, why] of Object.entries(wrong)) if (why) problems.push(`issuers.${name}.${field}: ${why} ("break_glass")`)
  return { maxLifetimeSeconds: life, singleUse: true, only: ['operator'], breakGlass: true }
}

function lifeOf(issuer: IssuerFile) {
  return { maxLifetimeSeconds: issuer.max_lifetime, skewSeconds: issuer.skew, singleUse: issuer.single_use }
}

function fetchingOf({ ca, allow_http_loopback, allow_private_addresses, stale_limit }: IssuerFile) {
  return { ca, allowHttpLoopback: allow_http_loopback, allowPrivateAddresses: allow_private_addresses, staleLimitSeconds: stale_limit }
}
