import { Command } from 'commander'
import { writeLogin } from './login-file.js'
import { CommandError, type Shell, UsageError } from './shell.js'
import { line } from './text.js'

interface LoginOptions {
  readonly issuer: string
  readonly clientId: string
  readonly scope: string
  readonly resource?: string
}

/** `mayfly login`: the device authorization grant (RFC 8628), for people. The token goes into a file for its owner's eyes only. */
export function login(shell: Shell): Command {
  return new Command('login')
    .description('log in with a browser, on whatever device; keeps the token for the other commands')
    .requiredOption('--issuer <url>', 'of the OpenID provider')
    .requiredOption('--client-id <id>', 'of this command, registered there as a public client with the device grant')
    .option('--scope <scopes>', 'to ask for', 'openid')
    .option('--resource <uri>', 'resource indicator of the broker (RFC 8707), where the provider wants one')
    .action(async (options: LoginOptions) => {
      const token = await deviceGrant(options, shell)
      const expires_at = token.expires_in === undefined ? undefined : new Date(Date.now() + token.expires_in * 1000).toISOString()
      const file = await writeLogin(shell, { issuer: options.issuer, access_token: token.access_token, expires_at })
      line(shell.stderr, `logged in${expires_at === undefined ? '' : ` until ${expires_at}`}; the token is in ${file}`)
    })
}

async function deviceGrant(options: LoginOptions, shell: Shell): Promise<{ access_token: string; expires_in?: number }> {
  const oidc = await import('openid-client')
  const issuer = issuerOf(options.issuer)
  const execute = issuer.protocol === 'http:' ? [oidc.allowInsecureRequests] : []
  try {
    const client = await oidc.discovery(issuer, options.clientId, undefined, oidc.None(), { execute })
    const resource: Record<string, string> = options.resource === undefined ? {} : { resource: options.resource }
    const device = await oidc.initiateDeviceAuthorization(client, { scope: options.scope, ...resource })
    line(shell.stderr, `Open ${device.verification_uri_complete ?? device.verification_uri}`)
    line(shell.stderr, `and confirm the code ${device.user_code}`)
    return await oidc.pollDeviceAuthorizationGrant(client, device, resource, { signal: shell.signal })
  } catch (error) {
    shell.signal.throwIfAborted()
    throw new CommandError(
      'login_failed',
      whyOf(error),
      `check --issuer and --client-id, and that the client may use the device grant at ${issuer.origin}`,
    )
  }
}

/** A token over plain HTTP only to oneself. */
function issuerOf(url: string): URL {
  if (!URL.canParse(url)) throw new UsageError(`"${url}" is no URL`)
  const issuer = new URL(url)
  const loopback = ['127.0.0.1', '[::1]', 'localhost'].includes(issuer.hostname)
  if (issuer.protocol !== 'https:' && !(issuer.protocol === 'http:' && loopback)) throw new UsageError('the issuer must be an https: URL')
  return issuer
}

function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { cause } = error
  if ('error_description' in error && typeof error.error_description === 'string') return error.error_description
  return cause instanceof Error ? `${error.message}: ${cause.message}` : error.message
}
