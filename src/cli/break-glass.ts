import { randomUUID } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { Command } from 'commander'
import { seconds } from './parse.js'
import { CommandError, type Shell, UsageError } from './shell.js'
import { json, line } from './text.js'

const DEFAULT_ISSUER = 'https://break-glass.mayfly.internal'
const DEFAULT_AUDIENCE = 'mayfly'
const DEFAULT_SUBJECT = 'oncall'
const DEFAULT_TTL_SECONDS = 300
/** A broker takes no longer ones. */
const MOST_TTL_SECONDS = 900
const READ_BY_OTHERS = 0o077

interface TokenOptions {
  readonly key: string
  readonly config?: string
  readonly issuer?: string
  readonly audience?: string
  readonly subject?: string
  readonly reason?: string
  readonly ttl?: number
}
/** The private half, and whose tokens it signs: what a broker has to be asked about cannot be asked on that day. */
interface KeyFile {
  readonly issuer?: string
  readonly audience?: string
  readonly subject?: string
  readonly keys?: readonly { readonly kid?: string; readonly d?: string; readonly [member: string]: unknown }[]
}

/** `mayfly break-glass …`: an operator's keys that work with every identity provider down. Neither command asks anybody. */
export function breakGlass(shell: Shell): Command {
  return new Command('break-glass')
    .description('keys for the day on which no identity provider works')
    .addCommand(keygen(shell))
    .addCommand(token(shell))
}

function keygen(shell: Shell): Command {
  return new Command('keygen')
    .description('make a key: its private half into a file, for the safe; the public key set, for "jwks" of the configuration, on stdout')
    .requiredOption('--key <file>', 'where the private half goes; must not exist')
    .option('--issuer <url>', '"issuer" of the configuration', DEFAULT_ISSUER)
    .option('--audience <name>', '"audience" of the configuration', DEFAULT_AUDIENCE)
    .option('--subject <name>', '"sub" in "match" of the operator', DEFAULT_SUBJECT)
    .action(async ({ key: file, issuer, audience, subject }: Required<Omit<TokenOptions, 'config' | 'reason' | 'ttl'>>) => {
      const { calculateJwkThumbprint, exportJWK, generateKeyPair } = await import('jose')
      const { privateKey } = await generateKeyPair('ES256', { extractable: true })
      const { d, ...bare } = await exportJWK(privateKey)
      const shown = { ...bare, alg: 'ES256', use: 'sig', kid: await calculateJwkThumbprint(bare) }
      const kept: KeyFile = { issuer, audience, subject, keys: [{ ...shown, d }] }
      await writeFile(file, `${JSON.stringify(kept)}\n`, { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
        throw new CommandError('not_written', `cannot write ${file} (${error.code})`, 'name a file that does not exist: a key is not written over')
      })
      json(shell.stdout, { keys: [shown] })
      line(shell.stderr, `the private half is in ${file}: into a safe with it`)
    })
}

function token(shell: Shell): Command {
  return new Command('token')
    .description('sign a token for one request of an operator, offline; on stdout')
    .requiredOption('--key <file>', 'the private half, from keygen or mayfly keys generate')
    .option('--config <file>', 'mayfly.yaml: issuer and audience from its "break_glass" issuer')
    .option('--issuer <url>', 'as the configuration has it (else what keygen was given)')
    .option('--audience <name>', 'likewise')
    .option('--subject <name>', 'likewise')
    .option('--reason <text>', 'why: kept with the event that tells of its use')
    .option('--ttl <time>', 'how long it may wait to be used: 5m', seconds)
    .action(async (options: TokenOptions) => {
      const found = options.config === undefined ? {} : await issuerIn(options.config)
      line(shell.stdout, await signToken({ ...found, ...options }, shell))
    })
}

/** A token that serves one request. The key file says whose, unless the options do. */
export async function signToken({ key: file, reason, ttl = DEFAULT_TTL_SECONDS, ...asked }: TokenOptions, shell: Shell): Promise<string> {
  if (ttl > MOST_TTL_SECONDS) throw new UsageError(`a broker takes no token that lives longer than ${MOST_TTL_SECONDS} s`)
  const kept = await readKey(file, shell)
  const jwk = kept.keys?.find(({ d }) => d !== undefined)
  if (!jwk) throw new CommandError('no_key', `${file} has no private key ("d")`)
  const { importJWK, SignJWT } = await import('jose')
  const { d: _, ...shown } = jwk
  const key = await importJWK(jwk, 'ES256').catch(() => undefined)
  if (!key) throw new CommandError('no_key', `the key in ${file} cannot be used: make one with mayfly break-glass keygen`)
  const kid = jwk.kid ?? (await (await import('jose')).calculateJwkThumbprint(shown))
  return new SignJWT({ ...(reason !== undefined && { reason }) })
    .setProtectedHeader({ alg: 'ES256', kid, typ: 'JWT' })
    .setIssuer(asked.issuer ?? kept.issuer ?? DEFAULT_ISSUER)
    .setAudience(asked.audience ?? kept.audience ?? DEFAULT_AUDIENCE)
    .setSubject(asked.subject ?? kept.subject ?? DEFAULT_SUBJECT)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime(`${ttl} s`)
    .sign(key)
}

async function readKey(file: string, shell: Shell): Promise<KeyFile> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandError('no_key', `cannot read the key file ${file} (${error.code})`)
  })
  if (((await stat(file)).mode & READ_BY_OTHERS) !== 0) line(shell.stderr, `others may read ${file}: chmod 600`)
  try {
    return JSON.parse(text) as KeyFile
  } catch {
    throw new CommandError('no_key', `${file} is no key set (JSON)`)
  }
}

/** Of the configuration as it stands: what it refers to may not be within reach. */
async function issuerIn(file: string): Promise<{ issuer?: string; audience?: string }> {
  const { parse } = await import('yaml')
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandError('config', `cannot read ${file} (${error.code})`)
  })
  const { issuers = {} } = (parse(text) ?? {}) as { issuers?: Record<string, { break_glass?: unknown; issuer?: unknown; audience?: unknown }> }
  const [found, ...more] = Object.values(issuers).filter((one) => one.break_glass === true)
  if (!found || more.length > 0) throw new CommandError('config', `${file} has ${found ? 'several issuers' : 'no issuer'} with "break_glass: true"`)
  const { issuer, audience } = found
  if (typeof issuer !== 'string' || typeof audience !== 'string' || /^(env|file):/.test(`${issuer} ${audience}`))
    throw new CommandError('config', `${file} does not say issuer and audience themselves`, 'give --issuer and --audience')
  return { issuer, audience }
}
