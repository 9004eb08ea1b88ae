import type { IssuedAnswer } from '../api.js'
import { CommandError } from './shell.js'

/** How `mayfly get` prints one credential. */
export const FORMATS = ['json', 'env', 'aws', 'pgpass'] as const
export type Format = (typeof FORMATS)[number]

export function formatted(format: Format, answer: IssuedAnswer): string {
  return { json: asJson, env: asEnv, aws: asAws, pgpass: asPgpass }[format](answer)
}

function asJson(answer: IssuedAnswer): string {
  return JSON.stringify(answer, null, 2)
}

/** For `eval "$(mayfly get … --format env)"`: inside single quotes a POSIX shell expands nothing. */
function asEnv({ credential }: IssuedAnswer): string {
  return Object.entries(credential.env)
    .map(([name, value]) => {
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0')) throw unfit('env', 'a shell cannot hold its variables')
      return `export ${name}='${value.replaceAll("'", `'\\''`)}'`
    })
    .join('\n')
}

/** https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html */
function asAws({ credential }: IssuedAnswer): string {
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = credential.env
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) throw unfit('aws', `it is of type "${credential.type}"`)
  const keys = { AccessKeyId: AWS_ACCESS_KEY_ID, SecretAccessKey: AWS_SECRET_ACCESS_KEY, SessionToken: AWS_SESSION_TOKEN }
  return JSON.stringify({ Version: 1, ...keys, Expiration: credential.expires_at })
}

/** https://www.postgresql.org/docs/current/libpq-pgpass.html: `:` and `\` are escaped with `\`. */
function asPgpass({ credential }: IssuedAnswer): string {
  const { PGHOST, PGPORT = '5432', PGDATABASE = '*', PGUSER, PGPASSWORD } = credential.env
  if (!PGHOST || !PGUSER || !PGPASSWORD) throw unfit('pgpass', `it is of type "${credential.type}"`)
  const fields = [PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD]
  if (fields.some((field) => /[\r\n\0]/.test(field))) throw unfit('pgpass', 'a field holds a line break')
  return fields.map((field) => field.replace(/[\\:]/g, '\\$&')).join(':')
}

function unfit(format: Format, why: string): CommandError {
  return new CommandError('format', `this credential cannot be given as ${format}: ${why}`, 'ask with --format json to see what it is')
}
