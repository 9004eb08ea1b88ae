import { wrapped } from '../outbound.js'
import { ProviderError } from '../provider.js'

type Told = readonly [ProviderError['kind'], string]
const CLIENT: Told = ['refused', "the server does not take the broker's own client_id, its authentication, or this grant from it"]
const REQUEST: Told = ['refused', 'the server does not give these scopes for this resource or audience to this client']
/** RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8693 §2.2.2, RFC 8707 §2. */
const BY_ERROR: Readonly<Record<string, Told>> = {
  invalid_client: CLIENT,
  unauthorized_client: CLIENT,
  unsupported_grant_type: CLIENT,
  invalid_scope: REQUEST,
  invalid_target: REQUEST,
  access_denied: REQUEST,
  invalid_request: ['refused', 'the server does not take the request: check grant, resource and audience of the role'],
  invalid_grant: ['refused', 'the server does not take the token that Mayfly signed: it must know its issuer and keys, and subject_audience'],
  unsupported_token_type: ['refused', 'the server revokes no tokens of this form: give it "verification: signature", or let it make opaque tokens'],
  temporarily_unavailable: ['throttled', 'the server says that it is unavailable'],
  slow_down: ['throttled', 'the server says that it is asked too often'],
}
/** openid-client's own. */
const BY_CODE: Readonly<Record<string, Told>> = {
  OAUTH_WWW_AUTHENTICATE_CHALLENGE: CLIENT,
  OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED: ['refused', 'the metadata found there is of another issuer: check issuer'],
  OAUTH_HTTP_REQUEST_FORBIDDEN: ['refused', 'the server names endpoints that are not https'],
}

/** What the client library threw, without what hangs on it: the answer, and with it perhaps a token. */
export function asProviderError(thrown: unknown): ProviderError {
  const known = wrapped(thrown)
  if (known) return known
  const { error, code, status } = Object(thrown)
  const words = [status, error, code].filter((one) => typeof one === 'number' || (typeof one === 'string' && /^[A-Za-z_]{1,60}$/.test(one)))
  const cause = new Error(words.join(' '))
  const [kind, message] = tableOf(BY_ERROR, error) ??
    tableOf(BY_CODE, code) ?? ['broken', 'the server answered with what OAuth does not know: check issuer, discovery and endpoints']
  return new ProviderError(kind, `${message}; see docs/providers/oauth2.md`, { cause })
}

/** What an answer's status says before anything is read; the rest is the client library's to judge. */
export function checkStatus(status: number): void {
  const cause = new Error(`HTTP ${status}`)
  if (status === 429) throw new ProviderError('throttled', 'the server says that it is asked too often', { cause })
  // Gateways also answer so when the server was reached and its answer was lost: that nothing was made is not said.
  if ([502, 503, 504].includes(status)) throw new ProviderError('unreachable', 'the server, or a gateway before it, is not available', { cause })
}

function tableOf(table: Readonly<Record<string, Told>>, key: unknown): Told | undefined {
  return typeof key === 'string' && Object.hasOwn(table, key) ? table[key] : undefined
}
