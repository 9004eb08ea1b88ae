import { createPrivateKey } from 'node:crypto'
import { z } from 'zod'
import type { Outbound } from '../outbound.js'
import { ProviderError } from '../provider.js'
import { asProviderError, isFromGitHub, isNotFound, saysBadCredentials } from './error.js'
import type { Asked } from './role.js'

/** The few operations of GitHub's API that are needed: https://docs.github.com/en/rest/apps. Each one attempt, until its signal aborts. */
export interface GitHub {
  app(signal: AbortSignal): Promise<App>
  installation(of: { installation?: number; owner?: string }, signal: AbortSignal): Promise<Installation>
  createToken(installation: number, asked: Asked, signal: AbortSignal): Promise<Created>
  revokeToken(token: string, signal: AbortSignal): Promise<'revoked' | 'absent'>
  probe(token: string, signal: AbortSignal): Promise<'dead' | 'alive'>
}

const VERSION = '2022-11-28'
const OK = 200
const CREATED = 201
const NO_CONTENT = 204
const levels = z.record(z.string(), z.string())
const app = z.object({ id: z.int(), client_id: z.string().optional() })
const installation = z.object({
  id: z.int(),
  account: z.object({ login: z.string().optional(), slug: z.string().optional() }).nullish(),
  permissions: levels,
  suspended_at: z.string().nullish(),
})
/** Visible ASCII, so that it is one header and nothing else. The form may change, and has: https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header */
export const tokenText = z.string().regex(/^[\x21-\x7e]{1,16384}$/)
const created = z.object({ token: tokenText })
export type App = z.infer<typeof app>
export type Installation = z.infer<typeof installation>
/** The token as soon as it is known, so that it can be given back; the rest is still to be judged. */
export interface Created {
  readonly token: string
  readonly answer: unknown
}

export interface GitHubOptions {
  readonly apiUrl: string
  readonly appId: string | number
  /** PEM, PKCS#1 or PKCS#8. */
  readonly privateKey: string
}

export async function openGitHub({ apiUrl, appId, privateKey }: GitHubOptions, outbound: Outbound): Promise<GitHub> {
  const [{ createAppAuth }, { request }] = await Promise.all([import('@octokit/auth-app'), import('@octokit/request')])
  const log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
  const base = request.defaults({
    baseUrl: apiUrl,
    headers: { 'user-agent': 'mayfly', accept: 'application/vnd.github+json', 'x-github-api-version': VERSION },
    request: { fetch: outbound.fetch, log },
  })
  // Only for the app's own JWT: its installation tokens are cached, and even without its cache two calls for the same narrowing at the same
  // time share one token, which would be two leases' at once.
  const auth = createAppAuth({ appId, privateKey: normalKey(privateKey), request: base, log })

  /** @returns the body of an answer with that status, from GitHub itself */
  const call = async (route: string, status: number, authorization: string, signal: AbortSignal, parameters: object = {}): Promise<unknown> => {
    const answer = await base(route, { ...parameters, headers: { authorization }, request: { signal } })
    if (Number(answer.status) === status && isFromGitHub(answer.headers)) return answer.data
    throw new ProviderError('broken', `this is not GitHub's answer (HTTP ${answer.status}): check api_url, and what stands between`)
  }
  const asApp = async (route: string, status: number, signal: AbortSignal, parameters: object = {}): Promise<unknown> =>
    call(route, status, `bearer ${(await auth({ type: 'app' })).token}`, signal, parameters)

  return {
    app: (signal) => asApp('GET /app', OK, signal).then((data) => read(app, data), rethrow),

    async installation({ installation: id, owner }, signal) {
      const data =
        owner === undefined
          ? await asApp('GET /app/installations/{installation_id}', OK, signal, { installation_id: id }).catch(rethrow)
          : await asApp('GET /orgs/{org}/installation', OK, signal, { org: owner })
              .catch((error: unknown) => {
                if (!isNotFound(error)) throw error
                return asApp('GET /users/{username}/installation', OK, signal, { username: owner })
              })
              .catch(rethrow)
      const found = read(installation, data)
      const login = found.account?.login ?? found.account?.slug
      if (owner !== undefined && login?.toLowerCase() !== owner.toLowerCase())
        throw new ProviderError('broken', 'GitHub answered with the installation of another account')
      return found
    },

    async createToken(id, asked, signal) {
      const data = await asApp('POST /app/installations/{installation_id}/access_tokens', CREATED, signal, { installation_id: id, ...asked }).catch(
        rethrow,
      )
      return { token: read(created, data).token, answer: data }
    },

    revokeToken: (token, signal) =>
      call('DELETE /installation/token', NO_CONTENT, `token ${token}`, signal).then(
        () => 'revoked',
        (error: unknown) => (saysBadCredentials(error) ? 'absent' : rethrow(error)),
      ),

    probe: (token, signal) =>
      call('GET /installation/repositories', OK, `token ${token}`, signal, { per_page: 1 }).then(
        () => 'alive',
        (error: unknown) => (saysBadCredentials(error) ? 'dead' : rethrow(error)),
      ),
  }
}

/** Line breaks may come escaped from an environment variable. @throws Error when it is no private RSA key */
export function normalKey(pem: string): string {
  const key = createPrivateKey(pem.replaceAll('\\n', '\n'))
  if (key.asymmetricKeyType !== 'rsa') throw new Error('not an RSA key')
  return String(key.export({ type: 'pkcs8', format: 'pem' }))
}

function read<T>(shape: z.ZodType<T>, data: unknown): T {
  const parsed = shape.safeParse(data)
  if (!parsed.success) throw new ProviderError('broken', 'GitHub answered with what its published description does not have')
  return parsed.data
}

function rethrow(error: unknown): never {
  throw asProviderError(error)
}

function nothing(): void {}
