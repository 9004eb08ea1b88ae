import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, createServer, type SecureContextOptions, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import type { Credential } from '../../src/providers/provider.js'

export const execute = promisify(execFile)
const HOST = '127.0.0.1'

export interface Pair {
  readonly certificate: string
  readonly key: string
}
export interface AuthorityOptions {
  readonly name?: string
  /** As `openssl req -newkey` takes it, with its options. */
  readonly kind?: readonly string[]
  readonly extensions?: readonly string[]
  /** Until its end; negative: it has expired. */
  readonly days?: number
  /** Who signs it, where it does not itself. */
  readonly by?: Pair
}

const P256 = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
const AUTHORITY = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash']

/** A certificate and its key, made by `openssl`: an authority's unless `extensions` say otherwise. */
export async function newAuthority(options: AuthorityOptions = {}): Promise<Pair> {
  const { name = 'Agents', kind = P256, extensions = AUTHORITY, days = 30, by } = options
  return inFolder(async (at, write) => {
    const signer = by ? ['-CA', await write('ca.pem', by.certificate), '-CAkey', await write('ca.key', by.key)] : []
    const added = extensions.flatMap((one) => ['-addext', one])
    const config = await write('config', '[req]\ndistinguished_name=dn\n[dn]\n')
    const made = ['-keyout', at('key'), '-out', at('certificate'), '-days', String(Math.abs(days)), ...added, ...signer]
    await execute('openssl', ['req', '-x509', '-config', config, '-newkey', ...kind, '-noenc', '-subj', `/CN=${name}`, ...made])
    // Signed once more, with an end in the past, which `req` does not do.
    const again = ['x509', '-in', at('certificate'), '-signkey', at('key'), '-days', String(days), '-out', at('again')]
    if (days < 0) await execute('openssl', again)
    return { certificate: await readFile(at(days < 0 ? 'again' : 'certificate'), 'utf8'), key: await readFile(at('key'), 'utf8') }
  })
}

/** A folder for as long as `work` takes; `write` answers the path of what it wrote. */
export async function inFolder<T>(
  work: (at: (name: string) => string, write: (name: string, text: string | Buffer) => Promise<string>) => Promise<T>,
) {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-tls-'))
  const at = (name: string) => join(folder, name)
  try {
    return await work(at, async (name, text) => {
      await writeFile(at(name), text)
      return at(name)
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export interface TlsServer {
  /** What the server tells of who is there; undefined when it let nobody in. */
  greets(credential: Credential): Promise<{ names: string; subject: string } | undefined>
  openSession(credential: Credential): Promise<{ usable(): Promise<boolean>; close(): Promise<void> }>
  reload(context: Trust): void
  /** Why it let somebody not in, as OpenSSL names it. */
  readonly refusals: string[]
  stop(): Promise<void>
}
/** Whom it lets in: signed by one of `ca`, and not in one of the lists. */
export interface Trust {
  readonly ca: string
  readonly crl?: string
}

/** A real TLS server that wants a client certificate and looks it up in revocation lists. */
export async function startTlsServer(trust: Trust): Promise<TlsServer> {
  const own = await newAuthority({ name: 'server', extensions: ['subjectAltName=IP:127.0.0.1', 'basicConstraints=critical,CA:TRUE'] })
  const contextOf = ({ ca, crl }: Trust): SecureContextOptions => ({
    cert: own.certificate,
    key: own.key,
    ca: blocksOf(ca),
    crl: crl && blocksOf(crl),
  })
  const open = new Set<TLSSocket>()
  const refusals: string[] = []
  // Rejected by hand, so that it can be told why: Node itself only says that the connection is over.
  const server = createServer({ ...contextOf(trust), requestCert: true, rejectUnauthorized: false }, (socket) => {
    if (!socket.authorized) {
      refusals.push(String(socket.authorizationError))
      socket.destroy()
      return
    }
    open.add(socket)
    socket.on('error', () => undefined)
    socket.once('close', () => open.delete(socket))
    const { subjectaltname, subject } = socket.getPeerCertificate()
    socket.write(`${JSON.stringify({ names: subjectaltname ?? '', subject: subject.CN })}\n`)
    socket.pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const { port } = server.address() as AddressInfo

  const dial = (credential: Credential) => {
    const { TLS_CLIENT_CERTIFICATE: cert, TLS_CLIENT_KEY: key } = credential.env
    return connect({ host: HOST, port, ca: own.certificate, cert, key })
  }
  /** The next line that comes, or undefined when the connection ends without one. */
  const lineOf = (socket: TLSSocket): Promise<string | undefined> =>
    new Promise((resolve) => {
      socket.once('data', (chunk) => resolve(String(chunk)))
      socket.once('error', () => resolve(undefined))
      socket.once('close', () => resolve(undefined))
    })
  return {
    refusals,
    async greets(credential) {
      const socket = dial(credential)
      const line = await lineOf(socket)
      socket.destroy()
      return line === undefined ? undefined : JSON.parse(line)
    },
    async openSession(credential) {
      const socket = dial(credential)
      await lineOf(socket)
      return {
        usable: async () => {
          if (socket.destroyed) return false
          const echo = lineOf(socket)
          socket.write('still here\n')
          return (await echo) === 'still here\n'
        },
        close: async () => {
          socket.destroy()
        },
      }
    },
    reload: (next) => server.setSecureContext(contextOf(next)),
    stop: async () => {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Node takes one PEM block of a list, and of certificates, at a time. */
function blocksOf(pem: string): string[] {
  return pem.match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g) ?? []
}
