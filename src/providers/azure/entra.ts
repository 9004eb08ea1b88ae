import { randomUUID } from 'node:crypto'
import type { INetworkModule } from '@azure/msal-node'
import { z } from 'zod'
import type { Exchange } from '../exchange.js'
import { ProviderError, type Signer } from '../provider.js'
import { refusal } from './refusal.js'

/** One tenant at Entra ID, and what Mayfly needs to ask it for tokens. */
export interface Entra {
  readonly authority: string
  readonly tenant: string
  readonly subject: string
  readonly audience: string
  readonly msal: typeof import('@azure/msal-node')
  readonly exchange: Exchange
  readonly signer: Signer
  readonly now: () => number
}
export interface TokenAsk {
  readonly clientId: string
  readonly scope: string
  /** For Entra's sign-in logs and ours: part of the assertion's `jti`. */
  readonly id: string
  readonly signal: AbortSignal
}

/** Long enough for one request; Entra allows for clocks that differ by five minutes. */
const ASSERTION_SECONDS = 120

/**
 * A new access token. Each ask has a client of its own: MSAL would keep tokens in its cache, and after a throttled answer refuse to ask at all
 * for other leases of the application.
 * @throws ProviderError
 */
export async function askForToken(entra: Entra, { clientId, scope, id, signal }: TokenAsk): Promise<{ token: string; expiresOn: number }> {
  const { authority, tenant, msal } = entra
  const endpoint = `${authority}/${tenant}/oauth2/v2.0/token`
  // MSAL takes https alone. Where to send, it only believes to decide: an authority on loopback is plain HTTP.
  const base = `https://${new URL(authority).host}/${tenant}`
  let trouble: ProviderError | undefined
  const application = new msal.ConfidentialClientApplication({
    auth: {
      clientId,
      authority: base,
      clientAssertion: () => assertion(entra, id),
      // Told, so that nothing is looked up: neither which clouds there are, nor where this one takes requests.
      knownAuthorities: [new URL(authority).host],
      authorityMetadata: JSON.stringify({
        token_endpoint: `${base}/oauth2/v2.0/token`,
        authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
        issuer: `${base}/v2.0`,
        jwks_uri: `${base}/discovery/v2.0/keys`,
      }),
    },
    system: {
      disableInternalRetries: true,
      networkClient: network(entra.exchange, endpoint, signal, (error) => {
        trouble = error
      }),
    },
  })
  try {
    const result = await application.acquireTokenByClientCredential({ scopes: [scope], skipCache: true })
    if (!result?.accessToken || result.expiresOn === null) throw new ProviderError('broken', 'Entra ID answered without a token')
    if (result.tokenType !== 'Bearer') throw new ProviderError('broken', 'Entra ID answered with a token of another kind')
    return { token: result.accessToken, expiresOn: result.expiresOn.getTime() }
  } catch (error) {
    if (error instanceof ProviderError) throw error
    // MSAL wraps what the network client threw, and its own errors hold the answer's text.
    throw (
      trouble ??
      new ProviderError('broken', 'Entra ID answered with what cannot be read', { cause: new Error(String(Object(error).errorCode ?? 'unknown')) })
    )
  }
}

/** RFC 7523 §3, with what a federated identity credential compares: issuer, subject and audience. RS256 is all that Entra verifies. */
async function assertion({ signer, subject, audience, now }: Entra, id: string): Promise<string> {
  const iat = Math.floor(now() / 1000)
  const claims = { sub: subject, aud: audience, iat, nbf: iat, exp: iat + ASSERTION_SECONDS, jti: `${id}.${randomUUID()}` }
  return signer.sign(claims, { typ: 'JWT', alg: 'RS256' }).catch(() => {
    throw new ProviderError(
      'invalid',
      'Entra ID takes assertions of RS256 alone: add an RSA key to signing.keys, after the first; see docs/providers/azure.md',
    )
  })
}

const answerShape = z.looseObject({
  token_type: z.string(),
  access_token: z.string().min(1),
  expires_in: z.union([z.int(), z.string().regex(/^\d{1,9}$/)]),
})

/** What MSAL sends, with the limits of ours: once, with the mint's own deadline, and read no further than it must be. */
function network(exchange: Exchange, endpoint: string, signal: AbortSignal, failed: (error: ProviderError) => void): INetworkModule {
  const told = (error: unknown): never => {
    const known = error instanceof ProviderError ? error : new ProviderError('broken', 'Entra ID could not be asked')
    failed(known)
    throw known
  }
  return {
    async sendGetRequestAsync() {
      return told(new ProviderError('broken', 'nothing is to be looked up for a token'))
    },
    async sendPostRequestAsync<T>(_url: string, { headers, body }: { headers?: Record<string, string>; body?: string } = {}) {
      const answer = await exchange.send({ url: endpoint, method: 'POST', headers, body, signal }).catch(told)
      if (answer.status !== 200) return told(refusal(answer.status, answer.body))
      const parsed = answerShape.safeParse(parse(answer.body))
      if (!parsed.success) return told(new ProviderError('broken', 'Entra ID answered with what is no token'))
      return { status: 200, headers: {}, body: parsed.data as T }
    },
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
