import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { pino } from 'pino'
import { type Broker, createBroker } from '../../src/broker.js'
import { loadConfig } from '../../src/config.js'
import { generateSigningKeys } from '../../src/signer.js'

/** A configuration on disk, and tokens of the issuer that it trusts. */
export interface Prepared {
  readonly folder: string
  readonly configPath: string
  readonly env: Record<string, string>
  token(sub: string, claims?: Record<string, unknown>): Promise<string>
}
/** How a test talks to a broker, wherever it runs. */
export interface Callers {
  call(method: string, path: string, token: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** Opens a task as the orchestrator `flows`; answers its id. */
  openTask(more?: Record<string, unknown>): Promise<string>
}
/** A broker in this process, on real Redis and free loopback ports, for agents, orchestrators and operators whose tokens the test signs. */
export interface TestBroker extends Prepared, Callers {
  readonly url: string
  readonly metricsUrl: string
  readonly broker: Broker
  /** Lines that it logged, as text. */
  readonly logs: string[]
  stop(): Promise<void>
}
/** A broker of its own process: what can be killed. */
export interface BrokerProcess extends Callers {
  readonly url: string
  readonly metricsUrl: string
  readonly pid: number
  /** All that it printed so far. */
  output(): string
  /** Resolves with the signal that ended it, or null. */
  readonly ended: Promise<NodeJS.Signals | null>
  /** Resolves with the code that it ended with; null where a signal ended it. */
  readonly exitCode: Promise<number | null>
  signal(signal: NodeJS.Signals): void
  stop(): Promise<void>
  kill(): Promise<void>
}
export interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests read answers as any caller would
  readonly body: any
}
export interface TestBrokerOptions {
  /** `unix:` path of a real Redis. */
  readonly redisSocket: string
  /** YAML of `ledger.redis` in its place: Sentinels, a Cluster. */
  readonly redis?: string
  /** YAML of `ledger.wait`. */
  readonly wait?: string
  /** Name of the installation; two brokers of one ledger share it. */
  readonly instance?: string
  readonly postgresUrl?: string
  readonly postgresTimeout?: string
  /** More YAML below `providers:` and `roles:`, indented by two. */
  readonly providers?: string
  readonly roles?: string
  /** More YAML of the list `agents:`, each line with its line break. */
  readonly agents?: string
  readonly limits?: string
  /** More YAML below `issuers:`, indented by two; a token whose claims have an `iss` is of that one. */
  readonly issuers?: string
  /** More YAML below `operators:`, indented by two. */
  readonly operators?: string
  /** More YAML below `gateways:`, indented by two. */
  readonly gateways?: string
  /** YAML of `listeners.public.tls`. */
  readonly tls?: string
  /** Which of the policies that Mayfly ships; those that most tests need when absent. Each costs a start some time. */
  readonly shipped?: readonly string[]
  /** One more policy file, as Cedar. */
  readonly policy?: string
  /** More entries of `policies.files`. */
  readonly policies?: readonly string[]
  /** More YAML at the top level. */
  readonly more?: string
  readonly outboxLimit?: number
  /** Of the ledger; 64 when absent. What goes to all of them, a freeze or an emergency, costs by their number. */
  readonly partitions?: number
  /** Folder of another test broker: the same keys and issuer, so that both take the same tokens. */
  readonly like?: Prepared
  readonly env?: Record<string, string>
}

export const AUDIENCE = 'mayfly'
const ISSUER = 'https://issuer.test'
const ROOT = resolve(import.meta.dirname, '../..')

/** Writes the configuration; `like` gives the same keys as another's, so that both take the same tokens. */
export async function prepare(options: TestBrokerOptions): Promise<Prepared> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-broker-'))
  const keys = (options.like && issuers.get(options.like.folder)) ?? (await newIssuer())
  issuers.set(folder, keys)
  const env: Record<string, string> = {
    REDIS_URL: `unix:${options.redisSocket}`,
    JWKS: JSON.stringify({ keys: [keys.jwk] }),
    SIGNING: options.like?.env.SIGNING ?? JSON.stringify(await generateSigningKeys()),
    ...(options.postgresUrl !== undefined && { WAREHOUSE_URL: options.postgresUrl }),
    ...options.env,
  }
  const configPath = join(folder, 'mayfly.yaml')
  if (options.policy !== undefined) await writeFile(join(folder, 'more.cedar'), options.policy)
  await writeFile(configPath, yamlOf(options, folder))
  const token = (sub: string, claims: Record<string, unknown> = {}) =>
    new SignJWT({ ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'test' })
      .setIssuer(typeof claims.iss === 'string' ? claims.iss : ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(sub)
      .setJti(crypto.randomUUID())
      // With its fraction of a second: two tokens that a test asks for one after the other are told apart by their time.
      .setIssuedAt(typeof claims.iat === 'number' ? claims.iat : Date.now() / 1000)
      .setExpirationTime(typeof claims.exp === 'number' ? claims.exp : '10m')
      .sign(keys.privateKey)
  return { folder, configPath, env, token }
}

export async function startTestBroker(options: TestBrokerOptions): Promise<TestBroker> {
  const prepared = await prepare(options)
  const logs: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => logs.push(line) })
  const broker = await createBroker(await loadConfig(prepared.configPath, prepared.env), { log, initLedger: true })
  const { public: url, metrics: metricsUrl = '' } = await broker.start()
  return {
    ...prepared,
    ...callersOf(url, prepared),
    url,
    metricsUrl,
    broker,
    logs,
    async stop() {
      await broker.stop()
      await rm(prepared.folder, { recursive: true, force: true })
    },
  }
}

export interface ProcessOptions {
  readonly main?: string
  readonly env?: Record<string, string>
  /** Arguments of Node.js itself. */
  readonly node?: readonly string[]
}

/** For `node`: less is compiled, so that a broker that lives some seconds only starts in half the time. */
export const SHORT_LIVED = ['--liftoff-only', '--no-opt'] as const

/** Starts the built executable, or an instrumented copy of it. */
export async function startBrokerProcess(prepared: Prepared, options: ProcessOptions = {}): Promise<BrokerProcess> {
  const main = options.main ?? join(ROOT, 'dist/main.js')
  const env = { PATH: process.env.PATH, ...prepared.env, ...options.env }
  const command = [...(options.node ?? []), main, 'serve', '--config', prepared.configPath, '--init-ledger']
  const child = spawn(process.execPath, command, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const exitCode = new Promise<number | null>((done) => child.once('exit', done))
  const ended = new Promise<NodeJS.Signals | null>((done) => child.once('exit', (_code, signal) => done(signal)))
  const said: string[] = []
  const { url, metricsUrl } = await new Promise<{ url: string; metricsUrl: string }>((found, failed) => {
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        const [url, metricsUrl] = ['public', 'metrics'].map((name) => new RegExp(`"${name}":"([^"]+)"`).exec(line)?.[1])
        if (url && metricsUrl) found({ url, metricsUrl })
      })
    child.once('exit', (code, signal) => failed(new Error(`the broker ended with ${code ?? signal}:\n${said.join('\n')}`)))
  })
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal)
    await ended
  }
  return {
    url,
    metricsUrl,
    pid: child.pid ?? 0,
    output: () => said.join('\n'),
    ended,
    exitCode,
    signal: (signal) => void child.kill(signal),
    ...callersOf(url, prepared),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}

export function callersOf(url: string, { token }: Pick<Prepared, 'token'>): Callers {
  const call: Callers['call'] = async (method, path, bearer, body, headers = {}) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(bearer !== '' && { authorization: `Bearer ${bearer}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await answer.text()
    return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : parsed(text) }
  }
  return {
    call,
    async openTask(more = {}) {
      const { status, body } = await call('POST', '/v1/tasks', await token('flows'), { ...taskRequest(), ...more })
      if (status !== 201) throw new Error(`the task was not opened: ${status} ${JSON.stringify(body)}`)
      return body.task.id
    },
  }
}

/** A task that the agent `triage` may do most things for. */
export function taskRequest() {
  return {
    intent: 'incident-triage',
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: [{ agent: 'triage' }],
    envelope: [{ role: 'api-token' }, { role: 'api-signed' }],
    deadline_at: new Date(Date.now() + 600_000).toISOString(),
  }
}

/** Keys by the folder of their configuration, so that `like` shares them without their being on disk. */
const issuers = new Map<string, Awaited<ReturnType<typeof newIssuer>>>()

async function newIssuer() {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  return { privateKey, jwk: { ...(await exportJWK(publicKey)), kid: 'test', alg: 'ES256', use: 'sig' } }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function yamlOf(options: TestBrokerOptions, folder: string): string {
  const warehouse = options.postgresUrl !== undefined
  const shipped = options.shipped ?? ['obtain', 'guardrails', 'autonomy', 'tasks', 'tools', 'operators']
  const policies = [...shipped.map((name) => `"${ROOT}/config/policies/${name}.cedar"`), ...(options.policies ?? [])]
  if (options.policy !== undefined) policies.push(`"${folder}/more.cedar"`)
  const match = (sub: string) => `{issuer: test, sub: "${sub}"}`
  return `
version: 1
instance: ${options.instance ?? 'test'}
data_dir: ${folder}/data
listeners: {public: {address: 127.0.0.1:0${options.tls === undefined ? '' : `, tls: ${options.tls}`}}, metrics: {address: 127.0.0.1:0}}
ledger: {redis: ${options.redis ?? 'env:REDIS_URL'}, durability: everysec, partitions: ${options.partitions ?? 64}${options.wait === undefined ? '' : `, wait: ${options.wait}`}}
signing: {issuer: https://mayfly.test, keys: env:SIGNING}
${options.more ?? ''}
issuers:
  test: {jwks: env:JWKS, issuer: "${ISSUER}", audience: ${AUDIENCE}}
${options.issuers ?? ''}
agents:
  - {id: triage, match: ${match('triage')}, owner: sre@example.com, autonomy: supervised, team: platform, open_tasks: {envelope: [{role: api-token, max_ttl: 60s}]}}
  - {id: reporter, match: ${match('reporter')}, owner: bi@example.com, autonomy: scripted, team: platform}
  - {id: "copy-{sub}", match: ${match('copy-*')}, instance: run, owner: sre@example.com, autonomy: scripted, team: platform, open_tasks: {envelope: [{role: api-token, max_ttl: 60s}]}}
${options.agents ?? ''}
orchestrators:
  - {id: flows, match: ${match('flows')}, team: platform}
  - {id: other-flows, match: ${match('other-flows')}, team: analytics}
operators:
  - {id: oncall, match: ${match('oncall')}, groups: [sre-oncall]}
  - {id: visitor, match: ${match('visitor')}, groups: [visitors]}
${options.operators ?? ''}
gateways:
  - {id: reports-api, match: ${match('reports-api')}, audiences: ["https://reports.example"]}
  - {id: mcp-proxy, match: ${match('mcp-proxy')}, audiences: ["https://reports.example"], tools: [tickets/*]}
${options.gateways ?? ''}
providers:
  tokens: {type: jwt, verification: introspection}
  signed: {type: jwt, verification: signature}
${warehouse ? `  warehouse: {type: postgres, url: env:WAREHOUSE_URL, timeout: ${options.postgresTimeout ?? '5s'}}` : ''}
${options.providers ?? ''}
roles:
  api-token: {provider: tokens, access: read, sensitivity: internal, max_ttl: 5m, max_lifetime: 30m, params: {audience: "https://reports.example"}}
  api-signed: {provider: signed, access: read, sensitivity: internal, max_ttl: 5m, params: {audience: "https://reports.example"}}
${warehouse ? '  warehouse-read: {provider: warehouse, access: read, sensitivity: confidential, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [reporting_ro]}}' : ''}
${options.roles ?? ''}
tools:
  tickets/get: {access: read, sensitivity: internal, external: false}
  tickets/create: {access: write, sensitivity: internal, external: false}
  vault/read: {access: read, sensitivity: restricted, external: false}
  web.post: {access: write, sensitivity: public}
vocabulary: {intents: [incident-triage, deploy], environments: [production]}
policies: {schema: "${ROOT}/config/schema.cedarschema", files: [${policies.join(', ')}]}
limits: ${options.limits ?? '{requests_per_second: 10000}'}
audit: {outbox_limit: ${options.outboxLimit ?? 1_000_000}, sinks: {local: {type: jsonl, path: ${folder}/audit}}}
`
}
