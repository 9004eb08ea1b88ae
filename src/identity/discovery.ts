import { isObject } from './json.js'
import { getJson, type OutboundRules } from './outbound.js'

/** The `jwks_uri` of OpenID Connect Discovery 1.0 §4. */
export async function discoverJwksUri(issuer: string, rules: OutboundRules): Promise<string> {
  const address = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  const document = await getJson(address, rules)
  if (!isObject(document)) throw new Error(`${address} is not a discovery document`)
  // §4.3: byte-equal, or another issuer's keys would be taken for this one's.
  if (document.issuer !== issuer) throw new Error(`${address} names another issuer than the configured url; they must be equal to the last slash`)
  if (typeof document.jwks_uri !== 'string') throw new Error(`${address} has no jwks_uri`)
  return document.jwks_uri
}

/** The members of a JWK Set (RFC 7517 §5). */
export async function fetchJwks(jwksUri: string, rules: OutboundRules): Promise<readonly unknown[]> {
  const document = await getJson(jwksUri, rules)
  if (!isObject(document) || !Array.isArray(document.keys)) throw new Error(`${jwksUri} is not a JWK Set`)
  return document.keys
}
