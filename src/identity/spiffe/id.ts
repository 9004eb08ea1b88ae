/** A workload of a trust domain: SPIFFE-ID §2. */
export interface SpiffeId {
  readonly trustDomain: string
  /** As it is written, from its first "/". */
  readonly path: string
  readonly segments: readonly string[]
}

const SCHEME = 'spiffe://'
const MAX_BYTES = 2048
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/
const SEGMENT = /^[A-Za-z0-9._-]+$/

/**
 * SPIFFE-ID §2.1, §2.2: one spelling for each identity. No other characters are in it, so there is no encoding, no port and no query to read in
 * two ways. A trust domain alone names the domain, never a workload. The refusal is our own words.
 */
export function parseSpiffeId(text: string): SpiffeId | { readonly refused: string } {
  if (Buffer.byteLength(text) > MAX_BYTES) return { refused: `is over ${MAX_BYTES} bytes` }
  if (!text.startsWith(SCHEME)) return { refused: 'does not begin with "spiffe://", in lower case' }
  const [trustDomain = '', ...segments] = text.slice(SCHEME.length).split('/')
  if (!isTrustDomain(trustDomain)) return { refused: 'has a trust domain that is not lower-case letters, digits, dots, dashes and underscores' }
  if (segments.length === 0) return { refused: 'names a trust domain, and no workload of it' }
  if (segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
    return { refused: 'has a path with an empty segment, "." or ".."' }
  }
  if (!segments.every((segment) => SEGMENT.test(segment))) return { refused: 'has a path that is not letters, digits, dots, dashes and underscores' }
  return { trustDomain, path: `/${segments.join('/')}`, segments }
}

export function isTrustDomain(name: string): boolean {
  return TRUST_DOMAIN.test(name)
}

/** Whether it means to be one, well-formed or not. */
export function isSpiffeUri(text: string): boolean {
  return /^spiffe:/i.test(text)
}
