import type { AuthClient, GoogleAuth } from 'google-auth-library'
import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { jsonText } from '../json-text.js'
import { asSourceError } from './error.js'

/** What the broker itself is allowed to ask for: to be somebody else. */
const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'

/**
 * A credentials file's text. What runs a program is refused, as a configuration must not run any as the broker.
 * https://docs.cloud.google.com/docs/authentication/application-default-credentials
 */
export const credentials = jsonText.pipe(
  z.looseObject({
    type: z.enum(
      ['service_account', 'external_account', 'impersonated_service_account', 'authorized_user'],
      'must be one of the types of credentials files',
    ),
    credential_source: z.looseObject({ executable: z.never('must not run a program').optional() }).optional(),
  }),
)
export type Credentials = z.infer<typeof credentials>

/** The broker's own identity at Google. */
export interface Source {
  /** Headers that stand for the broker; got anew by the library shortly before its token ends. */
  headers(time: Deadline): Promise<Headers>
}

export async function openSource(given: Credentials | undefined, timeoutMs: number): Promise<Source> {
  const library = await import('google-auth-library')
  const auth: GoogleAuth = new library.GoogleAuth({ scopes: SCOPE, ...(given && { credentials: given }) })
  let client: Promise<AuthClient> | undefined
  const open = async (): Promise<AuthClient> => {
    const made = await auth.getClient()
    for (const transporter of transportersOf(made)) once(transporter, timeoutMs)
    return made
  }
  return {
    headers: (time) =>
      within(time, async () => {
        client ??= open()
        const held = client
        return (
          await held.catch((error: unknown) => {
            client = undefined
            throw error
          })
        ).getRequestHeaders()
      }).catch((error: unknown) => {
        throw asSourceError(error)
      }),
  }
}

interface Transporter {
  readonly interceptors: { readonly request: Interceptors; readonly response: Interceptors }
}
interface Interceptors {
  clear(): void
  add(interceptor: { resolved(config: Prepared): Promise<Prepared> }): void
}
interface Prepared {
  retry?: boolean
  retryConfig?: object
  signal?: AbortSignal | null
}

/**
 * One attempt, in bounded time: the library tries three times with waiting in between, for longer than a mint may take, and has no option
 * against it. Its own interceptors go, because they can be made to log the answers, tokens included.
 */
function once({ interceptors }: Transporter, timeoutMs: number): void {
  interceptors.request.clear()
  interceptors.response.clear()
  interceptors.request.add({
    async resolved(config) {
      config.retry = false
      config.retryConfig = undefined
      config.signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(config.signal ? [config.signal] : [])])
      return config
    },
  })
}

/** The client's own and those of the clients that it asks in turn: token service, source of an impersonation. */
function transportersOf(value: unknown, depth = 4): Transporter[] {
  if (typeof value !== 'object' || value === null) return []
  if (isTransporter(value)) return [value]
  if (depth === 0) return []
  return Object.values(value).flatMap((inner) => transportersOf(inner, depth - 1))
}

function isTransporter(value: object): value is Transporter {
  const { request, response } = 'interceptors' in value ? Object(value.interceptors) : {}
  return [request, response].every((one) => one instanceof Set)
}
