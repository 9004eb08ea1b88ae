import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { type Adapter, Provider } from 'oidc-provider'

const AUDIENCE = 'mayfly'
const RESOURCE = 'urn:mayfly:test'

export interface OidcClient {
  /** Becomes the `sub` of its tokens. */
  readonly id: string
  /** Put into every token of this client; may override `sub`. */
  readonly claims?: Readonly<Record<string, unknown>>
}
export interface TestOidc {
  readonly issuer: string
  /** A JWT access token (`typ: at+jwt`, ES256) by client credentials, for audience `mayfly` unless the claims say otherwise. */
  token(clientId: string, claims?: Readonly<Record<string, unknown>>): Promise<string>
  /** Signs with a new key from now on; the old one stays published only when `keepOld`. */
  rotateKeys(options?: { keepOld?: boolean }): Promise<void>
  /** While true, discovery and key set answer 503; tokens are still handed out. */
  fail(failing: boolean): void
  /** How often the key set was asked for. */
  keyRequests(): number
  stop(): Promise<void>
}

/** A real `oidc-provider` on a free loopback port. */
export async function startOidc({ clients, lifetimeSeconds = 600 }: { clients: readonly OidcClient[]; lifetimeSeconds?: number }): Promise<TestOidc> {
  let isFailing = false
  let keyRequests = 0
  let keys = [await newKey()]
  let handle: (request: IncomingMessage, response: ServerResponse) => void = () => undefined
  const server = createServer((request, response) => {
    const isToken = request.url?.startsWith('/token') === true
    if (request.url === '/jwks') keyRequests++
    if (isFailing && !isToken) response.writeHead(503).end()
    else handle(request, response)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const { port } = server.address() as AddressInfo
  const issuer = `http://127.0.0.1:${port}`
  const install = () => {
    handle = createProvider(issuer, clients, keys, lifetimeSeconds).callback()
  }
  install()

  return {
    issuer,
    async token(clientId, claims = {}) {
      const response = await fetch(`${issuer}/token`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-test-claims': encodeURIComponent(JSON.stringify(claims)) },
        body: new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId, client_secret: secretOf(clientId), resource: RESOURCE }),
      })
      const body = (await response.json()) as { access_token?: string; error_description?: string }
      if (body.access_token === undefined) throw new Error(`no token for ${clientId}: ${response.status} ${body.error_description}`)
      return body.access_token
    },
    async rotateKeys({ keepOld = false } = {}) {
      // The provider signs with the first key that fits.
      keys = [await newKey(), ...(keepOld ? keys : [])]
      install()
    },
    fail(failing) {
      isFailing = failing
    },
    keyRequests: () => keyRequests,
    async stop() {
      server.closeAllConnections()
      await new Promise((closed) => server.close(closed))
    },
  }
}

function createProvider(issuer: string, clients: readonly OidcClient[], keys: JWK[], lifetimeSeconds: number): Provider {
  const claimsOf = new Map(clients.map(({ id, claims }) => [id, claims]))
  return new Provider(issuer, {
    clients: clients.map(({ id }) => ({
      client_id: id,
      client_secret: secretOf(id),
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
    })),
    jwks: { keys: keys.map((key) => ({ ...key })) },
    adapter: StatelessAdapter,
    ttl: { ClientCredentials: lifetimeSeconds },
    cookies: { keys: ['not used by client credentials'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo: () => ({
          scope: '',
          audience: AUDIENCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetimeSeconds,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    formats: {
      customizers: {
        jwt(ctx, token, jwt) {
          const asked = JSON.parse(decodeURIComponent(ctx.get('x-test-claims') || '%7B%7D'))
          Object.assign(jwt.payload, claimsOf.get(token.clientId ?? ''), asked)
        },
      },
    },
  })
}

/** JWT access tokens by client credentials leave nothing to keep. */
class StatelessAdapter implements Adapter {
  async upsert() {}
  async find() {}
  async findByUserCode() {}
  async findByUid() {}
  async consume() {}
  async destroy() {}
  async revokeByGrantId() {}
}

async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  return { ...(await exportJWK(privateKey)), kid: crypto.randomUUID(), alg: 'ES256', use: 'sig' }
}

function secretOf(clientId: string): string {
  return `secret-of-${clientId}`
}
