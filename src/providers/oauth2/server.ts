import type { ClientAuth, Configuration, ServerMetadata, TokenEndpointResponse } from 'openid-client'
import { z } from 'zod'
import { isSafeUrl, type Outbound } from '../outbound.js'
import { ProviderError } from '../provider.js'
import { asProviderError, checkStatus } from './error.js'
import { type Options, signingKeyOf } from './options.js'

/** One authorization server, asked as one client of it. Each call is one attempt, until its signal aborts. */
export interface AuthorizationServer {
  /** From its metadata; `fresh`: looked at again after a while. */
  endpoints(signal: AbortSignal, fresh?: boolean): Promise<Endpoints>
  token(grant: string, parameters: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Made>
  /** RFC 7009. */
  revoke(token: string, hint: 'access_token' | 'refresh_token', signal: AbortSignal): Promise<void>
  /** RFC 7662; undefined where the server offers no introspection. */
  isActive(token: string, signal: AbortSignal): Promise<boolean | undefined>
}
export type Endpoints = Pick<ServerMetadata, 'issuer' | 'token_endpoint' | 'revocation_endpoint' | 'introspection_endpoint'>

/** What may have been made, as soon as it is known, so that it can be given back; and what else the server said, or what is wrong with it. */
export interface Made {
  readonly tokens: { readonly access_token?: string; readonly refresh_token?: string }
  readonly answer: TokenEndpointResponse | ProviderError
}

const FRESH_MS = 3_600_000
const CLIENT_CREDENTIALS = 'client_credentials'
const tokens = z.object({ access_token: z.string().optional().catch(undefined), refresh_token: z.string().optional().catch(undefined) })

export async function openServer(options: Options, outbound: Outbound): Promise<AuthorizationServer> {
  const oauth = await import('openid-client')
  const auth = await clientAuth(oauth, options)
  let known: { endpoints: Endpoints; at: number } | undefined

  const fetchUntil =
    (signal: AbortSignal, seen?: (text: string) => void) =>
    async (url: string, init: { method: string; headers: Record<string, string>; body?: unknown }): Promise<Response> => {
      const response = await outbound.fetch(url, { method: init.method, headers: init.headers, body: init.body, signal })
      checkStatus(response.status)
      seen?.(await response.clone().text())
      return response
    }

  /** One configuration for one call, which is what its signal is for. */
  const configured = (endpoints: Endpoints, signal: AbortSignal, seen?: (text: string) => void): Configuration => {
    const configuration = new oauth.Configuration(endpoints, options.client_id, undefined, auth)
    configuration[oauth.customFetch] = fetchUntil(signal, seen)
    configuration.timeout = undefined
    if (options.allow_http_loopback) oauth.allowInsecureRequests(configuration)
    return configuration
  }

  const discover = async (signal: AbortSignal): Promise<Endpoints> => {
    const { issuer, endpoints, client_id, discovery: algorithm, allow_http_loopback: loopback } = options
    if (endpoints) {
      const { token: token_endpoint, revocation: revocation_endpoint, introspection: introspection_endpoint } = endpoints
      return { issuer, token_endpoint, revocation_endpoint, introspection_endpoint }
    }
    const execute = loopback ? [oauth.allowInsecureRequests] : []
    const found = await oauth
      .discovery(new URL(issuer), client_id, undefined, auth, { algorithm, execute, [oauth.customFetch]: fetchUntil(signal) })
      .catch(rethrow)
    return checked(found.serverMetadata(), options)
  }

  const endpoints = async (signal: AbortSignal, fresh = false): Promise<Endpoints> => {
    if (known && !(fresh && performance.now() - known.at > FRESH_MS)) return known.endpoints
    try {
      known = { endpoints: await discover(signal), at: performance.now() }
    } catch (error) {
      if (!known) throw error
    }
    return known.endpoints
  }

  return {
    endpoints,

    async token(grant, parameters, signal) {
      const found = await endpoints(signal)
      let made: Made['tokens'] = {}
      const configuration = configured(found, signal, (text) => {
        made = tokensIn(text)
      })
      const asked =
        grant === CLIENT_CREDENTIALS
          ? oauth.clientCredentialsGrant(configuration, parameters)
          : oauth.genericGrantRequest(configuration, grant, parameters)
      const answer = await asked.catch(asProviderError)
      // Nothing was made: then this is all there is to say.
      if (answer instanceof ProviderError && Object.values(made).every((token) => token === undefined)) throw answer
      return { tokens: made, answer }
    },

    async revoke(token, token_type_hint, signal) {
      const found = await endpoints(signal)
      if (found.revocation_endpoint === undefined) throw new ProviderError('refused', 'the server offers no revocation (RFC 7009)')
      await oauth.tokenRevocation(configured(found, signal), token, { token_type_hint }).catch(rethrow)
    },

    async isActive(token, signal) {
      const found = await endpoints(signal)
      if (found.introspection_endpoint === undefined) return undefined
      const { active } = await oauth.tokenIntrospection(configured(found, signal), token, { token_type_hint: 'access_token' }).catch(rethrow)
      return active
    },
  }
}

/** Only what is used, and only where the issuer is: metadata must not send the client's secret, or the broker's requests, elsewhere. */
function checked(metadata: ServerMetadata, { issuer, allow_http_loopback: allowHttpLoopback }: Options): Endpoints {
  const { token_endpoint, revocation_endpoint, introspection_endpoint } = metadata
  if (token_endpoint === undefined) throw new ProviderError('refused', 'the metadata of the server names no token endpoint')
  for (const url of [token_endpoint, revocation_endpoint, introspection_endpoint])
    if (url !== undefined && !(isSafeUrl(url, { allowHttpLoopback }) && new URL(url).origin === new URL(issuer).origin))
      throw new ProviderError('refused', 'the metadata of the server names an endpoint of another origin: name its endpoints in the configuration')
  return { issuer: metadata.issuer, token_endpoint, revocation_endpoint, introspection_endpoint }
}

async function clientAuth(oauth: typeof import('openid-client'), options: Options): Promise<ClientAuth> {
  const { client_auth: method, client_secret: secret, key_id: kid } = options
  if (method === 'client_secret_basic') return oauth.ClientSecretBasic(secret)
  if (method === 'client_secret_post') return oauth.ClientSecretPost(secret)
  const signing = signingKeyOf(options)
  if (!signing) throw new ProviderError('invalid', 'private_key_jwt needs a private_key')
  const { importPKCS8 } = await import('jose')
  return oauth.PrivateKeyJwt({ key: await importPKCS8(signing.pkcs8, signing.alg), kid })
}

/** Whatever else is wrong with the answer. */
function tokensIn(text: string): Made['tokens'] {
  try {
    return tokens.parse(JSON.parse(text))
  } catch {
    return {}
  }
}

function rethrow(error: unknown): never {
  throw asProviderError(error)
}
