import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { generateSigningKeys } from '../src/signer.js'
import { MEASURED, MEASURING, startPinned } from './support.js'

/** A broker as it runs in production (the built executable, shipped policies, metrics and logs on), on a core of its own. */
export interface Fleet {
  readonly port: number
  readonly pid: number
  readonly redisSocket: string
  readonly redisPid: number
  readonly signingKeys: string
  readonly folder: string
  token(sub: string): Promise<string>
  openTasks(count: number, of: (n: number) => Asked): Promise<string[]>
  metrics(): Promise<string>
  stopBroker(): Promise<void>
  startBroker(): Promise<void>
  stop(): Promise<void>
}
interface Asked {
  readonly agents: readonly string[]
  readonly roles: readonly string[]
  readonly tools?: readonly string[]
}
export interface FleetOptions {
  readonly roles: readonly string[]
  readonly ttlSeconds?: number
  readonly postgresUrl?: string
  /** PostgreSQL by broker user: provider `<name>`, with a role `<name>-read`; one login at a time each. */
  readonly postgresUpstreams?: Readonly<Record<string, string>>
  /** A catalogue of tools that read what is internal. */
  readonly tools?: readonly string[]
  /** Redis servers to have ACL users at: provider `<name>`, with a role `<name>-read`. */
  readonly redisUpstreams?: Readonly<Record<string, string>>
  /** How long settled records are kept; the default of the configuration where absent. */
  readonly settledRetention?: string
  /** Of the broker's heap, MiB; by default what Node makes of this machine's memory. */
  readonly heapMiB?: number
}

/** To look closer: `BENCH_NODE_FLAGS='--cpu-prof --cpu-prof-dir=profiles'`. */
const FLAGS = process.env.BENCH_NODE_FLAGS?.split(' ') ?? []
const ROOT = resolve(import.meta.dirname, '..')
const ISSUER = 'https://issuer.bench'
const MOST_TRIES = 5

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-bench-'))
  const redisSocket = join(folder, 'redis.sock')
  const redisArguments = ['--port', '0', '--unixsocket', redisSocket, '--dir', folder, '--appendonly', 'yes', '--appendfsync', 'everysec']
  const redis = await startPinned(
    MEASURING,
    ['redis-server', ...redisArguments, '--save', '', '--maxmemory-policy', 'noeviction', '--hash-max-listpack-value', '1024'],
    { ready: (line) => (line.includes('eady to accept connections') ? true : undefined) },
  )
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'bench', alg: 'ES256', use: 'sig' }] })
  const signingKeys = JSON.stringify(await generateSigningKeys())
  const config = join(folder, 'mayfly.yaml')
  await writeFile(config, yamlOf(options, folder))
  const upstreams = Object.fromEntries(
    Object.entries({ ...options.redisUpstreams, ...options.postgresUpstreams }).map(([name, url]) => [envOf(name), url]),
  )
  const env = {
    ...upstreams,
    REDIS_URL: `unix:${redisSocket}`,
    JWKS: jwks,
    SIGNING: signingKeys,
    WAREHOUSE_URL: options.postgresUrl ?? '',
    NODE_ENV: 'production',
  }
  const heap = options.heapMiB === undefined ? [] : [`--max-old-space-size=${options.heapMiB}`]
  const startBroker = () =>
    startPinned(MEASURED, [process.execPath, ...heap, ...FLAGS, join(ROOT, 'dist/main.js'), 'serve', '--config', config, '--init-ledger'], {
      env,
      ready: (line) => {
        const [port, metricsPort] = ['public', 'metrics'].map((name) => new RegExp(`"${name}":"http://[^"]*:(\\d+)"`).exec(line)?.[1])
        return port && metricsPort ? { port: Number(port), metricsPort: Number(metricsPort) } : undefined
      },
    })
  let broker = await startBroker()

  const token = (sub: string) =>
    new SignJWT({ jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256', kid: 'bench' })
      .setIssuer(ISSUER)
      .setAudience('mayfly')
      .setSubject(sub)
      .setIssuedAt()
      .setExpirationTime('2h')
      .sign(privateKey)
  const fleet: Fleet = {
    get port() {
      return broker.answer.port
    },
    get pid() {
      return broker.pid
    },
    redisSocket,
    redisPid: redis.pid,
    signingKeys,
    folder,
    token,
    async openTasks(count, of) {
      const flows = await token('flows')
      const ids: string[] = []
      let next = 0
      const worker = async () => {
        for (let n = next++; n < count; n = next++) ids[n] = await openTask(broker.answer.port, flows, of(n))
      }
      await Promise.all(Array.from({ length: 16 }, worker))
      return ids
    },
    metrics: async () => (await fetch(`http://127.0.0.1:${broker.answer.metricsPort}/metrics`)).text(),
    stopBroker: () => broker.stop(),
    async startBroker() {
      broker = await startBroker()
    },
    async stop() {
      await broker.stop()
      await redis.stop()
    },
  }
  return fleet
}

async function openTask(port: number, token: string, { agents, roles, tools }: Asked): Promise<string> {
  const body = {
    intent: 'data-report',
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: agents.map((agent) => ({ agent })),
    envelope: roles.map((role) => ({ role })),
    tools: tools?.map((tool) => ({ tool })),
    deadline_at: new Date(Date.now() + 7_200_000).toISOString(),
  }
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const ask = () => fetch(`http://127.0.0.1:${port}/v1/tasks`, { method: 'POST', headers, body: JSON.stringify(body) })
  let answer = await ask()
  // As any client would: a broker that is busy says when to come again.
  for (let tries = 0; answer.status === 503 && tries < MOST_TRIES; tries++) {
    await answer.text()
    await new Promise((resolve) => setTimeout(resolve, 1_000 * Number(answer.headers.get('retry-after') ?? 1)))
    answer = await ask()
  }
  if (answer.status !== 201) throw new Error(`a task was not opened: ${answer.status} ${await answer.text()}`)
  return ((await answer.json()) as { task: { id: string } }).task.id
}

function envOf(name: string): string {
  return `UPSTREAM_${name.toUpperCase()}`
}

function yamlOf(options: FleetOptions, folder: string): string {
  const { roles, ttlSeconds = 900, postgresUrl, postgresUpstreams = {}, tools = [], redisUpstreams = {}, settledRetention } = options
  const policies = ['obtain', 'guardrails', 'tasks', ...(tools.length > 0 ? ['tools'] : []), 'operators'].map(
    (name) => `"${ROOT}/config/policies/${name}.cedar"`,
  )
  const upstreams = Object.keys(redisUpstreams)
  const upstreamRoles = upstreams.map(
    (name) =>
      `  ${name}-read: {provider: ${name}, access: read, sensitivity: internal, max_ttl: 900s, params: {keys: ["reports:*"], commands: ["+@read"]}}`,
  )
  const databases = Object.keys(postgresUpstreams)
  const databaseRoles = databases.map(
    (name) => `  ${name}-read: {provider: ${name}, access: read, sensitivity: internal, max_ttl: 900s, params: {member_of: [reporting_ro]}}`,
  )
  const roleLines = roles.map((role) =>
    role.startsWith('warehouse')
      ? `  ${role}: {provider: warehouse, access: read, sensitivity: internal, max_ttl: 900s, params: {member_of: [reporting_ro]}}`
      : `  ${role}: {provider: tokens, access: read, sensitivity: internal, max_ttl: ${ttlSeconds}s, params: {audience: "https://reports.example"}}`,
  )
  return `
version: 1
instance: bench
data_dir: ${folder}/data
listeners: {public: {address: 127.0.0.1:0}, metrics: {address: 127.0.0.1:0}}
ledger: {redis: env:REDIS_URL, durability: everysec${settledRetention === undefined ? '' : `, settled_retention: ${settledRetention}`}}
signing: {issuer: https://mayfly.example, keys: env:SIGNING}
issuers:
  bench: {jwks: env:JWKS, issuer: "${ISSUER}", audience: mayfly}
agents:
  - {id: "{sub}", match: {issuer: bench, sub: "agent-*"}, owner: bench@example.com, autonomy: scripted, team: platform}
orchestrators: [{id: flows, match: {issuer: bench, sub: flows}, team: analytics}]
operators: [{id: oncall, match: {issuer: bench, sub: oncall}, groups: [sre-oncall]}]
providers:
  tokens: {type: jwt, verification: introspection}
${postgresUrl === undefined ? '' : '  warehouse: {type: postgres, url: env:WAREHOUSE_URL, concurrency: 8, timeout: 10s}'}
${databases.map((name) => `  ${name}: {type: postgres, url: env:${envOf(name)}, concurrency: 1, timeout: 10s}`).join('\n')}
${upstreams.map((name) => `  ${name}: {type: redis, url: env:${envOf(name)}, concurrency: 8, timeout: 2s}`).join('\n')}
roles:
${[...roleLines, ...databaseRoles, ...upstreamRoles].join('\n')}
tools: {${tools.map((tool) => `${tool}: {access: read, sensitivity: internal}`).join(', ')}}
vocabulary: {intents: [data-report], environments: [production]}
policies: {schema: "${ROOT}/config/schema.cedarschema", files: [${policies.join(', ')}]}
limits: {requests_per_second: 1000000, per_agent_live: 100000, per_task_live: 100000}
audit: {sinks: {local: {type: jsonl, path: ${folder}/audit}}}
`
}
