import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { pino } from 'pino'
import { type Broker, createBroker } from '../../src/broker.js'
import { loadConfig } from '../../src/config.js'
import { generateSigningKeys } from '../../src/signer.js'

/** A broker in this process, on real Redis and free loopback ports, for agents, orchestrators and operators whose tokens the test signs. */
export interface TestBroker {
  readonly url: string
  readonly broker: Broker
  /** Lines that it logged, as text. */
  readonly logs: string[]
  readonly folder: string
  readonly configPath: string
  readonly env: Record<string, string>
  token(sub: string, claims?: Record<string, unknown>): Promise<string>
  call(method: string, path: string, token: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** Opens a task as the orchestrator `flows`; answers its id. */
  openTask(more?: Record<string, unknown>): Promise<string>
  stop(): Promise<void>
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
  /** Name of the installation; two brokers of one ledger share it. */
  readonly instance?: string
  readonly postgresUrl?: string
  readonly postgresTimeout?: string
  /** More YAML below `providers:` and `roles:`, indented by two. */
  readonly providers?: string
  readonly roles?: string
  readonly limits?: string
  readonly outboxLimit?: number
  /** Folder of another test broker: the same keys and issuer, so that both take the same tokens. */
  readonly like?: TestBroker
  readonly env?: Record<string, string>
}

export const AUDIENCE = 'mayfly'
const ISSUER = 'https://issuer.test'
const ROOT = resolve(import.meta.dirname, '../..')

export async function startTestBroker(options: TestBrokerOptions): Promise<TestBroker> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-broker-'))
  const keys = (options.like && issuers.get(options.like)) ?? (await newIssuer())
  const env: Record<string, string> = {
    REDIS_URL: `unix:${options.redisSocket}`,
    JWKS: JSON.stringify({ keys: [keys.jwk] }),
    SIGNING: options.like?.env.SIGNING ?? JSON.stringify(await generateSigningKeys()),
    ...(options.postgresUrl !== undefined && { WAREHOUSE_URL: options.postgresUrl }),
    ...options.env,
  }
  const configPath = join(folder, 'mayfly.yaml')
  await writeFile(configPath, yamlOf(options, folder))
  const logs: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => logs.push(line) })
  const broker = await createBroker(await loadConfig(configPath, env), { log, initLedger: true })
  const { public: url } = await broker.start()

  const token = (sub: string, claims: Record<string, unknown> = {}) =>
    new SignJWT({ ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'test' })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(sub)
      .setJti(crypto.randomUUID())
      .setIssuedAt()
      .setExpirationTime('10m')
      .sign(keys.privateKey)
  const call: TestBroker['call'] = async (method, path, bearer, body, headers = {}) => {
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
  const test: TestBroker = {
    url,
    broker,
    logs,
    folder,
    configPath,
    env,
    token,
    call,
    async openTask(more = {}) {
      const { status, body } = await call('POST', '/v1/tasks', await token('flows'), { ...taskRequest(), ...more })
      if (status !== 201) throw new Error(`the task was not opened: ${status} ${JSON.stringify(body)}`)
      return body.task.id
    },
    async stop() {
      await broker.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
  issuers.set(test, keys)
  return test
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

/** Keys by broker, so that `like` shares them without their being on disk. */
const issuers = new WeakMap<object, Awaited<ReturnType<typeof newIssuer>>>()

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
  const policies = ['obtain', 'guardrails', 'tasks', 'operators'].map((name) => `"${ROOT}/config/policies/${name}.cedar"`)
  const match = (sub: string) => `{issuer: test, sub: "${sub}"}`
  return `
version: 1
instance: ${options.instance ?? 'test'}
data_dir: ${folder}/data
listeners: {public: {address: 127.0.0.1:0}}
ledger: {redis: env:REDIS_URL, durability: everysec}
signing: {issuer: https://mayfly.test, keys: env:SIGNING}
issuers:
  test: {jwks: env:JWKS, issuer: "${ISSUER}", audience: ${AUDIENCE}}
agents:
  - {id: triage, match: ${match('triage')}, owner: sre@example.com, autonomy: supervised, team: platform, open_tasks: {envelope: [{role: api-token, max_ttl: 60s}]}}
  - {id: reporter, match: ${match('reporter')}, owner: bi@example.com, autonomy: scripted, team: platform}
  - {id: "copy-{sub}", match: ${match('copy-*')}, instance: run, owner: sre@example.com, autonomy: scripted, team: platform}
orchestrators:
  - {id: flows, match: ${match('flows')}, team: platform}
  - {id: other-flows, match: ${match('other-flows')}, team: platform}
operators:
  - {id: oncall, match: ${match('oncall')}, groups: [sre-oncall]}
  - {id: visitor, match: ${match('visitor')}, groups: [visitors]}
gateways:
  - {id: reports-api, match: ${match('reports-api')}, audiences: ["https://reports.example"]}
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
vocabulary: {intents: [incident-triage, deploy], environments: [production]}
policies: {schema: "${ROOT}/config/schema.cedarschema", files: [${policies.join(', ')}]}
limits: ${options.limits ?? '{requests_per_second: 10000}'}
audit: {outbox_limit: ${options.outboxLimit ?? 1_000_000}, sinks: {local: {type: jsonl, path: ${folder}/audit}}}
`
}
