import type { Command } from 'commander'
import { Mayfly } from '../client/index.js'
import { signToken } from './break-glass.js'
import { type CertificateOptions, certificateFetch } from './certificate.js'
import { type Shell, UsageError } from './shell.js'
import { findToken, namedTokenFile } from './token.js'

/** Options that every command against a broker has. */
export interface ConnectOptions extends CertificateOptions {
  readonly url?: string
  readonly tokenFile?: string
  readonly breakGlassKey?: string
  readonly audience: string
  readonly json?: boolean
}

const DEFAULT_AUDIENCE = 'mayfly'

export function withConnection(command: Command): Command {
  return command
    .option('--url <url>', 'of the broker (else MAYFLY_URL)')
    .option('--token-file <file>', 'the workload token (else MAYFLY_TOKEN_FILE, Kubernetes, GitHub Actions, or mayfly login)')
    .option('--break-glass-key <file>', 'of an operator, with the identity provider down: a token of its own for each request')
    .option('--client-cert <file>', 'an X.509-SVID instead of a token (else MAYFLY_CLIENT_CERT)')
    .option('--client-key <file>', 'its key (else MAYFLY_CLIENT_KEY)')
    .option('--audience <name>', 'audience to ask GitHub Actions for', DEFAULT_AUDIENCE)
    .option('--json', 'print JSON, also on a terminal')
}

export function connect(options: ConnectOptions, shell: Shell): Mayfly {
  const url = options.url ?? shell.env.MAYFLY_URL
  if (!url) throw new UsageError('which broker? give --url or set MAYFLY_URL')
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) throw new UsageError(`"${url}" is no URL of a broker: give it as https://HOST:PORT`)
  const { breakGlassKey: key } = options
  if (key !== undefined) return new Mayfly({ url, token: () => signToken({ key, reason: reasonOf(options) }, shell) })
  const fetch = certificateFetch(options, shell)
  // With both, the token decides: only one that was asked for is sent.
  if (fetch !== undefined && namedTokenFile(options, shell) === undefined) return new Mayfly({ url, fetch })
  return new Mayfly({ url, token: () => findToken(options, shell), fetch })
}

/** Tables are for people: JSON wherever the output goes elsewhere. */
export function wantsJson({ json }: Pick<ConnectOptions, 'json'>, shell: Shell): boolean {
  return json === true || !shell.stdout.isTerminal
}

/** Of a command that has one. */
function reasonOf(options: object): string | undefined {
  return 'reason' in options && typeof options.reason === 'string' ? options.reason : undefined
}
