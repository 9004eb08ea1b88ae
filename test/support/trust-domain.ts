import { createPublicKey } from 'node:crypto'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { newSigner, type Signer } from '../identity/tokens.js'
import { type CertificateShape, type Made, makeAuthority, makeSvid } from './certificates.js'

/**
 * A fake SPIFFE trust domain: real keys, real certificates, a bundle as SPIFFE writes it and an endpoint that serves it, and none of SPIRE's attestation.
 */
export interface FakeTrustDomain {
  readonly name: string
  readonly signer: Signer
  readonly authority: Made
  /** SPIFFE Trust Domain and Bundle §4. */
  bundle(more?: Record<string, unknown>): Record<string, unknown> & { keys: object[] }
  /** A JWT-SVID for the broker, issued now and for 5 minutes, made by node-jose. */
  jwt(path: string, claims?: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>
  /** An X.509-SVID with its key. */
  svid(path: string, shape?: CertificateShape): Made
}

export async function newTrustDomain(
  name: string,
  { alg = 'ES256', now = Date.now }: { alg?: Parameters<typeof newSigner>[0]; now?: () => number } = {},
): Promise<FakeTrustDomain> {
  const signer = await newSigner(alg)
  const authority = makeAuthority(`${name} authority`, { uris: [`spiffe://${name}`] })
  return {
    name,
    signer,
    authority,
    bundle: (more = {}) => ({ keys: [jwtEntry(signer), x509Entry(authority)], spiffe_sequence: 1, spiffe_refresh_hint: 300, ...more }),
    jwt: (path, claims = {}, header = {}) => {
      const iat = Math.floor(now() / 1000)
      return signer.token({ iss: undefined, nbf: undefined, sub: `spiffe://${name}${path}`, iat, exp: iat + 300, ...claims }, header)
    },
    svid: (path, shape) => makeSvid(`spiffe://${name}${path}`, authority, shape),
  }
}

/** As SPIRE publishes them: without "alg". */
export function jwtEntry({ jwk: { alg: _, ...jwk } }: Signer): Record<string, unknown> {
  return { ...jwk, use: 'jwt-svid' }
}

export function x509Entry({ der, privateKey }: Made): Record<string, unknown> {
  return { ...createPublicKey(privateKey).export({ format: 'jwk' }), use: 'x509-svid', x5c: [der.toString('base64')] }
}

/** A bundle endpoint on loopback, which a test holds in its hands: over HTTP, or with a certificate. */
export class BundleEndpoint {
  bundle: unknown
  requests = 0
  readonly #server: Server
  readonly #isSecure: boolean
  constructor(bundle: unknown, certificate?: Made) {
    this.bundle = bundle
    this.#isSecure = certificate !== undefined
    const answer: RequestListener = (_request, response) => {
      this.requests++
      if (this.bundle === undefined) return response.writeHead(500).end()
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(this.bundle))
    }
    this.#server = certificate ? createTlsServer({ cert: certificate.pem, key: certificate.key }, answer) : createServer(answer)
  }
  get url(): string {
    return `${this.#isSecure ? 'https' : 'http'}://127.0.0.1:${(this.#server.address() as AddressInfo).port}/bundle`
  }
  async start(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, '127.0.0.1', listening))
    return this
  }
  /** For connections from now on. */
  show(certificate: Made): void {
    if ('setSecureContext' in this.#server) (this.#server as TlsServer).setSecureContext({ cert: certificate.pem, key: certificate.key })
  }
  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}
