import { wrapped } from '../outbound.js'
import { ProviderError } from '../provider.js'

/** https://docs.github.com/en/rest/about-the-rest-api/troubleshooting-the-rest-api */
const BY_STATUS: Readonly<Record<number, readonly [ProviderError['kind'], string]>> = {
  401: ['refused', "GitHub does not take the app's own key: check app_id and private_key, and the broker's clock"],
  403: ['refused', 'GitHub forbids it: the installation may be suspended, or the app is not allowed from this address'],
  404: ['refused', 'GitHub knows no such installation of this app: check installation or owner, and that the app is installed there'],
  422: ['refused', 'the installation does not have these repositories or permissions: grant them to it, or ask for fewer in the role'],
  502: ['unreachable', 'GitHub could not be reached through its own gateway'],
  // Gateways also answer so when GitHub was reached and its answer was lost: that nothing was made is not said.
  503: ['unreachable', 'GitHub is not available'],
  504: ['unreachable', 'GitHub did not answer its own gateway in time'],
}
const TOO_MANY = 429
const FORBIDDEN = 403
const UNAUTHORIZED = 401

/** On every answer that GitHub itself gives, and on none of a proxy's. */
const REQUEST_ID = 'x-github-request-id'

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly message: string
}

/** What the client threw, without what hangs on it: its error keeps the whole request and answer. */
export function asProviderError(thrown: unknown): ProviderError {
  const known = wrapped(thrown)
  if (known) return known
  const answer = answerIn(thrown)
  if (answer === undefined) return new ProviderError('broken', 'GitHub answered with what cannot be read')
  const cause = new Error(`HTTP ${answer.status}${idOf(answer)}`)
  if (answer.status < 500 && answer.status !== TOO_MANY && !isFromGitHub(answer.headers))
    return new ProviderError('broken', 'what answered is not GitHub: check api_url, and what stands between', { cause })
  if (isThrottled(answer)) return new ProviderError('throttled', 'GitHub limits how often the app may ask', { cause })
  const [kind, message] = BY_STATUS[answer.status] ?? ['broken', `GitHub answered with an error (HTTP ${answer.status})`]
  return new ProviderError(kind, `${message}; see docs/providers/github-app.md`, { cause })
}

/** GitHub itself says that the token it was asked with is none, or none any more. Somebody else's 401 proves nothing. */
export function saysBadCredentials(thrown: unknown): boolean {
  const answer = answerIn(thrown)
  return answer?.status === UNAUTHORIZED && isFromGitHub(answer.headers) && answer.message === 'Bad credentials'
}

export function isNotFound(thrown: unknown): boolean {
  return answerIn(thrown)?.status === 404
}

export function isFromGitHub(headers: Readonly<Record<string, unknown>>): boolean {
  return typeof headers[REQUEST_ID] === 'string'
}

/** https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit */
function isThrottled({ status, headers, message }: Answer): boolean {
  if (status === TOO_MANY) return true
  return status === FORBIDDEN && (headers['retry-after'] !== undefined || headers['x-ratelimit-remaining'] === '0' || /rate limit/i.test(message))
}

function idOf({ headers }: Answer): string {
  const id = headers[REQUEST_ID]
  return typeof id === 'string' && /^[A-Fa-f0-9:]{1,64}$/.test(id) ? `, GitHub's request ${id}` : ''
}

function answerIn(thrown: unknown): Answer | undefined {
  const response = thrown instanceof Error && 'response' in thrown ? Object(thrown.response) : undefined
  if (typeof response?.status !== 'number') return undefined
  const { message } = Object(response.data)
  return { status: response.status, headers: Object(response.headers), message: typeof message === 'string' ? message : '' }
}
