import { IssuerMetadata, JwksAnswer } from '../../api.js'
import type { TokenSigner } from '../../signer.js'
import { notFound } from '../operator.js'
import { openRoute, type Route } from '../route.js'
import type { Surroundings } from '../surroundings.js'

/** Long enough to spare us, short enough that a new key is known before it signs. */
const CACHE = { 'cache-control': 'public, max-age=300' }
const METADATA = '/.well-known/openid-configuration'
const KEYS = '/.well-known/jwks.json'

const jwks = openRoute({
  method: 'get',
  path: KEYS,
  surfaces: ['public'],
  summary: 'The public keys of the tokens that Mayfly signs (RFC 7517).',
  answers: { 200: JwksAnswer },
  codes: ['not_found'],
}).handle(async ({ around }) => {
  const keys = signerOf(around)
    .jwks()
    .keys.map((key) => ({ ...key, kty: String(key.kty) }))
  return { status: 200, body: { keys }, headers: CACHE }
})

/** RFC 8414 §3: the well-known path comes before the issuer's own, `/.well-known/openid-configuration/tenant`. */
const metadata = (path: string) =>
  openRoute({
    method: 'get',
    path,
    surfaces: ['public'],
    summary: 'What a verifier of these tokens has to know (RFC 8414, OpenID Connect Discovery).',
    answers: { 200: IssuerMetadata },
    codes: ['not_found'],
  }).handle(async ({ around, id }) => {
    const signer = signerOf(around)
    const { origin, pathname } = new URL(signer.issuer)
    if (pathname.replace(/^\/|\/$/g, '') !== id) throw notFound('issuer')
    const answer = {
      issuer: signer.issuer,
      jwks_uri: `${origin}${KEYS}`,
      introspection_endpoint: `${origin}/oauth2/introspect`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: [...new Set(signer.jwks().keys.flatMap(({ alg }) => alg ?? []))],
    }
    return { status: 200, body: answer, headers: CACHE }
  })

export const wellKnownRoutes: readonly Route[] = [jwks, metadata(METADATA), metadata(`${METADATA}/{+id}`)]

function signerOf({ signer }: Surroundings): TokenSigner {
  const found = signer()
  if (!found) throw notFound('key set')
  return found
}
