import { spawn } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { waitFor } from '../support/wait.js'

const SAMPLE = resolve(import.meta.dirname, '../../examples/http-provider')
export const AUDIENCE = 'http://provider.example/mayfly'

export interface SampleOptions {
  /** How long the toy behind it takes to make a key. */
  readonly partnerDelayMs?: number
  readonly issuer: string
  readonly jwksUrl: string
  /** Defects: in the sample's text, this is put in place of that. */
  readonly changes?: readonly (readonly [from: string, to: string])[]
}
export interface SampleService {
  readonly url: string
  readonly host: string
  readonly port: number
  /** The toy behind it. */
  readonly partner: string
  log(): string
  stop(): Promise<void>
}

/** The sample of examples/http-provider as a process of its own, as it is or with defects. */
export async function startSampleService({ issuer, jwksUrl, changes = [], partnerDelayMs = 10 }: SampleOptions): Promise<SampleService> {
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-http-'))
  copyFileSync(join(SAMPLE, 'partner.mjs'), join(folder, 'partner.mjs'))
  writeFileSync(join(folder, 'service.mjs'), changes.reduce(replaceOnce, readFileSync(join(SAMPLE, 'service.mjs'), 'utf8')))
  const env = { PATH: process.env.PATH, PORT: '0', AUDIENCE, MAYFLY_ISSUER: issuer, MAYFLY_JWKS: jwksUrl, PARTNER_DELAY_MS: String(partnerDelayMs) }
  const child = spawn(process.execPath, [join(folder, 'service.mjs')], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = new Promise<void>((done) => child.once('exit', () => done()))
  let out = ''
  let log = ''
  let gone = false
  child.once('exit', () => {
    gone = true
  })
  child.stdout.on('data', (chunk) => (out += chunk))
  child.stderr.on('data', (chunk) => (log += chunk))
  const stop = async () => {
    child.kill('SIGKILL')
    await exited
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await waitFor('the sample service', () => gone || out.includes('\n'), 20_000)
    if (gone) throw new Error(`the sample service ended: ${log}`)
    const { port, partnerPort }: { port: number; partnerPort: number } = JSON.parse(out)
    const host = '127.0.0.1'
    const url = `http://${host}:${port}/mayfly`
    return { url, host, port, partner: `http://${host}:${partnerPort}`, log: () => out + log, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function replaceOnce(text: string, [from, to]: readonly [string, string]): string {
  const parts = text.split(from)
  if (parts.length !== 2) throw new Error(`the sample holds this ${parts.length - 1} times: ${from}`)
  return parts.join(to)
}

/** What an operator would write of the sample into the configuration. */
export function sampleOptions(url: string) {
  return {
    url,
    audience: AUDIENCE,
    credential_type: 'partner-key',
    revocation: 'immediate',
    residual_seconds: 0,
    renewable: true,
    verifiable: true,
    cuts_sessions: false,
    expiry_ends_use: true,
    scope_keys: ['regions'],
    env: ['PARTNER_KEY'],
  }
}
