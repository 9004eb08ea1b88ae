import type { X509Certificate } from 'node:crypto'
import { refuse } from '../refuse.js'

const MAX_INTERMEDIATES = 8

/** Milliseconds since the Unix epoch. */
export interface Period {
  readonly from: number
  readonly until: number
}

/**
 * Follows a chain, the leaf first, from signature to signature up to an authority that the trust domain has now, and answers when all of it is valid. The
 * handshake has done so before, with everything else that RFC 5280 asks for; but connections stay open while authorities go and clocks move on.
 */
export function periodOf(chain: readonly X509Certificate[], authorities: readonly X509Certificate[], now: number): Period {
  let [current] = chain
  if (current === undefined) refuse('token_invalid', 'there is no certificate')
  if (authorities.length === 0) refuse('token_invalid', 'its trust domain has no X.509 authorities now, or its bundle is older than the stale limit')
  let period = validityOf(current)
  for (let step = 0; step <= MAX_INTERMEDIATES; step++) {
    const signed: X509Certificate = current
    const trusted = authorities.filter((one) => isIssuer(one, signed)).map(validityOf)
    // One key may have several certificates: an authority that was renewed is there twice, until the old one is dropped.
    const authority = trusted.find(({ from, until }) => from <= now && now < until) ?? trusted[0]
    if (authority !== undefined) return overlap(period, authority)
    current = chain.find((one) => one !== signed && isIssuer(one, signed))
    if (current === undefined) break
    period = overlap(period, validityOf(current))
  }
  refuse('token_invalid', 'its chain does not lead to an X.509 authority of its trust domain')
}

/** By its signature: names are whatever somebody wrote. */
function isIssuer(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

export function validityOf({ validFrom, validTo }: X509Certificate): Period {
  return { from: Date.parse(validFrom), until: Date.parse(validTo) }
}

function overlap(one: Period, other: Period): Period {
  return { from: Math.max(one.from, other.from), until: Math.min(one.until, other.until) }
}
