import { createHash, X509Certificate } from 'node:crypto'
import type { Principal } from '../types.js'
import type { Issuer } from './issuer.js'
import { spiffeClaims } from './presets.js'
import { refuse } from './refuse.js'
import { periodOf, validityOf } from './spiffe/chain.js'
import { readSvid } from './spiffe/svid.js'
import type { TrustDomain } from './spiffe/trust-domain.js'
import type { Check, Verifier } from './verify.js'

/** What the other side of a TLS connection showed, and proved to hold the key of. */
export interface PeerCertificate {
  /** Name of the trust domain that the listener asks for: only its authorities were in question. */
  readonly issuer: string
  /** DER, the leaf first; as far as it goes. */
  readonly chain: readonly Uint8Array[]
  /** Why the handshake did not take it. Absent: it was verified (RFC 5280) against the authorities that the trust domain had then. */
  readonly refused?: string
}

/** A certificate that was found good, and what that rests on. */
export interface VerifiedCertificate {
  readonly principal: Principal
  readonly domain: TrustDomain
  readonly authorities: readonly X509Certificate[]
  readonly until: number
}

/** X.509-SVID -> principal, by the rules of its trust domain. Throws `MayflyError` at the first check that fails. */
export async function verifyCertificate(peer: PeerCertificate, verifier: Verifier, check: Check): Promise<VerifiedCertificate> {
  const issuer = issuerOf(peer.issuer, verifier)
  const { domain } = issuer
  const chain = peer.chain.map(certificateOf)
  const [leaf] = chain
  if (leaf === undefined) refuse('token_invalid', 'there is no certificate')
  const id = await check(
    'form',
    () => readSvid(leaf.raw),
    ({ trustDomain, path }) => `it is spiffe://${trustDomain}${path}`,
  )
  await check(
    'issuer',
    () => {
      if (id.trustDomain !== domain.name) refuse('token_invalid', `the SPIFFE ID of the certificate is not of trust domain ${domain.name}`)
    },
    () => `it is of issuer ${issuer.name}`,
  )
  if (peer.refused !== undefined) {
    // By an authority that is newer than the bundle, perhaps: then the next connection finds it there.
    await domain.keys.refetch()
    refuse('token_invalid', `the certificate was not verified: ${peer.refused}`)
  }
  await domain.keys.settle()
  const authorities = domain.authorities()
  const { until } = await check(
    'chain',
    () => checkPeriod(periodOf(chain, authorities, verifier.now()), verifier.now(), issuer),
    () => 'an X.509 authority of its trust domain has signed it',
  )
  const { from, until: notAfter } = validityOf(leaf)
  await check(
    'life',
    () => {
      if (notAfter - from > issuer.maxLifetimeMs) refuse('token_invalid', `the certificate lives longer than the cap of issuer ${issuer.name}`)
    },
    () => `from ${new Date(from).toISOString()} to ${new Date(notAfter).toISOString()}`,
  )
  const claims = spiffeClaims(id, 'x509')
  const facts = {
    issuer: issuer.name,
    subject: `spiffe://${id.trustDomain}${id.path}`,
    tokenFingerprint: createHash('sha256').update(leaf.raw).digest('base64url').slice(0, 16),
    tokenIssuedAt: from,
    tokenExpiresAt: until,
  }
  const principal = await check(
    'principal',
    () => verifier.mapping.caller(claims, facts),
    ({ kind, id: name }) => `it is ${kind} ${name}`,
  )
  return { principal: Object.freeze(principal), domain, authorities, until }
}

/** Whether what it rested on is still so. */
export function stillStands({ domain, authorities, until }: VerifiedCertificate, now: number): boolean {
  return now < until && domain.authorities() === authorities
}

function issuerOf(name: string, { issuers }: Verifier): Issuer & { readonly domain: TrustDomain } {
  const issuer = [...issuers.values()].find((candidate) => candidate.name === name)
  if (issuer?.domain === undefined) refuse('token_invalid', `there is no trust domain ${name} in the configuration now`)
  return { ...issuer, domain: issuer.domain }
}

function certificateOf(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der)
  } catch (error) {
    refuse('token_invalid', 'the certificate cannot be read', error)
  }
}

/** Of the whole chain. Its end takes no skew: the handshake takes none. */
function checkPeriod<P extends { from: number; until: number }>(period: P, now: number, issuer: Issuer): P {
  if (now >= period.until) refuse('token_expired', 'the certificate, or one above it, has expired')
  if (period.from > now + issuer.skewMs) refuse('token_invalid', 'the certificate, or one above it, is not valid yet')
  return period
}
