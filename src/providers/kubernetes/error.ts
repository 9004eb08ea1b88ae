import { z } from 'zod'
import { ProviderError } from '../provider.js'

type Kind = ProviderError['kind']
const DOCS = 'see docs/providers/kubernetes.md'
/** https://kubernetes.io/docs/reference/using-api/api-concepts/ and `Status` of the API's description. */
const status = z.object({
  kind: z.literal('Status'),
  reason: z.string().optional(),
  details: z.object({ name: z.string().optional(), kind: z.string().optional() }).optional(),
  metadata: z.object({ continue: z.string().optional() }).optional(),
})
export type Status = z.infer<typeof status>

export function statusOf(text: string): Status | undefined {
  try {
    return status.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** An answer other than yes, on its way through the client library. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly said: Status | undefined,
  ) {
    super('refused')
  }
}

const BY_HTTP: Readonly<Record<number, readonly [Kind, string]>> = {
  400: ['invalid', 'the API server does not take the request: is it older than Kubernetes 1.25?'],
  401: ['refused', "the API server does not know the broker's own credentials: have they expired?"],
  403: ['refused', `the broker lacks a permission, or an admission policy of the cluster refuses: ${DOCS}`],
  404: ['refused', 'the API server knows no such namespace, service account or Secret'],
  409: ['refused', 'the API server says that it is there already, or another than was asked for'],
  410: ['broken', 'the API server forgot where a list went on'],
  422: ['invalid', 'the API server does not take a parameter of the role'],
  429: ['throttled', 'the API server is throttling'],
  500: ['broken', 'the API server says that it failed'],
  502: ['unreachable', 'what stands before the API server could not reach it'],
  503: ['unreachable', 'the API server says that it is unavailable'],
  504: ['timeout', 'the API server did not finish in time'],
}

/** What the API server said other than yes; of its words only the reason, which is one of a fixed list, is kept. */
export function refusal(http: number, said: Status | undefined): ProviderError {
  const [kind, message] = BY_HTTP[http] ?? ['broken', 'the API server answered as none does']
  const reason = said?.reason !== undefined && /^[A-Za-z]{1,40}$/.test(said.reason) ? said.reason : 'no reason'
  return new ProviderError(kind, message, { cause: new Error(`HTTP ${http}, ${reason}`) })
}

/** What the client threw: only its code goes on, because the request may hang on the error. */
export function asProviderError(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const { code: told } = Object(thrown)
  const code = typeof told === 'string' ? told : 'unknown'
  const cause = new Error(code)
  if (/^(UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT|UND_ERR_ABORTED|ETIMEDOUT)$/.test(code))
    return new ProviderError('timeout', 'the API server did not answer in time', { cause })
  if (/CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|HOSTNAME_MISMATCH/.test(code))
    return new ProviderError('refused', "the API server's certificate does not verify: check ca, and the name in server", { cause })
  if (/^(ERR_SSL|EPROTO)/.test(code))
    return new ProviderError('refused', 'no TLS with the API server: check server and the client certificate', { cause })
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') return new ProviderError('broken', 'the API server answered with too much', { cause })
  return new ProviderError('unreachable', 'the API server could not be reached, or did not answer as one does', { cause })
}
