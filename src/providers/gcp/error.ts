import { z } from 'zod'
import { ProviderError } from '../provider.js'

type Kind = ProviderError['kind']
const DOCS = 'see docs/providers/gcp.md'
/** https://docs.cloud.google.com/apis/design/errors, and RFC 6749 §5.2 for the token service. */
const said = z.object({ error: z.union([z.object({ status: z.string() }), z.string()]) })

const BY_HTTP: Readonly<Record<number, readonly [Kind, string]>> = {
  400: ['invalid', "Google does not take the request: check the role's OAuth scopes, access boundary and, past one hour, the organisation policy"],
  401: ['refused', "Google does not know the broker's own credentials: have they expired?"],
  403: ['refused', `the broker lacks roles/iam.serviceAccountTokenCreator on the service account, or its API is not enabled: ${DOCS}`],
  404: ['refused', `Google knows no such service account: ${DOCS}`],
  429: ['throttled', 'Google is throttling'],
  504: ['timeout', 'Google did not finish in time'],
}
const SOURCE_REFUSED = "Google, or who vouches for the broker, refuses the broker's own credentials"

/** What Google said other than yes; of its words only the status, which is one of a fixed list, is kept. */
export function refusal(http: number, body: unknown): ProviderError {
  const [kind, message] =
    BY_HTTP[http] ?? (http >= 500 ? ['unreachable', 'Google says that it is unavailable'] : ['broken', 'Google answered as it never does'])
  const error = said.safeParse(body).data?.error
  const word = typeof error === 'string' ? error : error?.status
  return new ProviderError(kind, message, { cause: new Error(`HTTP ${http}${word !== undefined && /^\w{1,40}$/.test(word) ? `, ${word}` : ''}`) })
}

/** What the library threw while it got the broker's own token: the whole request, with that token or its source, hangs on it. */
export function asSourceError(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const { status, code, name } = partsOf(thrown)
  const cause = new Error(`the broker's own token: ${status === undefined ? (code ?? name) : `HTTP ${status}`}`)
  if (status === 429) return new ProviderError('throttled', 'Google is throttling', { cause })
  if (status !== undefined)
    return status >= 500
      ? new ProviderError('unreachable', 'Google says that it is unavailable', { cause })
      : new ProviderError('refused', SOURCE_REFUSED, { cause })
  if (/Abort|Timeout/.test(name) || /ETIMEDOUT|ABORT/.test(code ?? ''))
    return new ProviderError('timeout', 'Google did not answer in time', { cause })
  if (code !== undefined && /^E(CONN|NOTFOUND|AI_|HOST|NET|PIPE)|^UND_|CERT|SSL|TLS/.test(code))
    return new ProviderError('unreachable', "Google could not be reached for the broker's own token", { cause })
  return new ProviderError('refused', `the broker has no credentials of its own that can be used: ${DOCS}`, { cause })
}

function partsOf(thrown: unknown): { name: string; code?: string; status?: number } {
  const { name, code, status, response, cause } = Object(thrown)
  const names = [name, Object(cause).name].filter((one) => typeof one === 'string')
  return {
    name: names.find((one) => /Abort|Timeout/.test(one)) ?? names[0] ?? 'unknown',
    code: [code, Object(cause).code].find((one) => typeof one === 'string'),
    status: [Object(response).status, status].find((one) => typeof one === 'number'),
  }
}
