import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Credential } from '../../src/providers/provider.js'
import { closedPort } from '../support/faulty-upstream.js'
import { waitFor } from '../support/wait.js'

const execute = promisify(execFile)
const SSHD = '/usr/sbin/sshd'
const HOST = '127.0.0.1'

export interface Ran {
  readonly code: number
  readonly output: string
}
export interface Sshd {
  readonly folder: string
  /** What it reads its revocations from. */
  readonly krlFile: string
  /** Runs a command there as the holder of the credential would; `from` is another loopback address to come from. */
  run(credential: Credential, command: string, from?: string): Promise<Ran>
  /** A session that answers each line with itself. */
  openSession(credential: Credential): Promise<{ usable(): Promise<boolean>; close(): Promise<void> }>
  revokedAre(krl: Buffer): Promise<void>
  log(): string
  stop(): Promise<void>
}

export interface SshdOptions {
  /** Lines of `TrustedUserCAKeys`. */
  readonly trusted: string
  /** Names of which a certificate must hold one. */
  readonly principals: readonly string[]
  readonly krl?: Buffer
}

/** A real sshd on a free loopback port, for the user that runs the tests, who may come in by certificate alone. */
export async function startSshd({ trusted, principals, krl }: SshdOptions): Promise<Sshd> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-sshd-'))
  const at = (name: string) => join(folder, name)
  const port = await closedPort()
  const { uid, username } = userInfo()
  // Where Debian's sshd wants a folder to shut its unprivileged half into.
  if (uid === 0 && !existsSync('/run/sshd')) await mkdir('/run/sshd', { mode: 0o755 })
  await newKey(at('host_key'))
  await writeFile(at('ca.pub'), trusted)
  await writeFile(at('principals'), `${principals.join('\n')}\n`)
  if (krl) await writeFile(at('krl'), krl)
  const config = [
    `ListenAddress ${HOST}:${port}`,
    `HostKey ${at('host_key')}`,
    `PidFile ${at('pid')}`,
    `TrustedUserCAKeys ${at('ca.pub')}`,
    `AuthorizedPrincipalsFile ${at('principals')}`,
    `RevokedKeys ${at('krl')}`,
    'AuthorizedKeysFile none',
    'AuthenticationMethods publickey',
    'PermitRootLogin prohibit-password',
    'StrictModes no',
    'UsePAM no',
    'PrintMotd no',
    'PrintLastLog no',
    'MaxStartups 100',
    'LogLevel VERBOSE',
  ]
  await writeFile(at('sshd_config'), `${config.join('\n')}\n`)
  const { server, log } = startServer(['-D', '-e', '-f', at('sshd_config')])
  await waitFor('sshd to listen', () => {
    if (server.exitCode !== null) throw new Error(`sshd ended: ${log()}`)
    return log().includes('Server listening')
  })
  const known = `[${HOST}]:${port} ${await readFile(at('host_key.pub'), 'utf8')}`
  await writeFile(at('known_hosts'), known)

  let holders = 0
  const argumentsFor = async (credential: Credential, from: string): Promise<string[]> => {
    const name = at(`holder-${++holders}`)
    await writeFile(name, String(credential.env.SSH_PRIVATE_KEY), { mode: 0o600 })
    await writeFile(`${name}-cert.pub`, `${credential.env.SSH_CERTIFICATE}\n`)
    const options = [
      'BatchMode=yes',
      'IdentitiesOnly=yes',
      'StrictHostKeyChecking=yes',
      `UserKnownHostsFile=${at('known_hosts')}`,
      'ConnectTimeout=10',
    ]
    return ['-F', 'none', '-b', from, '-p', String(port), '-i', name, ...options.flatMap((one) => ['-o', one]), `${username}@${HOST}`]
  }
  return {
    folder,
    krlFile: at('krl'),
    log,
    async run(credential, command, from = HOST) {
      const given = await argumentsFor(credential, from)
      return execute('ssh', [...given, command], { timeout: 20_000 }).then(
        ({ stdout }) => ({ code: 0, output: stdout }),
        (error: { code?: number; stdout?: string; stderr?: string }) => ({ code: error.code ?? -1, output: `${error.stdout}${error.stderr}` }),
      )
    },
    async openSession(credential) {
      const client = spawn('ssh', [...(await argumentsFor(credential, HOST)), 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] })
      let heard = ''
      client.stdout.on('data', (chunk) => {
        heard += String(chunk)
      })
      let lines = 0
      return {
        usable: async () => {
          const line = `line ${++lines}\n`
          client.stdin.write(line)
          return waitFor('its echo', () => heard.endsWith(line) || client.exitCode !== null).then(() => client.exitCode === null)
        },
        close: async () => {
          if (client.exitCode !== null) return
          const ended = once(client, 'exit')
          client.stdin.end()
          await ended
        },
      }
    },
    async revokedAre(bytes) {
      await writeFile(at('krl.new'), bytes)
      await rename(at('krl.new'), at('krl'))
    },
    async stop() {
      const ended = once(server, 'exit')
      server.kill('SIGTERM')
      if (server.exitCode === null && server.signalCode === null) await ended
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function startServer(args: readonly string[]): { server: ChildProcess; log: () => string } {
  const server = spawn(SSHD, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  server.stderr?.on('data', (chunk) => {
    said += String(chunk)
  })
  return { server, log: () => said }
}

/** A key pair of `ssh-keygen`; answers the private one's text. */
export async function newKey(path: string, ...args: readonly string[]): Promise<string> {
  await execute('ssh-keygen', ['-q', '-N', '', '-C', '', '-f', path, ...(args.length > 0 ? args : ['-t', 'ed25519'])])
  return readFile(path, 'utf8')
}

/** Keys for an authority, one of each argument list, in a folder that is gone afterwards. */
export async function newKeys(...kinds: readonly (readonly string[])[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-keys-'))
  try {
    return await Promise.all(kinds.map((kind, index) => newKey(join(folder, String(index)), ...kind)))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
