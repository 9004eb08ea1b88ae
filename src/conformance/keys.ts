import { createPublicKey } from 'node:crypto'
import { createServer } from 'node:http'
import { generateSigningKeys, openSigner, type SigningKeys, type TokenSigner } from '../signer.js'

const HOST = '127.0.0.1'
const PATH = '/.well-known/jwks.json'

/** What a broker signs with. */
export interface Signing {
  readonly issuer: string
  readonly keys: SigningKeys
}

/** Who signs: Mayfly, and those who would be taken for it. */
export interface Signers {
  readonly honest: TokenSigner
  /** Another key, under its own `kid`. */
  readonly otherKey: TokenSigner
  /** Another key, under the `kid` of the honest one. */
  readonly sameKid: TokenSigner
  /** The honest key, in the name of another issuer. */
  readonly otherIssuer: TokenSigner
  /** The honest key's public half, as text that anybody can have. */
  readonly publicPem: string
}

export async function openSigners({ issuer, keys }: Signing): Promise<Signers> {
  const honest = await openSigner({ issuer, keys })
  const [published] = honest.jwks().keys
  const alg = published?.alg === 'Ed25519' ? 'Ed25519' : 'ES256'
  const others = await generateSigningKeys(alg)
  const renamed = { keys: others.keys.map((key) => ({ ...key, kid: published?.kid })) }
  return {
    honest,
    otherKey: await openSigner({ issuer, keys: others }),
    sameKid: await openSigner({ issuer, keys: renamed }),
    otherIssuer: await openSigner({ issuer: 'https://another-issuer.example', keys }),
    publicPem: createPublicKey({ key: { ...published }, format: 'jwk' })
      .export({ type: 'spki', format: 'pem' })
      .toString(),
  }
}

export interface ServedKeys extends Signing {
  readonly jwksUrl: string
  close(): Promise<void>
}

/** A key made for this run alone, and its public half on loopback, where a service under test can fetch it as from a broker. */
export async function serveEphemeralKeys(port: number): Promise<ServedKeys> {
  const keys = await generateSigningKeys()
  let published = ''
  const server = createServer((request, response) => {
    const known = request.method === 'GET' && request.url === PATH
    response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' }).end(known ? published : '{}')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, HOST, resolve)
  })
  const address = server.address()
  const issuer = `http://${HOST}:${typeof address === 'object' && address !== null ? address.port : port}`
  published = JSON.stringify((await openSigner({ issuer, keys })).jwks())
  return {
    issuer,
    keys,
    jwksUrl: `${issuer}${PATH}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
