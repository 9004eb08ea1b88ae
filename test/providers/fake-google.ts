import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import { evaluate } from './fake-google-cel.js'

/**
 * A FAKE of Google, for want of a project in tests: generateAccessToken of the IAM Credentials API, the exchanges of the Security Token
 * Service (a workload's own token, and an access token for one with an access boundary), and reading, writing and listing objects of
 * Cloud Storage. Bodies are held against the published Discovery documents; what these leave to prose is as the prose has it. Imports
 * nothing of the project.
 */
export interface FakeGoogle {
  readonly host: string
  readonly port: number
  readonly url: string
  /** What each generateAccessToken that was granted asked for. */
  readonly impersonated: readonly Impersonated[]
  /** Options of each exchange for a bounded token. */
  readonly boundaries: readonly Boundary[]
  readonly requests: readonly string[]
  /** Moves the clock by which tokens end. */
  passTime(ms: number): void
  /** When a token ends, ms. */
  endOf(token: string): number | undefined
  /** Answers with this status, so many times. */
  fail(status: number, times: number): void
  stop(): Promise<void>
}
export interface FakeGoogleOptions {
  /** Subject token of the workload -> its name. */
  readonly workloads: Readonly<Record<string, string>>
  /** Audience of the workload identity pool's provider. */
  readonly audience: string
  readonly accounts: Readonly<Record<string, FakeAccount>>
}
export interface FakeAccount {
  /** Who has roles/iam.serviceAccountTokenCreator on it: workloads and service accounts. */
  readonly tokenCreators: readonly string[]
  /** Bucket -> roles. */
  readonly roles: Readonly<Record<string, readonly string[]>>
  /** constraints/iam.allowServiceAccountCredentialLifetimeExtension. */
  readonly extended?: boolean
}
interface Impersonated {
  readonly account: string
  readonly delegates: readonly string[]
  readonly scope: readonly string[]
  readonly lifetime: string
  readonly reason?: string
}
interface Boundary {
  readonly accessBoundary: { readonly accessBoundaryRules: readonly Rule[] }
}
interface Rule {
  readonly availableResource: string
  readonly availablePermissions: readonly string[]
  readonly availabilityCondition?: { readonly expression: string }
}
interface Token {
  readonly principal: string
  readonly scopes: readonly string[]
  readonly end: number
  readonly boundary?: Boundary
}
class Refusal extends Error {
  constructor(
    readonly code: number,
    readonly status: string,
    message: string,
    readonly oauth = false,
  ) {
    super(message)
  }
}

const HOST = '127.0.0.1'
const CLOUD = 'https://www.googleapis.com/auth/cloud-platform'
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'
const SHORTEST_SECONDS = 300
const FEDERATED_SECONDS = 3600
/** https://docs.cloud.google.com/storage/docs/access-control/iam-roles */
const PERMISSIONS: Readonly<Record<string, readonly string[]>> = {
  'roles/storage.objectViewer': ['storage.objects.get', 'storage.objects.list'],
  'roles/storage.objectCreator': ['storage.objects.create'],
  'roles/storage.objectAdmin': ['storage.objects.get', 'storage.objects.list', 'storage.objects.create', 'storage.objects.delete'],
}
const SOME_FACTS = { resource: { name: '', type: '', service: '' }, attributes: {} }

interface Published {
  readonly iamcredentials: Api
  readonly sts: Api
  readonly storage: Api
}
interface Api {
  readonly methods: Readonly<Record<string, { readonly scopes?: readonly string[] }>>
  readonly schemas: Readonly<Record<string, object>>
}

export async function startFakeGoogle(options: FakeGoogleOptions): Promise<FakeGoogle> {
  const published: Published = JSON.parse(readFileSync(join(import.meta.dirname, 'published', 'google.json'), 'utf8'))
  const fits = validator({ ...published.iamcredentials.schemas, ...published.sts.schemas })
  const tokens = new Map<string, Token>()
  const impersonated: Impersonated[] = []
  const boundaries: Boundary[] = []
  const requests: string[] = []
  let [passed, failing, failures] = [0, 0, 0]
  const now = () => Date.now() + passed

  const issue = (token: Token): string => {
    const text = `ya29.c.${randomBytes(48).toString('base64url')}`
    tokens.set(text, token)
    return text
  }
  const bearerOf = (request: IncomingMessage, scopes: readonly string[] = [CLOUD]): Token => {
    const token = tokens.get(/^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '')
    if (!token || token.end <= now()) throw new Refusal(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.')
    if (!token.scopes.some((one) => scopes.includes(one)))
      throw new Refusal(403, 'PERMISSION_DENIED', 'Request had insufficient authentication scopes.')
    return token
  }

  const generateAccessToken = (request: IncomingMessage, account: string, body: Impersonated): object => {
    const caller = bearerOf(request, published.iamcredentials.methods['projects.serviceAccounts.generateAccessToken']?.scopes)
    const invalid = (why: string) => new Refusal(400, 'INVALID_ARGUMENT', `Request contains an invalid argument: ${why}`)
    const problem = fits('GenerateAccessTokenRequest', body)
    if (problem) throw invalid(problem)
    const { delegates = [], scope = [], lifetime = '3600s' } = body
    if (scope.length === 0) throw invalid('scope')
    const seconds = Number(/^(\d+(?:\.\d{1,9})?)s$/.exec(lifetime)?.[1])
    const most = options.accounts[account]?.extended ? 43_200 : 3600
    if (!(seconds >= SHORTEST_SECONDS && seconds <= most)) throw invalid(`lifetime ${lifetime}`)
    const path = delegates.map((one) => /^projects\/-\/serviceAccounts\/([^/]+)$/.exec(one)?.[1])
    if (path.includes(undefined)) throw invalid('delegates')
    if (caller.boundary) throw new Refusal(403, 'PERMISSION_DENIED', 'a bounded token is for Cloud Storage')
    let holder = caller.principal
    for (const next of [...path, account]) {
      const creators = options.accounts[next ?? '']?.tokenCreators
      // Google tells nobody whether it is there.
      if (!creators?.includes(holder))
        throw new Refusal(403, 'PERMISSION_DENIED', "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
      holder = next ?? ''
    }
    const reason = request.headers['x-goog-request-reason']
    impersonated.push({ account, delegates, scope, lifetime, ...(typeof reason === 'string' && { reason }) })
    // Whole seconds, as Google answers them.
    const end = Math.floor(now() / 1000 + seconds) * 1000
    return { accessToken: issue({ principal: account, scopes: scope, end }), expireTime: new Date(end).toISOString().replace('.000Z', 'Z') }
  }

  const exchange = (form: URLSearchParams): object => {
    const invalid = (why: string) => new Refusal(400, 'invalid_request', `Invalid value for "${why}".`, true)
    const body = Object.fromEntries([...form].map(([key, value]) => [key.replace(/_[a-z]/g, (part) => part.slice(1).toUpperCase()), value]))
    const problem = fits('GoogleIdentityStsV1ExchangeTokenRequest', body)
    if (problem) throw invalid(problem)
    if (body.grantType !== EXCHANGE) throw new Refusal(400, 'unsupported_grant_type', 'grant_type', true)
    if (body.requestedTokenType !== ACCESS_TOKEN) throw invalid('requested_token_type')
    if (body.subjectTokenType === ACCESS_TOKEN) return bound(body.subjectToken ?? '', body.options, invalid)
    const workload = options.workloads[body.subjectToken ?? '']
    if (body.subjectTokenType !== JWT || body.audience !== options.audience || !body.scope) throw invalid('audience')
    if (workload === undefined) throw new Refusal(400, 'invalid_grant', 'The given credential is rejected by the attribute condition.', true)
    const token = issue({ principal: workload, scopes: body.scope.split(' '), end: now() + FEDERATED_SECONDS * 1000 })
    return { access_token: token, issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: FEDERATED_SECONDS }
  }
  const bound = (subject: string, text: string | undefined, invalid: (why: string) => Refusal): object => {
    const source = tokens.get(subject)
    if (!source || source.end <= now()) throw new Refusal(400, 'invalid_grant', 'The subject token is invalid.', true)
    if (source.boundary) throw invalid('the subject token has security attributes already')
    const boundary: Boundary = JSON.parse(text || '{}')
    const problem = fits('GoogleIdentityStsV1Options', boundary)
    const rules = boundary.accessBoundary?.accessBoundaryRules ?? []
    if (problem || rules.length === 0 || rules.length > 10 || JSON.stringify(boundary.accessBoundary).length > 2048)
      throw invalid(problem ?? 'options')
    for (const { availableResource, availablePermissions, availabilityCondition } of rules) {
      if (!/^\/\/storage\.googleapis\.com\/projects\/_\/buckets\/[a-z0-9._-]{3,222}$/.test(availableResource)) throw invalid('availableResource')
      if (!availablePermissions?.length || availablePermissions.some((one) => !one.startsWith('inRole:'))) throw invalid('availablePermissions')
      try {
        if (availabilityCondition) evaluate(availabilityCondition.expression, SOME_FACTS)
      } catch {
        throw invalid('availabilityCondition')
      }
    }
    boundaries.push(boundary)
    const token = issue({ ...source, boundary })
    return { access_token: token, issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: Math.floor((source.end - now()) / 1000) }
  }

  /** Cloud Storage: what the service account's roles allow and, where there is a boundary, one of its rules does too. */
  const storage = (request: IncomingMessage, method: string, bucket: string, object: string | undefined, prefix: string): void => {
    const token = bearerOf(request, published.storage.methods[method]?.scopes)
    const permission = `storage.${method.replace('insert', 'create')}`
    const inRoles = (roles: readonly string[]) => roles.some((role) => PERMISSIONS[role]?.includes(permission))
    const name = `projects/_/buckets/${bucket}${object === undefined ? '' : `/objects/${object}`}`
    const type = `storage.googleapis.com/${object === undefined ? 'Bucket' : 'Object'}`
    const attributes = { 'storage.googleapis.com/objectListPrefix': prefix }
    const facts = { resource: { name, type, service: 'storage.googleapis.com' }, attributes: object === undefined ? attributes : {} }
    const rules = token.boundary?.accessBoundary.accessBoundaryRules
    const within =
      rules === undefined ||
      rules.some(
        ({ availableResource, availablePermissions, availabilityCondition: condition }) =>
          availableResource === `//storage.googleapis.com/projects/_/buckets/${bucket}` &&
          inRoles(availablePermissions.map((one) => one.slice('inRole:'.length))) &&
          (condition === undefined || evaluate(condition.expression, facts)),
      )
    if (within && inRoles(options.accounts[token.principal]?.roles[bucket] ?? [])) return
    throw new Refusal(403, 'PERMISSION_DENIED', `${token.principal} does not have ${permission} access to ${name}.`)
  }

  const carryOut = async (request: IncomingMessage): Promise<object> => {
    const url = new URL(request.url ?? '/', `http://${HOST}`)
    requests.push(`${request.method} ${url.pathname}`)
    const text = (await request.setEncoding('utf8').toArray()).join('')
    if (failures-- > 0) throw new Refusal(failing, 'UNAVAILABLE', 'failing as asked')
    const parts = url.pathname.split('/').slice(1).map(decodeURIComponent)
    const type = request.headers['content-type']
    if (request.method === 'POST' && url.pathname === '/v1/token') {
      if (!type?.startsWith('application/x-www-form-urlencoded')) throw new Refusal(400, 'invalid_request', 'content type', true)
      return exchange(new URLSearchParams(text))
    }
    const account = /^([^:]+):generateAccessToken$/.exec(parts[4] ?? '')?.[1]
    if (request.method === 'POST' && account && url.pathname.startsWith('/v1/projects/-/serviceAccounts/') && parts.length === 5)
      return generateAccessToken(request, account, JSON.parse(text))
    const [upload, place] = parts[0] === 'upload' ? [true, parts.slice(1)] : [false, parts]
    const [service, version, b, bucket = '', o, ...rest] = place
    if (service === 'storage' && version === 'v1' && b === 'b' && o === 'o') {
      const method = upload ? 'objects.insert' : rest.length > 0 ? 'objects.get' : 'objects.list'
      const object = upload ? (url.searchParams.get('name') ?? '') : rest[0]
      storage(request, method, bucket, object, url.searchParams.get('prefix') ?? '')
      return { kind: 'storage#object', bucket, name: object }
    }
    throw new Refusal(404, 'NOT_FOUND', 'no such method')
  }

  const server = createServer(async (request, response) => {
    const answer = await carryOut(request).then(
      (body) => ({ code: 200, body }),
      (error: unknown) => {
        const { code, status, message, oauth } = error instanceof Refusal ? error : new Refusal(500, 'INTERNAL', String(error))
        return { code, body: oauth ? { error: status, error_description: message } : { error: { code, message, status } } }
      },
    )
    response.writeHead(answer.code, { 'content-type': 'application/json; charset=UTF-8' }).end(JSON.stringify(answer.body))
  })
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    host: HOST,
    port: address.port,
    url: `http://${HOST}:${address.port}`,
    impersonated,
    boundaries,
    requests,
    passTime(ms) {
      passed += ms
    },
    endOf: (token) => tokens.get(token)?.end,
    fail(status, times) {
      ;[failing, failures] = [status, times]
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Discovery's dialect of JSON Schema: names as references, formats of its own, and no field beyond those described. */
function validator(schemas: Readonly<Record<string, object>>): (name: string, value: unknown) => string | undefined {
  const ajv = new Ajv({ strict: false, validateFormats: false })
  const closed = (schema: unknown): unknown => {
    if (Array.isArray(schema)) return schema.map(closed)
    if (typeof schema !== 'object' || schema === null) return schema
    const entries = Object.entries(schema)
      .filter(([key, value]) => !(key === 'id' && typeof value === 'string'))
      .map(([key, value]) => [key, key === '$ref' ? `#/definitions/${value}` : closed(value)])
    return { ...Object.fromEntries(entries), ...('properties' in schema && { additionalProperties: false }) }
  }
  const definitions = closed(schemas)
  const compiled = new Map<string, ValidateFunction>()
  return (name, value) => {
    const check = compiled.get(name) ?? ajv.compile({ $ref: `#/definitions/${name}`, definitions })
    compiled.set(name, check)
    return check(value) ? undefined : `${check.errors?.[0]?.instancePath} ${check.errors?.[0]?.message}`
  }
}
