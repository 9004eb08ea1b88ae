import { generateKeyPairSync } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createLocalJWKSet, exportJWK, generateKeyPair, type JWTPayload, jwtVerify } from 'jose'
import { type Adapter, type AdapterPayload, errors, Provider } from 'oidc-provider'
import { generateSigningKeys, openSigner, type TokenSigner } from '../../src/signer.js'

const HOST = '127.0.0.1'
const OPAQUE = 'ClientCredentials:'
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const SCOPES = ['orders.read', 'orders.write', 'carts.read']
/** An API that asks the server about opaque tokens, and one that checks the signature of JWTs. */
export const API = { opaque: 'urn:test:opaque', jwt: 'urn:test:jwt' } as const
export const SECRET = 'a-secret:of/the+broker%'
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const RSA_KEY = String(rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }))
export const EC_KEY = String(ec.privateKey.export({ type: 'sec1', format: 'pem' }))

export interface OAuthUpstream {
  readonly host: string
  readonly port: number
  readonly issuer: string
  readonly signer: TokenSigner
  /** Tokens that the server knows of: of those it can take back, the ones that live. */
  made(): string[]
  /** What the API that asks the server is told of a token. */
  introspect(token: string): Promise<Record<string, unknown>>
  /** What the API that checks the signature reads in a token. @throws when it is not valid at that time */
  verify(token: string, at?: number): Promise<JWTPayload>
  /** Seconds that its tokens live. */
  setLife(seconds: number): void
  /** What comes instead of the answers of one kind that the server has made up its mind about; undefined: nothing does. */
  tamper(route: Route, change: ((body: Record<string, unknown>) => unknown) | undefined): void
  /** Keeps requests of that kind back, once they have done their work, until what it returns is called. */
  hold(route: Route): () => void
  /** In the place of the server, for one path. */
  instead(path: string, answer: { status: number; body?: unknown; headers?: Record<string, string> } | undefined): void
  /** `route` of each request that was carried out. */
  readonly routes: readonly string[]
  /** Claims of the tokens that were exchanged. */
  readonly subjects: readonly JWTPayload[]
  stop(): Promise<void>
}
type Route = 'discovery' | 'token' | 'revocation' | 'introspection'

/** A real `oidc-provider` with client credentials, RFC 8693 as a grant of its own, RFC 7009, RFC 7662 and RFC 8707, on a free loopback port. */
export async function startOAuth(): Promise<OAuthUpstream> {
  let handle: (request: IncomingMessage, response: ServerResponse) => void = () => undefined
  const replaced = new Map<string, { status: number; body?: unknown; headers?: Record<string, string> }>()
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://any')
    const instead = replaced.get(pathname)
    if (instead === undefined) return handle(request, response)
    request.resume()
    return response.writeHead(instead.status, { 'content-type': 'application/json', ...instead.headers }).end(JSON.stringify(instead.body ?? {}))
  })
  await new Promise<void>((listening) => server.listen(0, HOST, listening))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const issuer = `http://${HOST}:${port}`

  let life = 120
  const store = new Map<string, AdapterPayload>()
  const structured: string[] = []
  const routes: string[] = []
  const subjects: JWTPayload[] = []
  const changes = new Map<string, (body: Record<string, unknown>) => unknown>()
  const held = new Map<string, Promise<void>>()
  const signer = await openSigner({ issuer: 'https://mayfly.test', keys: await generateSigningKeys('ES256') })
  const mayflys = createLocalJWKSet(signer.jwks())
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const key = { ...(await exportJWK(privateKey)), kid: 'k', alg: 'ES256', use: 'sig' }
  const { d: _d, ...publicKey } = key

  const info = (resource: string) => {
    if (resource !== API.opaque && resource !== API.jwt) throw new errors.InvalidTarget()
    return {
      scope: SCOPES.join(' '),
      audience: resource,
      accessTokenFormat: resource === API.jwt ? ('jwt' as const) : ('opaque' as const),
      accessTokenTTL: life,
      jwt: { sign: { alg: 'ES256' as const } },
    }
  }
  const common = { grant_types: ['client_credentials', TOKEN_EXCHANGE], redirect_uris: [], response_types: [], scope: SCOPES.join(' ') }
  const client = (client_id: string, token_endpoint_auth_method: 'client_secret_basic' | 'client_secret_post') => ({
    ...common,
    client_id,
    client_secret: SECRET,
    token_endpoint_auth_method,
    id_token_signed_response_alg: 'ES256' as const,
  })
  const keysOf = (client_id: string, jwk: object): string => {
    replaced.set(`/keys/${client_id}`, { status: 200, body: { keys: [{ ...jwk, use: 'sig' }] } })
    return `${issuer}/keys/${client_id}`
  }
  const keyed = (client_id: string, jwk: object, alg: 'ES256' | 'RS256' | 'PS256') => ({
    ...common,
    client_id,
    token_endpoint_auth_method: 'private_key_jwt' as const,
    token_endpoint_auth_signing_alg: alg,
    // Not by value: what the server clones has prototypes of another realm inside Jest, and is no plain object then.
    jwks_uri: keysOf(client_id, jwk),
    id_token_signed_response_alg: 'ES256' as const,
  })
  const provider = new Provider(issuer, {
    clients: [
      client('mayfly', 'client_secret_basic'),
      client('mayfly-post', 'client_secret_post'),
      keyed('mayfly-ec', ec.publicKey.export({ format: 'jwk' }), 'ES256'),
      keyed('mayfly-rsa', rsa.publicKey.export({ format: 'jwk' }), 'RS256'),
      keyed('mayfly-pss', rsa.publicKey.export({ format: 'jwk' }), 'PS256'),
      client('api', 'client_secret_basic'),
    ],
    jwks: { keys: [{ ...key }] },
    scopes: SCOPES,
    adapter: (name: string) => new StoreAdapter(store, name),
    cookies: { keys: ['not used'] },
    // The server's own refuses loopback.
    fetch: (url, init) => fetch(url, { signal: init?.signal }),
    ttl: { ClientCredentials: () => life },
    extraTokenClaims: (ctx) => Object(ctx.state.exchanged),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_ctx, asking, token) => token.clientId === asking.clientId },
      introspection: { enabled: true, allowedPolicy: (_ctx, asking, token) => asking.clientId === 'api' || token.clientId === asking.clientId },
      resourceIndicators: { enabled: true, defaultResource: () => API.opaque, getResourceServerInfo: (_ctx, resource) => info(resource) },
    },
  })
  provider.registerGrantType<Record<string, string>>(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { params } = ctx.oidc
      if (params.subject_token_type !== 'urn:ietf:params:oauth:token-type:jwt') throw new errors.InvalidRequest('subject_token_type is not supported')
      const verified = await jwtVerify(String(params.subject_token), mayflys, {
        issuer: signer.issuer,
        audience: issuer,
        requiredClaims: ['jti', 'exp'],
      })
      const { payload } = verified
      const resource = typeof params.resource === 'string' ? params.resource : API.opaque
      const scopes = String(params.scope).split(' ')
      if (!scopes.every((scope) => SCOPES.includes(scope))) throw new errors.InvalidScope('requested scope is not whitelisted', String(params.scope))
      subjects.push(payload)
      ctx.state.exchanged = { on_behalf_of: payload.sub, act: payload.act, task: payload.task }
      const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope: scopes.join(' ') })
      token.resourceServer = new provider.ResourceServer(resource, info(resource))
      const access_token = await token.save()
      const issued_token_type = 'urn:ietf:params:oauth:token-type:access_token'
      ctx.body = { access_token, issued_token_type, token_type: 'Bearer', expires_in: token.expiration, scope: token.scope }
    },
    ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'],
  )
  // Nothing of a JWT is kept.
  provider.on('client_credentials.issued', (token) => void (store.has(`${OPAQUE}${token.jti}`) || structured.push(String(token.jti))))
  provider.use(async (ctx, next) => {
    await next()
    const route = ctx.oidc?.route ?? 'none'
    routes.push(route)
    await held.get(route)
    const change = changes.get(route)
    if (change && ctx.status === 200) ctx.body = change(Object(ctx.body))
  })
  handle = provider.callback()

  return {
    host: HOST,
    port,
    issuer,
    signer,
    routes,
    subjects,
    made: () => [...[...store.keys()].filter((name) => name.startsWith(OPAQUE)).map((name) => name.slice(OPAQUE.length)), ...structured],
    async introspect(token) {
      const authorization = `Basic ${Buffer.from(`api:${encodeURIComponent(SECRET)}`).toString('base64')}`
      const response = await fetch(`${issuer}/token/introspection`, {
        method: 'POST',
        headers: { authorization },
        body: new URLSearchParams({ token }),
      })
      return Object(await response.json())
    },
    async verify(token, at = Date.now()) {
      const options = { issuer, audience: API.jwt, currentDate: new Date(at), typ: 'at+jwt' }
      return (await jwtVerify(token, createLocalJWKSet({ keys: [publicKey] }), options)).payload
    },
    setLife(seconds) {
      life = seconds
    },
    tamper(route, change) {
      if (change) changes.set(route, change)
      else changes.delete(route)
    },
    hold(route) {
      let release: () => void = () => undefined
      held.set(
        route,
        new Promise((resolve) => {
          release = resolve
        }),
      )
      return () => {
        held.delete(route)
        release()
      }
    },
    instead(path, answer) {
      if (answer) replaced.set(path, answer)
      else replaced.delete(path)
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((closed) => server.close(closed))
    },
  }
}

/** Keeps what the server must remember of its opaque tokens. */
class StoreAdapter implements Adapter {
  constructor(
    private readonly store: Map<string, AdapterPayload>,
    private readonly name: string,
  ) {}
  async upsert(id: string, payload: AdapterPayload) {
    this.store.set(`${this.name}:${id}`, payload)
  }
  async find(id: string) {
    return this.store.get(`${this.name}:${id}`)
  }
  async destroy(id: string) {
    this.store.delete(`${this.name}:${id}`)
  }
  async findByUserCode() {
    return undefined
  }
  async findByUid() {
    return undefined
  }
  async consume() {}
  async revokeByGrantId() {}
}
