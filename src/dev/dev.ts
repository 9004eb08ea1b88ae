import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pino } from 'pino'
import { createBroker } from '../broker.js'
import { type Config, loadConfig } from '../config.js'
import { generateSigningKeys } from '../signer.js'
import { howToTry } from './how-to-try.js'
import { type DevIssuer, startDevIssuer } from './issuer.js'
import { SAMPLE_CLIENTS, SAMPLE_PEOPLE } from './sample.js'

export interface DevOptions {
  /** `config/dev.yaml`. */
  readonly config: string
  /** Where Redis, events and tokens live; absent: a temporary folder that goes with the broker. */
  readonly dataDir?: string
  /** Of the broker; the issuer takes the next one. 0: any free ones. */
  readonly port: number
  readonly stop: Promise<void>
  say(text: string): void
  /** How this executable is called, for the examples. */
  readonly command: string
}

const LOOPBACK = '127.0.0.1'
const TOKEN_SECONDS = 3_600
/** Half of a token's life: who reads a file always finds one with time left, as with a projected service-account token. */
const RENEW_TOKENS_MS = (TOKEN_SECONDS * 1000) / 2

/** `mayfly dev`: a broker with an embedded Redis and an issuer of its own, on loopback only, and how to try it. */
export async function dev(options: DevOptions): Promise<void> {
  const dataDir = options.dataDir === undefined ? await mkdtemp(join(tmpdir(), 'mayfly-dev-')) : resolve(options.dataDir)
  const undo: (() => unknown)[] = options.dataDir === undefined ? [() => rm(dataDir, { recursive: true, force: true })] : []
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    await chmod(dataDir, 0o700)
    const port = options.port === 0 ? await freePort() : options.port
    const issuer = await startDevIssuer({
      port: options.port === 0 ? 0 : port + 1,
      clients: SAMPLE_CLIENTS,
      people: SAMPLE_PEOPLE,
      tokenSeconds: TOKEN_SECONDS,
    })
    undo.push(() => issuer.close())

    const config = await loadConfig(options.config, await environmentOf(dataDir, port, issuer))
    refuseAllButLoopback(config)
    const log = pino({ level: config.logLevel, base: { instance: config.instance } }, pino.destination(2))
    const broker = await createBroker(config, { log, initLedger: true })
    undo.push(() => broker.stop())
    const { public: url } = await broker.start()

    const tokens = await keepTokens(issuer, join(dataDir, 'tokens'), (error) => log.warn({ error: String(error) }, 'the token files are old'))
    undo.push(tokens.stop)
    options.say(howToTry({ url, issuer: issuer.url, dataDir, tokens: tokens.folder, command: options.command, kept: options.dataDir !== undefined }))
    await options.stop
  } finally {
    for (const step of undo.reverse()) await step()
  }
}

async function environmentOf(dataDir: string, port: number, issuer: DevIssuer): Promise<Record<string, string>> {
  return {
    MAYFLY_DEV_DATA_DIR: dataDir,
    MAYFLY_DEV_AUDIT_DIR: join(dataDir, 'audit'),
    MAYFLY_DEV_ADDRESS: `${LOOPBACK}:${port}`,
    MAYFLY_DEV_URL: `http://${LOOPBACK}:${port}`,
    MAYFLY_DEV_ISSUER: issuer.url,
    MAYFLY_DEV_SIGNING_KEYS: await signingKeys(join(dataDir, 'signing-keys.json')),
  }
}

/** Kept with the ledger: tokens signed before a restart are still good after it. */
async function signingKeys(file: string): Promise<string> {
  try {
    await writeFile(file, JSON.stringify(await generateSigningKeys()), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return readFile(file, 'utf8')
}

/** Whoever may log in as anybody must not be reachable from elsewhere. */
function refuseAllButLoopback({ listeners }: Config): void {
  for (const listener of [listeners.public, listeners.operator, listeners.metrics]) {
    const host = listener?.address.host
    if (host !== undefined && host !== '::1' && !/^127(\.\d{1,3}){3}$/.test(host))
      throw new Error(`mayfly dev listens on loopback only, and the configuration names ${host}: use mayfly serve`)
  }
}

/** One file with a fresh token for each sample caller, as a kubelet would keep it. */
async function keepTokens(issuer: DevIssuer, folder: string, onFailed: (error: unknown) => void): Promise<{ folder: string; stop(): void }> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const write = async () => {
    for (const { id } of SAMPLE_CLIENTS) await writeFile(join(folder, id), await issuer.token(id), { mode: 0o600 })
  }
  await write()
  const timer = setInterval(() => void write().catch(onFailed), RENEW_TOKENS_MS)
  return { folder, stop: () => clearInterval(timer) }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, failed) => server.once('error', failed).listen(0, LOOPBACK, done))
  const address = server.address()
  await new Promise((done) => server.close(done))
  if (address === null || typeof address === 'string') throw new Error('there is no free port')
  return address.port
}
