import { createPublicKey, createSign, createVerify, generateKeyPairSync, type JsonWebKey, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Ajv } from 'ajv'

/**
 * A FAKE of Microsoft Entra ID, for want of a tenant in tests: the v2.0 token endpoint for client credentials with a federated assertion, its
 * discovery document, and a resource server that checks the tokens. Requests are held to `published/entra-token.json`; assertions to what
 * https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations says of issuer, subject, audience and algorithm.
 * Imports nothing of the project.
 */
export interface FakeEntra {
  readonly host: string
  readonly port: number
  readonly authority: string
  readonly tenant: string
  /** Tokens given out so far. */
  readonly issued: readonly IssuedToken[]
  /** Tokens given out from now on live so long. */
  setLifetime(seconds: number): void
  /** The next request to the token endpoint is answered with this, whatever it is. */
  failNext(status: number, code: number): void
  /** Whether a resource server lets the bearer in, at that time (ms). */
  authorize(token: string, resource: string, at?: number): boolean
  stop(): Promise<void>
}
export interface FakeEntraOptions {
  readonly tenant: string
  readonly applications: Readonly<Record<string, FakeApplication>>
  /** Application ID URIs that the tenant knows. */
  readonly resources: readonly string[]
  readonly lifetimeSeconds?: number
}
export interface FakeApplication {
  readonly federated: readonly { readonly issuer: string; readonly subject: string; readonly audience: string }[]
}
export interface IssuedToken {
  readonly id: string
  readonly clientId: string
  readonly audience: string
  readonly assertionId: string
  readonly expiresAt: number
}

const HOST = '127.0.0.1'
/** Clocks may differ by this much; RFC 7523 §3 (4). */
const SKEW_SECONDS = 300
const KID = 'fake-entra-1'
const schemas = JSON.parse(readFileSync(new URL('published/entra-token.json', import.meta.url), 'utf8'))
const isRequest = new Ajv({ strict: true }).compile<{ client_id: string; scope: string; client_assertion: string }>(schemas.request)

class Refusal extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly error = 'invalid_client',
    readonly status = 401,
  ) {
    super(message)
  }
}

export async function startFakeEntra(options: FakeEntraOptions): Promise<FakeEntra> {
  const { tenant, applications, resources } = options
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const issued: IssuedToken[] = []
  const used = new Set<string>()
  let lifetime = options.lifetimeSeconds ?? 3599
  let failing: { status: number; code: number } | undefined

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (!(error instanceof Refusal)) return response.writeHead(500).end()
      return send(response, error.status, errorBody(error))
    })
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://entra')
    const [, asked = '', ...rest] = pathname.split('/')
    const path = rest.join('/')
    const isToken = request.method === 'POST' && path === 'oauth2/v2.0/token'
    const isDiscovery = request.method === 'GET' && path === 'v2.0/.well-known/openid-configuration'
    if (!isToken && !isDiscovery) throw new Refusal(900144, 'Not found.', 'invalid_request', 404)
    if (asked !== tenant) throw new Refusal(90002, `Tenant '${asked}' not found.`, 'invalid_request', 400)
    const base = `${authority()}/${tenant}`
    const metadata = { token_endpoint: `${base}/oauth2/v2.0/token`, issuer: `${base}/v2.0`, jwks_uri: `${base}/discovery/v2.0/keys` }
    send(response, 200, isDiscovery ? metadata : await token(await formOf(request)))
  }

  async function token(form: unknown): Promise<object> {
    if (failing) {
      const { status, code } = failing
      failing = undefined
      throw new Refusal(code, 'A transient error has occurred. Please try again.', 'temporarily_unavailable', status)
    }
    if (!isRequest(form)) throw new Refusal(900144, 'The request body must contain the documented parameters, and no others.', 'invalid_request', 400)
    const { client_id: clientId, scope, client_assertion } = form
    const application = Object.hasOwn(applications, clientId) ? applications[clientId] : undefined
    if (application === undefined)
      throw new Refusal(700016, `Application with identifier '${clientId}' was not found in the directory.`, 'unauthorized_client', 400)
    const assertionId = await checked(client_assertion, application)
    if (scope.includes(' ')) throw new Refusal(70011, `The provided value for scope ${scope} is not valid.`, 'invalid_scope', 400)
    if (!scope.endsWith('/.default'))
      throw new Refusal(
        1002012,
        `The provided value for scope ${scope} is not valid. Client credential flows must have a scope value with /.default`,
        'invalid_scope',
        400,
      )
    const audience = scope.slice(0, -'/.default'.length)
    if (!resources.includes(audience)) throw new Refusal(500011, `The resource principal named ${audience} was not found.`, 'invalid_resource', 400)
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      aud: audience,
      iss: `${authority()}/${tenant}/v2.0`,
      iat: now,
      nbf: now,
      exp: now + lifetime,
      azp: clientId,
      tid: tenant,
      ver: '2.0',
    }
    const id = randomUUID()
    issued.push({ id, clientId, audience, assertionId, expiresAt: claims.exp * 1000 })
    const signed = `${encode({ typ: 'JWT', alg: 'RS256', kid: KID })}.${encode({ ...claims, uti: id })}`
    const access_token = `${signed}.${createSign('sha256').update(signed).sign(privateKey, 'base64url')}`
    return { token_type: 'Bearer', expires_in: lifetime, ext_expires_in: lifetime, access_token }
  }

  /** The assertion's id, if a federated credential of the application trusts it. */
  async function checked(assertion: string, { federated }: FakeApplication): Promise<string> {
    const [header = '', payload = '', signature = ''] = assertion.split('.')
    const { alg, kid } = decode(header)
    if (alg !== 'RS256') throw new Refusal(5002738, `Invalid JWT token. '${alg}' is not a supported signature algorithm.`)
    const { iss, sub, aud, exp, nbf, jti } = decode(payload)
    const ofIssuer = federated.filter(({ issuer }) => issuer === iss)
    if (ofIssuer.length === 0) throw new Refusal(700211, `No matching federated identity record found for presented assertion issuer '${iss}'.`)
    const ofAudience = ofIssuer.filter(({ audience }) => audience === aud)
    if (ofAudience.length === 0) throw new Refusal(700212, `No matching federated identity record found for presented assertion audience '${aud}'.`)
    if (!ofAudience.some(({ subject }) => subject === sub)) {
      const folded = ofAudience.some(({ subject }) => subject.toLowerCase() === String(sub).toLowerCase())
      throw new Refusal(folded ? 7002138 : 700213, `No matching federated identity record found for presented assertion subject '${sub}'.`)
    }
    const keys = await keysOf(String(iss))
    const key = keys.find((one) => one.kid === kid)
    if (key === undefined)
      throw new Refusal(7000272, `The certificate with identifier ${kid} could not be found in the metadata of identity provider ${iss}.`)
    const isSigned = createVerify('sha256')
      .update(`${header}.${payload}`)
      .verify(createPublicKey({ key, format: 'jwk' }), signature, 'base64url')
    if (!isSigned) throw new Refusal(700027, 'The certificate with identifier used to sign the client assertion is not registered on application.')
    const now = Date.now() / 1000
    if (typeof exp !== 'number' || typeof nbf !== 'number' || exp + SKEW_SECONDS < now || nbf - SKEW_SECONDS > now)
      throw new Refusal(700024, 'Client assertion is not within its valid time range.')
    // RFC 7523 §3 (7): may be refused when seen before. Entra does not say whether it is; a caller must not count on it.
    if (typeof jti !== 'string' || used.has(jti)) throw new Refusal(50027, 'Invalid JWT token. jti is missing or was used before.')
    used.add(jti)
    return jti
  }

  function authority(): string {
    return `http://${HOST}:${port}`
  }
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    host: HOST,
    port,
    authority: authority(),
    tenant,
    issued,
    setLifetime(seconds) {
      lifetime = seconds
    },
    failNext(status, code) {
      failing = { status, code }
    },
    authorize(bearer, resource, at = Date.now()) {
      const [header = '', payload = '', signature = ''] = bearer.split('.')
      if (!createVerify('sha256').update(`${header}.${payload}`).verify(publicKey, signature, 'base64url')) return false
      const { aud, iss, exp, nbf } = decode(payload)
      return aud === resource && iss === `${authority()}/${tenant}/v2.0` && at < Number(exp) * 1000 && at >= Number(nbf) * 1000
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** As an external identity provider is found: OpenID Connect Discovery 1.0 §4. */
async function keysOf(issuer: string): Promise<(JsonWebKey & { kid?: string })[]> {
  try {
    const metadata = Object(await (await fetch(`${issuer}/.well-known/openid-configuration`)).json())
    if (metadata.issuer !== issuer) throw new Error('another issuer')
    return Object(await (await fetch(metadata.jwks_uri)).json()).keys
  } catch {
    throw new Refusal(50166, 'Request to External OIDC endpoint failed.')
  }
}

async function formOf(request: IncomingMessage): Promise<Record<string, string>> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  if (!/^application\/x-www-form-urlencoded(;|$)/.test(request.headers['content-type'] ?? '')) return {}
  const form = new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
  // A parameter may not be repeated: RFC 6749 §3.2.
  return new Set(form.keys()).size < [...form.keys()].length ? {} : Object.fromEntries(form)
}

function errorBody({ code, error, message }: Refusal): object {
  const [trace_id, correlation_id] = [randomUUID(), randomUUID()]
  const timestamp = `${new Date().toISOString().slice(0, 19).replace('T', ' ')}Z`
  const error_description = `AADSTS${code}: ${message} Trace ID: ${trace_id} Correlation ID: ${correlation_id} Timestamp: ${timestamp}`
  const error_uri = `https://login.microsoftonline.com/error?code=${code}`
  return { error, error_description, error_codes: [code], timestamp, trace_id, correlation_id, error_uri }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body))
}

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url')
}

function decode(part: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(Buffer.from(part, 'base64url').toString('utf8')))
  } catch {
    throw new Refusal(50027, 'Invalid JWT token. Token format not valid.', 'invalid_request', 400)
  }
}
