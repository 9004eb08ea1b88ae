import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { TLSSocket } from 'node:tls'
import { readOpenApi } from './fake-kubernetes-openapi.js'
import { createTokens, type Tokens, type User } from './fake-kubernetes-tokens.js'

/**
 * A FAKE of the Kubernetes API server, for want of a cluster in tests: Secrets, TokenRequest, TokenReview, SelfSubjectAccessReview and reading
 * ConfigMaps. Each request is held against the published OpenAPI description of Kubernetes 1.36, and so is each answer; what the
 * description does not say is as in the sources of that version. Imports nothing of the project.
 */
export interface FakeKubernetes {
  readonly host: string
  readonly port: number
  readonly url: string
  /** `namespace/name` of each Secret. */
  secrets(): { namespace: string; name: string; labels: Record<string, string>; annotations: Record<string, string>; finalizers: string[] }[]
  /** `METHOD path` of each request, in their order. */
  readonly requests: readonly string[]
  /** What was asked of each TokenRequest that was granted. */
  readonly tokenRequests: readonly TokenRequestSpec[]
  /** Moves the clock of the authentication cache. */
  passCache(ms: number): void
  /** Moves the clock by which tokens expire. */
  passTime(ms: number): void
  deleteServiceAccount(namespace: string, name: string): void
  /** From now on each new Secret has it, as an admission webhook would do. */
  addFinalizer(finalizer: string | undefined): void
  /** Continue tokens that were given are too old from now on. */
  compact(): void
  /** So many requests are answered 429 first. */
  throttle(requests: number): void
  stop(): Promise<void>
}
export interface FakeKubernetesOptions {
  /** Bearer token -> user name. */
  readonly tokens: Readonly<Record<string, string>>
  readonly serviceAccounts: readonly string[]
  /** `namespace/name`; they hold nothing. */
  readonly configMaps?: readonly string[]
  readonly rules: readonly Rule[]
  /** --service-account-max-token-expiration, seconds. */
  readonly maxTokenSeconds?: number
  /** Entries of a page at most, whatever is asked for. */
  readonly pageSize?: number
  /** PEM; then it speaks TLS, and takes client certificates of `ca`, whose CN is the user's name. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca: string }
}
/** What RBAC allows: https://kubernetes.io/docs/reference/access-authn-authz/rbac/ */
export interface Rule {
  readonly user: string
  readonly namespace: string
  readonly verbs: readonly string[]
  /** `secrets`, `serviceaccounts/token`. */
  readonly resources: readonly string[]
  readonly names?: readonly string[]
}
interface TokenRequestSpec {
  readonly audiences?: readonly string[]
  readonly expirationSeconds?: number
  readonly boundObjectRef?: { readonly kind?: string; readonly apiVersion?: string; readonly name?: string; readonly uid?: string }
}
interface Metadata {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly creationTimestamp: string
  readonly resourceVersion: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  readonly finalizers?: string[]
  deletionTimestamp?: string
}
interface Stored {
  readonly metadata: Metadata
  readonly [field: string]: unknown
}
/** A body of any of the operations, once it is as described. */
interface Asked extends Stored {
  readonly spec: TokenRequestSpec & { token?: string; resourceAttributes?: Readonly<Record<string, string>> }
  readonly preconditions?: { readonly uid?: string }
}
class Refusal extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details?: { readonly name?: string; readonly kind?: string; readonly retryAfterSeconds?: number },
    readonly metadata: object = {},
  ) {
    super(message)
  }
}

const HOST = '127.0.0.1'
const AUDIENCE = 'https://kubernetes.default.svc.cluster.local'
const SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/
const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/
const MIN_TOKEN_SECONDS = 600
const operationOf = readOpenApi()

export async function startFakeKubernetes(options: FakeKubernetesOptions): Promise<FakeKubernetes> {
  const accounts = new Map(options.serviceAccounts.map((place) => [place, randomUUID()]))
  const secrets = new Map<string, Stored>()
  const requests: string[] = []
  const tokenRequests: TokenRequestSpec[] = []
  let [version, epoch, passed, cachePassed, busy] = [1, 0, 0, 0, 0]
  let finalizer: string | undefined
  const now = () => Date.now() + passed
  const tokens: Tokens = createTokens({ now, cacheNow: () => now() + cachePassed }, ({ namespace, account, secret }) => {
    const bound = secret && secrets.get(`${namespace}/${secret.name}`)
    const deleted = bound?.metadata.deletionTimestamp
    if (secret && (bound?.metadata.uid !== secret.uid || (deleted !== undefined && Date.parse(deleted) < now() - 60_000))) return false
    return accounts.get(`${namespace}/${account.name}`) === account.uid
  })

  const userOf = (request: IncomingMessage): User => {
    const bearer = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1]
    const known = bearer === undefined ? undefined : options.tokens[bearer]
    if (known !== undefined) return { username: known, uid: '', groups: ['system:authenticated'] }
    const { socket } = request
    const name = bearer === undefined && socket instanceof TLSSocket && socket.authorized ? socket.getPeerCertificate().subject.CN : undefined
    if (typeof name === 'string') return { username: name, uid: '', groups: ['system:authenticated'] }
    const found = bearer === undefined ? undefined : tokens.authenticate(bearer, [AUDIENCE])
    if (!found) throw new Refusal(401, 'Unauthorized', 'Unauthorized')
    return found.user
  }
  const allowed = (user: User, namespace: string, verb: string, resource: string, name?: string): boolean =>
    options.rules.some(
      (rule) =>
        rule.user === user.username &&
        rule.namespace === namespace &&
        rule.verbs.includes(verb) &&
        rule.resources.includes(resource) &&
        (rule.names === undefined || (name !== undefined && rule.names.includes(name))),
    )
  const need = (user: User, namespace: string, verb: string, resource: string, name?: string): void => {
    if (allowed(user, namespace, verb, resource, name)) return
    const what = `User "${user.username}" cannot ${verb} resource "${resource}" in API group "" in the namespace "${namespace}"`
    throw new Refusal(403, 'Forbidden', `${resource} ${JSON.stringify(name)} is forbidden: ${what}`, { name, kind: resource })
  }

  const createSecret = (namespace: string, body: Stored): object => {
    const { name, labels = {}, annotations } = body.metadata
    const invalid = (why: string) => new Refusal(422, 'Invalid', `Secret "${name}" is invalid: ${why}`, { name, kind: 'Secret' })
    if (typeof name !== 'string' || name.length > 253 || !SUBDOMAIN.test(name)) throw invalid('metadata.name')
    if (body.metadata.namespace !== undefined && body.metadata.namespace !== namespace)
      throw new Refusal(400, 'BadRequest', 'the namespace of the provided object does not match the namespace sent on the request')
    if (Object.values(labels).some((value) => !LABEL_VALUE.test(value))) throw invalid('metadata.labels')
    if (secrets.has(`${namespace}/${name}`)) throw new Refusal(409, 'AlreadyExists', `secrets "${name}" already exists`, { name, kind: 'secrets' })
    const metadata = {
      ...{ name, namespace, labels, annotations, uid: randomUUID(), resourceVersion: String(++version) },
      ...{ creationTimestamp: seconds(now()), finalizers: finalizer ? [finalizer] : undefined },
    }
    const stored = { ...body, kind: 'Secret', apiVersion: 'v1', metadata }
    secrets.set(`${namespace}/${name}`, stored)
    return stored
  }
  const deleteSecret = (namespace: string, name: string, body: Asked | undefined): object => {
    const found = secrets.get(`${namespace}/${name}`)
    if (!found) throw new Refusal(404, 'NotFound', `secrets "${name}" not found`, { name, kind: 'secrets' })
    const uid = body?.preconditions?.uid
    if (uid !== undefined && uid !== found.metadata.uid)
      throw new Refusal(409, 'Conflict', `Operation cannot be fulfilled on secrets "${name}": Precondition failed: UID`, { name, kind: 'secrets' })
    if (found.metadata.finalizers?.length) {
      found.metadata.deletionTimestamp ??= seconds(now())
      return found
    }
    secrets.delete(`${namespace}/${name}`)
    version++
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details: { name, kind: 'secrets', uid: found.metadata.uid } }
  }
  const listSecrets = (namespace: string, query: URLSearchParams): object => {
    const selects = (selector: string | null, fieldOf: (key: string) => string | undefined) =>
      (selector ?? '').split(',').every((term) => term === '' || fieldOf(term.split('=')[0] ?? '') === term.split('=')[1])
    const found = [...secrets.values()]
      .filter(({ metadata }) => metadata.namespace === namespace)
      .filter(({ metadata }) => selects(query.get('labelSelector'), (key) => metadata.labels?.[key]))
      .filter(({ metadata }) => selects(query.get('fieldSelector'), (key) => (key === 'metadata.name' ? metadata.name : undefined)))
      .sort((one, other) => (one.metadata.name < other.metadata.name ? -1 : 1))
    const token = query.get('continue')
    const { start = '', given = epoch } = token ? JSON.parse(Buffer.from(token, 'base64url').toString()) : {}
    const next = (name: string) => Buffer.from(JSON.stringify({ start: name, given: epoch })).toString('base64url')
    if (given !== epoch) throw new Refusal(410, 'Expired', 'The provided continue parameter is too old', undefined, { continue: next(start) })
    const rest = found.filter(({ metadata }) => metadata.name > start)
    const page = rest.slice(0, Math.min(Number(query.get('limit') ?? rest.length) || rest.length, options.pageSize ?? rest.length))
    const more = rest.length > page.length ? { continue: next(page.at(-1)?.metadata.name ?? ''), remainingItemCount: rest.length - page.length } : {}
    return { kind: 'SecretList', apiVersion: 'v1', metadata: { resourceVersion: String(version), ...more }, items: page }
  }
  const requestToken = (namespace: string, name: string, { spec }: Asked): object => {
    const uid = accounts.get(`${namespace}/${name}`)
    if (uid === undefined) throw new Refusal(404, 'NotFound', `serviceaccounts "${name}" not found`, { name, kind: 'serviceaccounts' })
    const { boundObjectRef: ref, expirationSeconds = 3600, audiences = [] } = spec
    if (expirationSeconds < MIN_TOKEN_SECONDS || expirationSeconds > 2 ** 32)
      throw new Refusal(422, 'Invalid', 'spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes')
    if (ref && (ref.kind !== 'Secret' || ref.apiVersion !== 'v1'))
      throw new Refusal(400, 'BadRequest', `cannot bind token to object of type ${ref.apiVersion}, Kind=${ref.kind}`)
    const bound = ref && secrets.get(`${namespace}/${ref.name}`)
    if (ref && !bound) throw new Refusal(404, 'NotFound', `secrets "${ref.name}" not found`, { name: ref.name, kind: 'secrets' })
    if (ref?.uid && bound?.metadata.uid !== ref.uid)
      throw new Refusal(409, 'Conflict', `Operation cannot be fulfilled on Secret "${ref.name}": the UID does not match`, {
        name: ref.name,
        kind: 'Secret',
      })
    const life = Math.min(expirationSeconds, options.maxTokenSeconds ?? expirationSeconds)
    const secret = bound && { name: bound.metadata.name, uid: bound.metadata.uid }
    const meant = audiences.length > 0 ? audiences : [AUDIENCE]
    const { token, end } = tokens.issue({ namespace, account: { name, uid }, secret }, meant, life)
    tokenRequests.push(spec)
    const status = { token, expirationTimestamp: seconds(end) }
    const metadata = { name, namespace, uid, creationTimestamp: seconds(now()) }
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata,
      spec: { ...spec, audiences: meant, expirationSeconds: life },
      status,
    }
  }
  const reviewToken = (body: Asked): object => {
    const found = tokens.authenticate(body.spec.token ?? '', body.spec.audiences?.length ? body.spec.audiences : [AUDIENCE])
    const status = found
      ? { authenticated: true, user: found.user, audiences: found.audiences }
      : { authenticated: false, error: '[invalid bearer token]' }
    return { ...body, metadata: {}, kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', status }
  }

  const carryOut = (user: User, id: string, path: Readonly<Record<string, string>>, query: URLSearchParams, body: Asked): [number, object] => {
    const { namespace = '', name = '' } = path
    const verb = id.replace(/^read/, 'get').replace(/^(list|create|delete|get).*/, '$1')
    switch (id) {
      case 'createCoreV1NamespacedSecret':
        need(user, namespace, verb, 'secrets')
        return [201, createSecret(namespace, body)]
      case 'deleteCoreV1NamespacedSecret':
        need(user, namespace, verb, 'secrets', name)
        return [200, deleteSecret(namespace, name, body)]
      case 'listCoreV1NamespacedSecret':
        need(user, namespace, verb, 'secrets')
        return [200, listSecrets(namespace, query)]
      case 'createCoreV1NamespacedServiceAccountToken':
        need(user, namespace, verb, 'serviceaccounts/token', name)
        return [201, requestToken(namespace, name, body)]
      case 'readCoreV1NamespacedConfigMap':
        need(user, namespace, verb, 'configmaps', name)
        if (!options.configMaps?.includes(`${namespace}/${name}`))
          throw new Refusal(404, 'NotFound', `configmaps "${name}" not found`, { name, kind: 'configmaps' })
        return [200, { kind: 'ConfigMap', apiVersion: 'v1', metadata: { name, namespace } }]
      case 'createAuthenticationV1TokenReview':
        need(user, '', verb, 'tokenreviews')
        return [201, reviewToken(body)]
      default: {
        const { namespace: where = '', verb: does = '', resource = '', subresource, name: named } = body.spec.resourceAttributes ?? {}
        const yes = allowed(user, where, does, subresource ? `${resource}/${subresource}` : resource, named)
        return [201, { ...body, metadata: {}, status: { allowed: yes } }]
      }
    }
  }

  const answerOf = async (request: IncomingMessage): Promise<{ status: number; body: object; problem?: string }> => {
    const url = new URL(request.url ?? '/', `http://${HOST}`)
    requests.push(`${request.method} ${url.pathname}`)
    const operation = operationOf(request.method ?? '', url.pathname)
    try {
      const text = (await request.setEncoding('utf8').toArray()).join('')
      if (busy-- > 0) throw new Refusal(429, 'TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 })
      const user = userOf(request)
      if (!operation) throw new Refusal(404, 'NotFound', 'the server could not find the requested resource')
      if (text !== '' && request.headers['content-type'] !== 'application/json') throw new Refusal(415, 'UnsupportedMediaType', 'not JSON')
      const body = parsed(text)
      const problem = operation.problem(url.searchParams, text === '' ? undefined : body)
      if (problem) throw new Refusal(400, 'BadRequest', `strict decoding error: ${problem}`)
      const [status, answer] = carryOut(user, operation.id, operation.path, url.searchParams, body)
      return { status, body: answer, problem: operation.answerProblem(status, JSON.parse(JSON.stringify(answer))) }
    } catch (error) {
      const { code, reason, message, details, metadata } = error instanceof Refusal ? error : new Refusal(500, 'InternalError', String(error))
      return { status: code, body: { kind: 'Status', apiVersion: 'v1', metadata, status: 'Failure', message, reason, details, code } }
    }
  }
  const listener: RequestListener = async (request, response) => {
    const { status, body, problem } = await answerOf(request)
    const wait = status === 429 ? { 'retry-after': '1' } : {}
    // An answer of its own that is not as described is a fault of the fake's.
    if (problem) return void response.writeHead(500).end(`the fake's own answer is not as described: ${problem}`)
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-cache, private', ...wait }).end(JSON.stringify(body))
  }
  const server = options.tls ? createSecureServer({ ...options.tls, requestCert: true, rejectUnauthorized: false }, listener) : createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    host: HOST,
    port: address.port,
    url: `${options.tls ? 'https' : 'http'}://${HOST}:${address.port}`,
    secrets: () =>
      [...secrets.values()].map(({ metadata: { namespace, name, labels = {}, annotations = {}, finalizers = [] } }) => ({
        ...{ namespace, name, labels, annotations, finalizers },
      })),
    requests,
    tokenRequests,
    passCache(ms) {
      cachePassed += ms
    },
    passTime(ms) {
      passed += ms
    },
    deleteServiceAccount: (namespace, name) => void accounts.delete(`${namespace}/${name}`),
    addFinalizer(name) {
      finalizer = name
    },
    compact() {
      epoch++
    },
    throttle(count) {
      busy = count
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function parsed(text: string): Asked {
  try {
    return JSON.parse(text || '{}')
  } catch {
    throw new Refusal(400, 'BadRequest', 'the object provided is unrecognized')
  }
}

/** `metav1.Time`: whole seconds. */
function seconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z')
}
