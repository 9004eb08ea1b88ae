import { readFile } from 'node:fs/promises'
import { readLogin } from './login-file.js'
import { CommandError, type Shell } from './shell.js'

export interface TokenOptions {
  readonly tokenFile?: string
  readonly audience: string
}

/** Where a pod finds a projected service-account token for the broker's audience, when it is mounted as `docs/cli.md` says. */
export const KUBERNETES_TOKEN = '/var/run/secrets/mayfly/token'
const GITHUB_TIMEOUT_MS = 10_000

/**
 * The workload token, from the first place that has one: `--token-file`, `MAYFLY_TOKEN_FILE`, Kubernetes, GitHub Actions, `mayfly login`.
 * Read anew each time, because it rotates.
 */
export async function findToken({ tokenFile, audience }: TokenOptions, shell: Shell): Promise<string> {
  const named = namedTokenFile({ tokenFile }, shell)
  if (named !== undefined) return readToken(named)
  const projected = await readFile(KUBERNETES_TOKEN, 'utf8').catch(() => undefined)
  if (projected !== undefined) return projected.trim()
  const { ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: requestToken } = shell.env
  if (url && requestToken) return githubToken(url, requestToken, audience, shell.signal)
  const login = await readLogin(shell)
  if (login !== undefined) return login
  throw new CommandError('token_missing', 'there is no token to show the broker', 'give --token-file, set MAYFLY_TOKEN_FILE, or run mayfly login')
}

/** A file that somebody has named, by option or environment. */
export function namedTokenFile({ tokenFile }: Pick<TokenOptions, 'tokenFile'>, { env }: Pick<Shell, 'env'>): string | undefined {
  return tokenFile ?? nonEmpty(env.MAYFLY_TOKEN_FILE)
}

async function readToken(file: string, check = '--token-file or MAYFLY_TOKEN_FILE'): Promise<string> {
  const token = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandError('token_missing', `cannot read the token file ${file} (${error.code})`, `check ${check}`)
  })
  if (token.trim() === '') throw new CommandError('token_missing', `the token file ${file} is empty`)
  return token.trim()
}

/** A human's token, read anew each time: it is short-lived, and whoever asks twice needs a newer one. */
export function humanToken(file: string | undefined): (() => Promise<string>) | undefined {
  return file === undefined ? undefined : () => readToken(file, '--on-behalf-of-file')
}

/** https://docs.github.com/en/actions/reference/security/oidc: `GET` with the audience, answered as `{value}`. */
async function githubToken(url: string, requestToken: string, audience: string, signal: AbortSignal): Promise<string> {
  const target = new URL(url)
  target.searchParams.set('audience', audience)
  const timed = AbortSignal.any([signal, AbortSignal.timeout(GITHUB_TIMEOUT_MS)])
  const answer = await fetch(target, { headers: { authorization: `Bearer ${requestToken}` }, signal: timed, redirect: 'error' }).catch(
    () => undefined,
  )
  const body: unknown = answer?.ok ? await answer.json().catch(() => undefined) : undefined
  if (typeof body === 'object' && body !== null && 'value' in body && typeof body.value === 'string') return body.value
  const what = answer === undefined ? 'did not answer' : `answered HTTP ${answer.status}`
  throw new CommandError('token_missing', `GitHub's token service ${what}`, 'give the job "permissions: id-token: write"')
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}
