import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import type { Exchange } from '../exchange.js'
import { ProviderError } from '../provider.js'
import type { AccessBoundary } from './boundary.js'
import { refusal } from './error.js'

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
  /** `own`: headers that stand for the broker. https://docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken */
  impersonate(time: Deadline, own: Headers, ask: TokenAsk): Promise<{ readonly token: string; readonly end: number }>
  /** The same token with a bound to what it may do: https://docs.cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token */
  downscope(time: Deadline, token: string, boundary: AccessBoundary): Promise<string>
}

const impersonated = z.object({ accessToken: z.string().min(1), expireTime: z.iso.datetime({ offset: true }) })
const exchanged = z.object({ access_token: z.string().min(1), token_type: z.literal('Bearer') })

export function createGoogle(endpoints: Endpoints, exchange: Exchange): Google {
  const post = async <T>(time: Deadline, url: string, headers: Readonly<Record<string, string>>, body: string, shape: z.ZodType<T>): Promise<T> => {
    const answer = await within(time, (signal) => exchange.send({ method: 'POST', url, headers, body, signal }))
    const parsed = jsonOf(answer.body)
    if (answer.status !== 200) throw refusal(answer.status, parsed)
    const { data } = shape.safeParse(parsed)
    if (data === undefined) throw new ProviderError('broken', 'Google answered with what cannot be read')
    return data
  }
  return {
    async impersonate(time, own, { account, delegates, scopes, seconds, reason }) {
      const headers = { ...Object.fromEntries(own), 'content-type': 'application/json', 'x-goog-request-reason': reason }
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
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
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
