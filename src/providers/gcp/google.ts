import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import type { AccessBoundary } from './boundary.js'
import { asProviderError, refusal } from './error.js'
import type { Source } from './source.js'

export interface Endpoints {
  readonly iamcredentials: string
  readonly sts: string
}
export interface TokenAsk {
  readonly account: string
  readonly delegates: readonly string[]
  readonly scopes: readonly string[]
  readonly seconds: number
  /** Stands in the audit log beside the call. */
  readonly reason: string
}
export interface Google {
  /** https://docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken */
  impersonate(time: Deadline, ask: TokenAsk): Promise<{ readonly token: string; readonly end: number }>
  /** The same token with a bound to what it may do: https://docs.cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token */
  downscope(time: Deadline, token: string, boundary: AccessBoundary): Promise<string>
}

const impersonated = z.object({ accessToken: z.string().min(1), expireTime: z.iso.datetime({ offset: true }) })
const exchanged = z.object({ access_token: z.string().min(1), token_type: z.literal('Bearer') })

export function createGoogle(endpoints: Endpoints, source: Source): Google {
  /** One attempt, and no redirects: what is sent is a secret. */
  const post = async <T>(time: Deadline, url: string, headers: Headers, body: string, shape: z.ZodType<T>): Promise<T> => {
    try {
      return await within(time, async (signal) => {
        const answer = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'manual' })
        const parsed = jsonOf(await answer.text())
        if (!answer.ok) throw refusal(answer.status, parsed)
        const { data } = shape.safeParse(parsed)
        if (data === undefined) throw new ProviderError('broken', 'Google answered with what cannot be read')
        return data
      })
    } catch (error) {
      throw asProviderError(error)
    }
  }
  return {
    async impersonate(time, { account, delegates, scopes, seconds, reason }) {
      const headers = new Headers(await source.headers(time))
      headers.set('content-type', 'application/json')
      headers.set('x-goog-request-reason', reason)
      const url = `${endpoints.iamcredentials}/v1/projects/-/serviceAccounts/${encodeURIComponent(account)}:generateAccessToken`
      const body = { delegates: delegates.map((one) => `projects/-/serviceAccounts/${one}`), scope: scopes, lifetime: `${seconds}s` }
      const { accessToken, expireTime } = await post(time, url, headers, JSON.stringify(body), impersonated)
      return { token: accessToken, end: Date.parse(expireTime) }
    },

    async downscope(time, token, boundary) {
      const form = new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        subject_token: token,
        options: JSON.stringify(boundary),
      })
      const headers = new Headers({ 'content-type': 'application/x-www-form-urlencoded' })
      const answer = await post(time, `${endpoints.sts}/v1/token`, headers, form.toString(), exchanged)
      return answer.access_token
    },
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
