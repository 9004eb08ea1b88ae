import { z } from 'zod'
import { type ExchangeAnswer, openExchange } from '../exchange.js'
import { ProviderError } from '../provider.js'
import type { Options } from './options.js'

/** OpenBao's HTTP API: https://openbao.org/api-docs/. */
export interface Client {
  /**
   * One request; the parsed answer, undefined where it has no body.
   * @throws BaoError for every other status than 200 and 204
   */
  call(request: ClientRequest): Promise<unknown>
  close(): Promise<void>
}
export interface ClientRequest {
  readonly method: 'GET' | 'POST'
  /** Segments below /v1, not encoded. */
  readonly path: readonly string[]
  readonly query?: string
  readonly body?: object
  readonly token?: string
  /** True: outside of any namespace, as a few operations of the server itself must be. */
  readonly atRoot?: boolean
  readonly signal: AbortSignal
}

/** A refusal by OpenBao itself, with the status that callers tell apart; its words are only looked at, never passed on. */
export class BaoError extends ProviderError {
  constructor(
    kind: ProviderError['kind'],
    message: string,
    readonly status: number,
    /** True: it says that it knows no such lease. */
    readonly unknownLease: boolean,
  ) {
    super(kind, message, { cause: new Error(`HTTP ${status}`) })
  }
}

const MAX_ANSWER_BYTES = 1_048_576
const refusal = z.object({ errors: z.array(z.string()) })

export async function openClient({ url, namespace, ca }: Pick<Options, 'url' | 'namespace' | 'ca'>, timeoutMs: number): Promise<Client> {
  const exchange = await openExchange({ timeoutMs, maxBytes: MAX_ANSWER_BYTES, ca })
  return {
    async call({ method, path, query, body, token, atRoot = false, signal }) {
      const headers = {
        // What an agent in between may ask for, against requests that a browser was tricked into.
        'x-vault-request': 'true',
        ...(namespace === undefined || atRoot ? {} : { 'x-vault-namespace': `${namespace}/` }),
        ...(token === undefined ? {} : { 'x-vault-token': token }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      }
      const place = `${url}/v1/${path.map(encodeURIComponent).join('/')}${query === undefined ? '' : `?${query}`}`
      const answer = await exchange.send({ url: place, method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal })
      if (answer.status === 204) return undefined
      if (answer.status !== 200) throw refused(answer)
      return parsed(answer.body)
    },
    close: () => exchange.close(),
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ProviderError('broken', 'OpenBao answered with what is not JSON')
  }
}

/** https://openbao.org/api-docs/#http-status-codes */
const BY_STATUS: Readonly<Record<number, readonly [ProviderError['kind'], string]>> = {
  400: ['invalid', "OpenBao does not take the request: check the role's path, method and data"],
  403: ['refused', "OpenBao does not let the broker's token do this, or does not know it: see docs/providers/openbao.md"],
  404: ['invalid', "OpenBao has nothing at this path: check the role's path, and the namespace"],
  405: ['invalid', "OpenBao does not take this method at the path: check the role's method"],
  429: ['throttled', 'OpenBao is throttling'],
  501: ['refused', 'OpenBao is not initialized'],
  502: ['broken', 'OpenBao could not reach what is behind the path'],
  503: ['unreachable', 'OpenBao is sealed, or down for maintenance'],
}

function refused({ status, body }: ExchangeAnswer): BaoError {
  const [kind, message] = BY_STATUS[status] ?? (status >= 300 && status < 400 ? REDIRECTED : (['broken', `OpenBao failed (HTTP ${status})`] as const))
  return new BaoError(kind, message, status, status === 400 && toldUnknown(body))
}
const REDIRECTED = [
  'refused',
  'OpenBao sends elsewhere, which is not followed with a token: url must be the active node, or what forwards to it',
] as const

/** `vault/logical_system.go`, handleLeaseLookup: the same in OpenBao and Vault. */
function toldUnknown(body: string): boolean {
  try {
    return refusal.safeParse(JSON.parse(body)).data?.errors.includes('invalid lease') ?? false
  } catch {
    return false
  }
}
