import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { decodeJwt, decodeProtectedHeader, generateKeyPair, SignJWT } from 'jose'
import { type HoldingProxy, startHoldingProxy } from '../../test/support/holding-proxy.js'
import { startPostgres } from '../../test/support/postgres.js'

/** What the demo plays on: PostgreSQL, an issuer and a broker with its embedded Redis, each a process of its own. */
export interface Stage {
  readonly tokens: Record<'triage' | 'reporter' | 'flows' | 'oncall', string>
  /** Over HTTP, as any caller. */
  call(method: string, path: string, token: string, body?: unknown): Promise<{ status: number; body: Body }>
  /** Looks over a connection that the broker doesn't have. */
  readonly database: { readonly orders: number; rolesOf(...leases: string[]): Promise<number>; allRoles(): Promise<number> }
  readonly proxy: HoldingProxy
  /** SIGKILL; answers whether that is what ended it. */
  killBroker(): Promise<boolean>
  startBroker(): Promise<void>
  close(): Promise<void>
}
// biome-ignore lint/suspicious/noExplicitAny: the demo reads answers as any caller would, without our types
type Body = any

const ROOT = resolve(import.meta.dirname, '../..')
const ORDERS = 3
const CLIENTS = ['triage', 'reporter', 'flows', 'oncall'] as const

export async function openStage(): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-demo-'))
  const closers: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })]
  const close = async () => {
    for (const closer of closers.reverse()) await closer()
  }
  try {
    const postgres = await startPostgres()
    closers.push(() => postgres.stop())
    const brokerUrl = new URL(await postgres.createBroker(['reporting_ro']))
    await postgres.query(
      `create table orders (id int); insert into orders select generate_series(1, ${ORDERS}); grant select on orders to reporting_ro`,
    )
    const proxy = await startHoldingProxy({ host: postgres.host, port: postgres.port })
    closers.push(() => proxy.close())
    brokerUrl.port = String(proxy.port)

    const issuer = await start(['dev-issuer', '--port', '0'], {}, (line) => /"issuer":"([^"]+)"/.exec(line)?.[1])
    closers.push(() => issuer.stop())
    const tokens = Object.fromEntries(
      await Promise.all(CLIENTS.map(async (client) => [client, await tokenOf(issuer.answer, client)])),
    ) as Stage['tokens']

    const port = await freePort()
    await writeFile(join(folder, 'mayfly.yaml'), configOf(issuer.answer, port, folder))
    let broker: Awaited<ReturnType<typeof start>>
    const startBroker = async () => {
      const command = ['serve', '--config', join(folder, 'mayfly.yaml'), '--init-ledger']
      broker = await start(command, { WAREHOUSE_URL: brokerUrl.href }, (line) => (line.includes('"listening"') ? line : undefined))
    }
    await startBroker()
    closers.push(() => broker.stop())

    const count = (pattern: string) => postgres.query('select count(*)::int as n from pg_roles where rolname like $1', [pattern])
    return {
      tokens,
      async call(method, path, token, body) {
        const headers = { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) }
        const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
          method,
          headers,
          body: body === undefined ? undefined : JSON.stringify(body),
        })
        return { status: answer.status, body: await answer.json() }
      },
      database: {
        orders: ORDERS,
        rolesOf: async (...leases) => {
          const counts = await Promise.all(leases.map((lease) => count(`%${lease.replace('lease_', '')}%`)))
          return counts.reduce((sum, rows) => sum + Number(rows[0]?.n), 0)
        },
        allRoles: async () => Number((await count('mf-%'))[0]?.n),
      },
      proxy,
      killBroker: () => broker.kill(),
      startBroker,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** A token of the same claims and header, signed with a key of the forger's. */
export async function forge(token: string): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256')
  return new SignJWT(decodeJwt(token)).setProtectedHeader({ ...decodeProtectedHeader(token), alg: 'ES256' }).sign(privateKey)
}

/** Starts the executable and waits until it says that it can be used. */
async function start(args: string[], env: Record<string, string>, ready: (line: string) => string | undefined) {
  const child: ChildProcess = spawn(process.execPath, [join(ROOT, 'dist/main.js'), ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<NodeJS.Signals | null>((done) => child.once('exit', (_code, signal) => done(signal)))
  const said: string[] = []
  const answer = await new Promise<string>((found, failed) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        const match = ready(line)
        if (match !== undefined) found(match)
      })
    }
    child.once('exit', (code) => failed(new Error(`mayfly ${args[0]} ended with ${code}:\n${said.join('\n')}`)))
  })
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  const kill = async () => {
    child.kill('SIGKILL')
    return (await ended) === 'SIGKILL'
  }
  return { answer, stop, kill }
}

async function tokenOf(issuer: string, client: string): Promise<string> {
  const { token_endpoint } = (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as Body
  const body = new URLSearchParams({ grant_type: 'client_credentials', client_id: client, client_secret: `${client}-secret`, resource: 'urn:mayfly' })
  const answer = await fetch(token_endpoint, { method: 'POST', body })
  if (!answer.ok) throw new Error(`the issuer gave "${client}" no token: ${answer.status} ${await answer.text()}`)
  return ((await answer.json()) as Body).access_token
}

function configOf(issuer: string, port: number, folder: string): string {
  const match = (client: string) => `{issuer: dev, sub: ${client}}`
  return `
version: 1
instance: demo
data_dir: ${folder}/data
listeners: {public: {address: 127.0.0.1:${port}}}
ledger: {redis: embedded}
issuers:
  dev: {url: "${issuer}", audience: mayfly, typ: [at+jwt], allow_http_loopback: true}
agents:
  - {id: triage, match: ${match('triage')}, owner: sre@example.com, autonomy: supervised, team: analytics}
  - {id: reporter, match: ${match('reporter')}, owner: bi@example.com, autonomy: scripted, team: analytics}
orchestrators: [{id: flows, match: ${match('flows')}, team: platform}]
operators: [{id: oncall, match: ${match('oncall')}, groups: [sre-oncall]}]
providers:
  warehouse: {type: postgres, url: env:WAREHOUSE_URL, timeout: 3s}
roles:
  warehouse-read: {provider: warehouse, access: read, sensitivity: confidential, max_ttl: 15m, params: {member_of: [reporting_ro]}}
vocabulary: {intents: [incident-triage], environments: [development]}
policies:
  schema: ${ROOT}/config/schema.cedarschema
  files: ["${ROOT}/config/policies/obtain.cedar", "${ROOT}/config/policies/guardrails.cedar", "${ROOT}/config/policies/tasks.cedar", "${ROOT}/config/policies/operators.cedar"]
audit: {sinks: {local: {type: jsonl, path: ${folder}/audit}}}
`
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  await new Promise((done) => server.close(done))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
