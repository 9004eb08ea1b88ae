import { randomBytes, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { isSigned, type JwtLogin } from './fake-openbao-jwt.js'
import { operationOf } from './fake-openbao-schema.js'

/**
 * A FAKE of OpenBao (and Vault), for tests without a server of its own: tokens, policies, logins by AppRole and JWT, secrets with leases, and the
 * rules by which leases live: a clock that can be moved, a default and a maximum ttl, a parent token. Requests are held to
 * `published/openbao.json`. Imports nothing of the project.
 * https://openbao.org/docs/concepts/lease/, https://openbao.org/docs/concepts/tokens/, https://openbao.org/api-docs/system/leases/
 */
export interface FakeOpenBao {
  readonly host: string
  readonly port: number
  readonly url: string
  /** A new token with these policies, as an operator would make it. */
  makeToken(options: FakeTokenOptions): string
  revokeToken(token: string): void
  /** Tokens that are alive. */
  tokens(): number
  /** Lease ids that are alive. */
  leases(): string[]
  expiry(lease: string): number | undefined
  /** Whether the engine behind a lease still knows these data. */
  knows(data: Readonly<Record<string, unknown>>, at?: number): boolean
  advance(ms: number): void
  /** So many revokes fail, because the engine cannot be reached. */
  failRevokes(count: number): void
  seal(sealed: boolean): void
  /** `METHOD path status` of each request. */
  readonly log: readonly string[]
  stop(): Promise<void>
}
export interface FakeOpenBaoOptions {
  readonly policies: Readonly<Record<string, Readonly<Record<string, readonly Capability[]>>>>
  readonly secrets: Readonly<Record<string, FakeSecret>>
  readonly approles?: Readonly<Record<string, { readonly secretId: string } & LoginToken>>
  readonly jwtRoles?: Readonly<Record<string, JwtLogin & LoginToken>>
  readonly namespace?: string
}
type Capability = 'create' | 'read' | 'update' | 'delete' | 'list' | 'sudo' | 'deny'
interface LoginToken {
  readonly policies: readonly string[]
  readonly ttlSeconds: number
  readonly batch?: boolean
}
export interface FakeTokenOptions {
  readonly policies: readonly string[]
  readonly ttlSeconds?: number
  readonly renewable?: boolean
  readonly batch?: boolean
}
/** One path of a secrets engine. Without `ttlSeconds` it is static: its data come without a lease. */
export interface FakeSecret {
  readonly method?: 'GET' | 'POST'
  readonly ttlSeconds?: number
  readonly maxTtlSeconds?: number
  readonly renewable?: boolean
  readonly wrapped?: boolean
  make(asked: Readonly<Record<string, unknown>>): Record<string, unknown>
}
interface Token extends FakeTokenOptions {
  endsAt: number
}
interface Lease {
  readonly token: string
  readonly path: string
  readonly data: Readonly<Record<string, unknown>>
  readonly issuedAt: number
  readonly maxAt: number
  readonly renewable: boolean
  renewedAt?: number
  endsAt: number
}

const HOST = '127.0.0.1'
/** What each token has besides: `vault/policy/policy_store.go`, defaultPolicy, as far as it concerns these operations. */
const DEFAULT_POLICY: Readonly<Record<string, readonly Capability[]>> = {
  'auth/token/lookup-self': ['read'],
  'auth/token/renew-self': ['update'],
  'sys/capabilities-self': ['update'],
  'sys/leases/lookup': ['update'],
  'sys/leases/renew': ['update'],
}
const VERB = { GET: 'read', POST: 'update', PUT: 'update' } as const

class Refusal extends Error {
  constructor(
    readonly status: number,
    message = '',
  ) {
    super(message)
  }
}
const denied = () => new Refusal(403, '1 error occurred:\n\t* permission denied\n\n')

export async function startFakeOpenBao({
  policies,
  secrets,
  approles = {},
  jwtRoles = {},
  namespace = '',
}: FakeOpenBaoOptions): Promise<FakeOpenBao> {
  const tokens = new Map<string, Token>()
  const leases = new Map<string, Lease>()
  const log: string[] = []
  let ahead = 0
  let failing = 0
  let sealed = false
  const now = (): number => Date.now() + ahead

  const server = createServer((request, response) => {
    answer(request).then(
      (body) => send(request, response, body === undefined ? 204 : 200, body),
      (error: unknown) => {
        if (error instanceof Refusal) return send(request, response, error.status, { errors: error.message === '' ? [] : [error.message] })
        return send(request, response, 500, { errors: [] })
      },
    )
  })
  function send(request: IncomingMessage, response: ServerResponse, status: number, body?: object): void {
    log.push(`${request.method} ${request.url} ${status}`)
    response.writeHead(status, { 'content-type': 'application/json' }).end(body === undefined ? undefined : JSON.stringify(body))
  }

  async function answer(request: IncomingMessage): Promise<object | undefined> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://openbao')
    const path = pathname
      .replace(/^\/v1\//, '')
      .split('/')
      .map(decodeURIComponent)
      .join('/')
    const method = request.method ?? 'GET'
    const body = await bodyOf(request)
    if (sealed && path !== 'sys/health') throw new Refusal(503, 'Vault is sealed')
    const within = request.headers['x-vault-namespace'] ?? ''
    if (path === 'sys/health' && within !== '') throw new Refusal(400, 'operation unavailable in namespaces')
    if (path === 'sys/health') return health(searchParams)
    if (within !== (namespace && `${namespace}/`)) throw new Refusal(404, 'namespace not found')
    const operation = operationOf(method, path)
    const wrong = operation?.wrong(body)
    if (wrong) throw new Refusal(400, wrong)
    expire()
    if (method === 'POST' && path === 'auth/approle/login') return approleLogin(body)
    if (method === 'POST' && path === 'auth/jwt/login') return jwtLogin(body)

    const id = String(request.headers['x-vault-token'] ?? '')
    const token = tokens.get(id)
    if (token === undefined) throw new Refusal(403, 'permission denied')
    const verb = VERB[method as keyof typeof VERB]
    const may = capabilities(token, path)
    if (!may.includes('root') && (verb === undefined || !may.includes(verb))) throw denied()
    if (operation === undefined || !Object.hasOwn(HANDLERS, path)) return secret(path, method, body, id)
    return HANDLERS[path]?.(id, token, body)
  }

  const HANDLERS: Record<string, (id: string, token: Token, body: Record<string, unknown>) => object | undefined> = {
    'auth/token/lookup-self': (id, { policies, endsAt, ttlSeconds = 0, renewable = false, batch }) => {
      const ttl = endsAt === Number.POSITIVE_INFINITY ? 0 : Math.floor((endsAt - now()) / 1000)
      return { data: { id, policies, ttl, creation_ttl: ttlSeconds, renewable, type: batch ? 'batch' : 'service', orphan: true } }
    },
    'auth/token/renew-self': (id, token) => {
      if (!token.renewable) throw new Refusal(400, 'lease is not renewable')
      token.endsAt = now() + (token.ttlSeconds ?? 0) * 1000
      return auth(id, token)
    },
    'sys/capabilities-self': (_id, token, { paths }) => {
      const found = Object.fromEntries([paths].flat().map((path) => [String(path), capabilities(token, String(path))]))
      return { ...found, data: found }
    },
    'sys/leases/lookup': (_id, _token, body) => {
      const id = String(body.lease_id ?? '')
      const lease = leases.get(id)
      if (lease === undefined) throw new Refusal(400, id === '' ? 'lease_id must be specified' : 'invalid lease')
      const time = (at: number | undefined) => (at === undefined ? null : new Date(at).toISOString())
      const ttl = Math.floor((lease.endsAt - now()) / 1000)
      const times = { issue_time: time(lease.issuedAt), expire_time: time(lease.endsAt), last_renewal: time(lease.renewedAt) }
      const place = { path: lease.path, ...(namespace && { namespace_path: `${namespace}/` }) }
      return { data: { id, ...place, ...times, renewable: lease.renewable, ttl } }
    },
    'sys/leases/renew': (_id, _token, body) => {
      const id = String(body.lease_id ?? '')
      const lease = leases.get(id)
      if (lease === undefined) throw new Refusal(400, 'lease not found')
      if (!lease.renewable) throw new Refusal(400, 'lease is not renewable')
      const asked = secondsOf(String(body.increment ?? '0'))
      lease.renewedAt = now()
      lease.endsAt = Math.min(now() + (asked || (secrets[lease.path]?.ttlSeconds ?? 0)) * 1000, lease.maxAt)
      return envelope({ lease_id: id, renewable: true, lease_duration: Math.floor((lease.endsAt - now()) / 1000), data: null })
    },
    'sys/leases/revoke': (_id, _token, body) => {
      if (typeof body.lease_id !== 'string' || body.lease_id === '') throw new Refusal(400, 'lease_id must be specified')
      if (body.sync !== true) throw new Refusal(400, 'this fake revokes only when asked to wait for it')
      if (failing > 0 && leases.has(body.lease_id)) {
        failing--
        throw new Refusal(400, `failed to revoke entry: resp: (*logical.Response)(nil) err: connection refused`)
      }
      leases.delete(body.lease_id)
      return undefined
    },
  }

  function secret(path: string, method: string, body: Record<string, unknown>, token: string): object {
    const found = Object.hasOwn(secrets, path) ? secrets[path] : undefined
    if (found === undefined) throw path.includes('/creds/') ? new Refusal(400, `unknown role: ${path.split('/').at(-1)}`) : new Refusal(404)
    if ((found.method ?? 'GET') !== method) throw new Refusal(405, 'unsupported operation')
    const { ttlSeconds, maxTtlSeconds = ttlSeconds, renewable = true } = found
    const data = found.make(body)
    if (found.wrapped) return envelope({ wrap_info: { token: `s.${randomUUID()}`, ttl: 60, creation_path: path }, data: null })
    if (ttlSeconds === undefined) return envelope({ data, lease_duration: 2_764_800 })
    const id = `${path}/${randomBytes(18).toString('base64url')}`
    const issuedAt = now()
    leases.set(id, { token, path, data, issuedAt, maxAt: issuedAt + (maxTtlSeconds ?? 0) * 1000, renewable, endsAt: issuedAt + ttlSeconds * 1000 })
    return envelope({ lease_id: id, renewable, lease_duration: ttlSeconds, data })
  }

  function approleLogin({ role_id: roleId, secret_id: secretId }: Record<string, unknown>): object {
    const role = Object.hasOwn(approles, String(roleId)) ? approles[String(roleId)] : undefined
    if (role === undefined || role.secretId !== secretId) throw new Refusal(400, 'invalid role or secret ID')
    return login(role)
  }

  async function jwtLogin({ role: name, jwt }: Record<string, unknown>): Promise<object> {
    const role = Object.hasOwn(jwtRoles, String(name)) ? jwtRoles[String(name)] : undefined
    if (role === undefined) throw new Refusal(400, `role "${name}" could not be found`)
    const wrong = isSigned(String(jwt), role, Date.now())
    if (wrong !== undefined) throw new Refusal(400, `error validating token: ${wrong}`)
    return login(role)
  }

  function login(role: LoginToken): object {
    const id = makeToken({ ...role, renewable: !role.batch })
    return auth(id, tokens.get(id))
  }

  function auth(id: string, { policies = [], endsAt = 0, renewable = false, batch = false }: Partial<Token> = {}): object {
    const lease_duration = endsAt === Number.POSITIVE_INFINITY ? 0 : Math.ceil((endsAt - now()) / 1000)
    const told = { client_token: id, accessor: randomUUID(), policies, token_policies: policies, metadata: null, lease_duration, renewable }
    return envelope({ auth: { ...told, token_type: batch ? 'batch' : 'service', orphan: true }, data: null })
  }

  function makeToken({ policies, ttlSeconds, ...rest }: FakeTokenOptions): string {
    const id = `s.${randomBytes(18).toString('base64url')}`
    const endsAt = ttlSeconds === undefined ? Number.POSITIVE_INFINITY : now() + ttlSeconds * 1000
    tokens.set(id, { policies: policies.includes('root') ? ['root'] : ['default', ...policies], ttlSeconds, ...rest, endsAt })
    return id
  }

  function capabilities({ policies: names }: Token, path: string): string[] {
    if (names.includes('root')) return ['root']
    const rules = names.flatMap((name) => Object.entries(name === 'default' ? DEFAULT_POLICY : (policies[name] ?? {})))
    const found = rules.filter(([rule]) => (rule.endsWith('*') ? path.startsWith(rule.slice(0, -1)) : rule === path)).flatMap(([, verbs]) => verbs)
    return found.length === 0 || found.includes('deny') ? ['deny'] : [...new Set(found)]
  }

  /** "it, and its associated leases, are revoked" */
  function expire(): void {
    for (const [id, { endsAt }] of tokens) if (endsAt <= now()) revokeToken(id)
    for (const [id, { endsAt }] of leases) if (endsAt <= now()) leases.delete(id)
  }
  function revokeToken(token: string): void {
    tokens.delete(token)
    for (const [id, lease] of leases) if (lease.token === token) leases.delete(id)
  }

  function health(query: URLSearchParams): object {
    if (sealed) throw new Refusal(Number(query.get('sealedcode') ?? 503))
    return { initialized: true, sealed, standby: false, server_time_utc: Math.floor(now() / 1000), version: '2.6.2' }
  }

  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    host: HOST,
    port,
    url: `http://${HOST}:${port}`,
    makeToken,
    revokeToken,
    tokens() {
      expire()
      return tokens.size
    },
    leases() {
      expire()
      return [...leases.keys()]
    },
    expiry: (lease) => leases.get(lease)?.endsAt,
    knows(data, at = now()) {
      const same = JSON.stringify(data)
      return [...leases.values()].some(
        (lease) => JSON.stringify(lease.data) === same && at < lease.endsAt && at < (tokens.get(lease.token)?.endsAt ?? 0),
      )
    },
    advance(ms) {
      ahead += ms
    },
    failRevokes(count) {
      failing = count
    },
    seal(value) {
      sealed = value
    },
    log,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function envelope(change: object): object {
  const empty = { lease_id: '', renewable: false, lease_duration: 0, data: null, wrap_info: null, warnings: null, auth: null }
  return { request_id: randomUUID(), ...empty, ...change }
}

/** Go's durations, as far as seconds go. */
function secondsOf(text: string): number {
  return Number(/^(\d+)s?$/.exec(text)?.[1] ?? 0)
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  const text = Buffer.concat(chunks).toString('utf8')
  if (text === '') return {}
  try {
    return Object(JSON.parse(text))
  } catch {
    throw new Refusal(400, 'error parsing JSON')
  }
}
