import { randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair } from 'jose'
import type { Configuration } from 'oidc-provider'

/** A client that gets tokens by `client_credentials`; its id is the token's `sub`. */
export interface DevClient {
  readonly id: string
  readonly secret: string
  /** Claims added to its tokens, e.g. `{groups: ['sre-oncall']}`. */
  readonly claims?: Readonly<Record<string, unknown>>
}
export interface DevIssuerOptions {
  /** 0 or absent: any free one. */
  readonly port?: number
  readonly clients: readonly DevClient[]
  /** Claims by login name, for people who come through the device flow; any password will do. */
  readonly people?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** `aud` of every token; `mayfly` when absent. */
  readonly audience?: string
  /** Life of a token; 3600 when absent. */
  readonly tokenSeconds?: number
}
export interface DevIssuer {
  /** Its `iss`, and where it listens. */
  readonly url: string
  /** A fresh token of one client, asked for over HTTP as anybody would. */
  token(client: string): Promise<string>
  close(): Promise<void>
}

/** The public client that people log in with: `mayfly login --client-id mayfly-cli`. */
export const DEVICE_CLIENT = 'mayfly-cli'
const LOOPBACK = '127.0.0.1'
const TOKEN_SECONDS = 3_600
const RESOURCE = 'urn:mayfly'
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

/**
 * A real OpenID provider on loopback, for development and the demo: JWT access tokens (RFC 9068) by `client_credentials` for programs, by the
 * device flow (RFC 8628) for people. Its keys live as long as it does.
 */
export async function startDevIssuer(options: DevIssuerOptions): Promise<DevIssuer> {
  const server = createServer()
  await listen(server, options.port ?? 0)
  const url = `http://${LOOPBACK}:${(server.address() as AddressInfo).port}`
  try {
    const { default: Provider } = await quietly(() => import('oidc-provider'))
    const provider = await quietly(async () => new Provider(url, await configurationOf(options)))
    server.on('request', provider.callback())
  } catch (error) {
    server.close()
    throw error
  }
  return {
    url,
    token: (client) => tokenOf(url, clientOf(options, client)),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** RFC 6749 §4.4. */
async function tokenOf(url: string, { id, secret }: DevClient): Promise<string> {
  const body = new URLSearchParams({ grant_type: 'client_credentials', client_id: id, client_secret: secret })
  const response = await fetch(`${url}/token`, { method: 'POST', body })
  const answer = (await response.json()) as { access_token?: string; error?: string }
  if (answer.access_token === undefined) throw new Error(`the development issuer answered ${response.status} ${answer.error ?? ''}`)
  return answer.access_token
}

function clientOf({ clients }: DevIssuerOptions, id: string): DevClient {
  const client = clients.find((one) => one.id === id)
  if (!client) throw new Error(`the development issuer has no client "${id}"`)
  return client
}

async function configurationOf({
  clients,
  people = {},
  audience = 'mayfly',
  tokenSeconds = TOKEN_SECONDS,
}: DevIssuerOptions): Promise<Configuration> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const key = { ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: randomBytes(8).toString('hex') }
  const claimsOf = (name: string | undefined) => clients.find((one) => one.id === name)?.claims ?? (name === undefined ? undefined : people[name])
  const common = { redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256' as const }
  return {
    clients: [
      // `client_secret_post`, because it is the easier one to type into curl.
      ...clients.map(({ id, secret }) => ({
        ...common,
        client_id: id,
        client_secret: secret,
        grant_types: ['client_credentials'],
        token_endpoint_auth_method: 'client_secret_post' as const,
      })),
      {
        ...common,
        client_id: DEVICE_CLIENT,
        grant_types: [DEVICE_GRANT],
        token_endpoint_auth_method: 'none' as const,
        application_type: 'native' as const,
      },
    ],
    jwks: { keys: [key] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    extraTokenClaims: (_context, token) => claimsOf('accountId' in token ? token.accountId : token.clientId),
    ttl: { AccessToken: tokenSeconds, ClientCredentials: tokenSeconds, DeviceCode: 600, Grant: 3_600, Interaction: 600, Session: 3_600 },
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true },
      // Without a resource server the tokens would be opaque (RFC 8707; the audience is ours to name).
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'mayfly',
          audience,
          accessTokenFormat: 'jwt',
          accessTokenTTL: tokenSeconds,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, LOOPBACK, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** oidc-provider warns on the console about what is fit for development only. This is development only. */
async function quietly<T>(work: () => Promise<T>): Promise<T> {
  const { warn, info } = console
  console.warn = console.info = () => {}
  try {
    return await work()
  } finally {
    Object.assign(console, { warn, info })
  }
}
