import { type KeyObject, randomBytes, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'

/**
 * A FAKE of GitHub's REST API, for want of an account in tests: the operations in `published/github.json`, which is a part of GitHub's own
 * description. Every request is held to that description, and so is every answer of success. Imports nothing of the project.
 * https://docs.github.com/en/rest/apps/apps
 */
export interface FakeGitHub {
  readonly host: string
  readonly port: number
  readonly apiUrl: string
  /** Tokens that work now. */
  live(): string[]
  /** The body of each request for a token. */
  readonly asked: readonly TokenRequest[]
  /** Moves the clock: milliseconds that it is ahead of the real one. */
  setAhead(ms: number): void
  /** What is left of the rate limit, for everybody; undefined: no limit. */
  limit(remaining: number | undefined): void
  /** Answers the next request of that method and path template in another way; `undefined`: as usual, after that. */
  next(operation: string, answer: (usual: () => Answer) => Answer | Promise<Answer>): void
  /** Lines of an access log, without headers and bodies. */
  log(): string
  stop(): Promise<void>
}
export interface FakeGitHubOptions {
  readonly appId: number
  readonly clientId: string
  readonly publicKey: KeyObject
  readonly installations: readonly FakeInstallation[]
}
export interface FakeInstallation {
  id: number
  readonly account: { readonly login: string; readonly id: number; readonly type: 'Organization' | 'User' }
  readonly repositories: readonly FakeRepository[]
  permissions: Readonly<Record<string, string>>
  suspended?: boolean
}
export interface FakeRepository {
  readonly id: number
  readonly name: string
}
export interface TokenRequest {
  readonly installation: number
  readonly repositories?: readonly string[]
  readonly repository_ids?: readonly number[]
  readonly permissions?: Readonly<Record<string, string>>
}
export interface Answer {
  readonly status: number
  readonly body?: unknown
  readonly headers?: OutgoingHttpHeaders
  /** Somebody else's between here and GitHub: without the headers that GitHub sends. */
  readonly isProxys?: boolean
}
interface Token {
  readonly installation: FakeInstallation
  readonly repositories: readonly FakeRepository[]
  readonly permissions: Readonly<Record<string, string>>
  readonly selection: 'all' | 'selected'
  readonly expiresAt: number
}
interface Operation {
  readonly method: string
  readonly path: string
  readonly pattern: RegExp
  readonly isBody?: ValidateFunction
  readonly isAnswer: ReadonlyMap<string, ValidateFunction>
}

const HOST = '127.0.0.1'
const HOUR_MS = 3_600_000
const MAX_JWT_SECONDS = 600
const LEVELS = ['', 'read', 'write', 'admin']
const DOCS = 'https://docs.github.com/rest'

class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: OutgoingHttpHeaders = {},
  ) {
    super(message)
  }
}

export async function startFakeGitHub({ appId, clientId, publicKey, installations }: FakeGitHubOptions): Promise<FakeGitHub> {
  const operations = publishedOperations()
  const tokens = new Map<string, Token>()
  const files = new Map<string, string>()
  const asked: TokenRequest[] = []
  const lines: string[] = []
  const planned = new Map<string, (usual: () => Answer) => Answer | Promise<Answer>>()
  let ahead = 0
  let remaining: number | undefined
  const now = () => Date.now() + ahead

  const server = createServer((request, response) => {
    void answerTo(request).then(({ status, body, headers, isProxys }) => {
      lines.push(`${request.method} ${request.url?.split('?')[0]} ${status}`)
      const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)
      const type = body === undefined ? {} : { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(text) }
      response.writeHead(status, { ...type, ...(isProxys ? {} : ofGitHub()), ...headers }).end(text)
    })
  })

  async function answerTo(request: IncomingMessage): Promise<Answer> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    // GitHub Enterprise Server has the API below a path.
    const url = new URL((request.url ?? '/').replace(/^\/api\/v3(?=\/)/, ''), 'http://fake')
    const found = operations.find(({ method, pattern }) => method === request.method && pattern.test(url.pathname))
    const usual = (): Answer => {
      try {
        if (found === undefined) throw new Refusal(404, 'Not Found')
        limited()
        const groups = Object.entries(found.pattern.exec(url.pathname)?.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)])
        const answer = carryOut(found, Object.fromEntries(groups), request.headers.authorization, bodyOf(found, Buffer.concat(chunks).toString()))
        const isAnswer = found.isAnswer.get(String(answer.status))
        if (isAnswer === undefined) throw new Error(`${found.method} ${found.path} has no published answer ${answer.status}`)
        if (!isAnswer(answer.body)) throw new Error(`not as published: ${JSON.stringify(isAnswer.errors)}`)
        return answer
      } catch (error) {
        if (error instanceof Refusal) return refusal(error.status, error.message, error.headers)
        return { status: 500, body: { message: `the fake is wrong: ${error}` } }
      }
    }
    const key = `${found?.method} ${found?.path}`
    const special = planned.get(key)
    planned.delete(key)
    return special === undefined ? usual() : special(usual)
  }

  /** https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api */
  function limited(): void {
    if (remaining === undefined) return
    const reset = String(Math.ceil(now() / 1000) + 60)
    if (remaining < 1)
      throw new Refusal(403, 'API rate limit exceeded for installation.', { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset })
    remaining--
  }

  function carryOut({ method, path }: Operation, parameters: Record<string, string>, authorization: string | undefined, body: unknown): Answer {
    switch (`${method} ${path}`) {
      case 'GET /app':
        asApp(authorization)
        return { status: 200, body: theApp() }
      case 'GET /app/installations/{installation_id}':
        asApp(authorization)
        return { status: 200, body: shown(installed(({ id }) => String(id) === parameters.installation_id)) }
      case 'GET /orgs/{org}/installation':
        asApp(authorization)
        return { status: 200, body: shown(installed(({ account }) => account.type === 'Organization' && isSame(account.login, parameters.org))) }
      case 'GET /users/{username}/installation':
        asApp(authorization)
        return { status: 200, body: shown(installed(({ account }) => account.type === 'User' && isSame(account.login, parameters.username))) }
      case 'POST /app/installations/{installation_id}/access_tokens':
        asApp(authorization)
        return createToken(
          installed(({ id }) => String(id) === parameters.installation_id),
          body as Omit<TokenRequest, 'installation'>,
        )
      case 'DELETE /installation/token':
        tokens.delete(asInstallation(authorization).text)
        return { status: 204 }
      case 'GET /installation/repositories': {
        const { token } = asInstallation(authorization)
        const repositories = token.repositories.map((one) => shownRepository(one, token.installation))
        return { status: 200, body: { total_count: repositories.length, repositories, repository_selection: token.selection } }
      }
      default:
        return contents(method, parameters, asInstallation(authorization).token, body as { content?: string })
    }
  }

  function createToken(installation: FakeInstallation, body: Omit<TokenRequest, 'installation'> = {}): Answer {
    if (installation.suspended) throw new Refusal(403, 'This installation has been suspended')
    asked.push({ installation: installation.id, ...body })
    const { repositories: names = [], repository_ids: ids = [] } = body
    // Nothing named is everything.
    const selection = names.length + ids.length === 0 ? 'all' : 'selected'
    const chosen = installation.repositories.filter(({ id, name }) => names.some((one) => isSame(one, name)) || ids.includes(id))
    if (chosen.length < new Set([...names.map((name) => name.toLowerCase()), ...ids]).size)
      throw new Refusal(422, 'There is at least one repository that does not exist or is not accessible to the parent installation.')
    const permissions = Object.keys(body.permissions ?? {}).length === 0 ? installation.permissions : { ...body.permissions, metadata: 'read' }
    for (const [name, level] of Object.entries(permissions))
      if (LEVELS.indexOf(level) > LEVELS.indexOf(installation.permissions[name] ?? ''))
        throw new Refusal(422, 'The permissions requested are not granted to this installation.')
    const text = `ghs_${randomBytes(27).toString('base64url')}`
    const expiresAt = Math.floor((now() + HOUR_MS) / 1000) * 1000
    const repositories = selection === 'all' ? installation.repositories : chosen
    tokens.set(text, { installation, repositories, permissions, selection, expiresAt })
    const told = selection === 'all' ? {} : { repositories: chosen.map((one) => shownRepository(one, installation)) }
    const expires_at = new Date(expiresAt).toISOString().replace('.000Z', 'Z')
    return { status: 201, body: { token: text, expires_at, permissions, repository_selection: selection, ...told } }
  }

  /** Something for the holder of a token to do. */
  function contents(method: string, { owner = '', repo = '', path = '' }: Record<string, string>, token: Token, body: { content?: string }): Answer {
    const { installation, repositories, permissions } = token
    const reachable = isSame(owner, installation.account.login) && repositories.some(({ name }) => isSame(name, repo))
    if (!reachable) throw new Refusal(404, 'Not Found')
    const key = `${repo}/${path}`.toLowerCase()
    if (LEVELS.indexOf(permissions.contents ?? '') < (method === 'PUT' ? 2 : 1)) throw new Refusal(403, 'Resource not accessible by integration')
    if (method === 'GET') return { status: 200, body: { path, content: files.get(key) ?? '' } }
    const status = files.has(key) ? 200 : 201
    files.set(key, String(body.content))
    return { status, body: { content: { path } } }
  }

  /** https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app */
  function asApp(authorization = ''): void {
    const jwt = /^bearer ([\w-]+)\.([\w-]+)\.([\w-]+)$/i.exec(authorization)
    if (jwt === null) throw new Refusal(401, 'A JSON web token could not be decoded')
    const [, header = '', payload = '', signature = ''] = jwt
    const { alg } = JSON.parse(Buffer.from(header, 'base64url').toString())
    const isSigned = verify('RSA-SHA256', Buffer.from(`${header}.${payload}`), publicKey, Buffer.from(signature, 'base64url'))
    if (alg !== 'RS256' || !isSigned) throw new Refusal(401, 'A JSON web token could not be decoded')
    const { iss, iat, exp } = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const seconds = now() / 1000
    if (!(Number(iat) <= seconds))
      throw new Refusal(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
    if (!(Number(exp) > seconds)) throw new Refusal(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time")
    if (!(Number(exp) <= seconds + MAX_JWT_SECONDS)) throw new Refusal(401, "'Expiration time' claim ('exp') is too far in the future")
    if (String(iss) !== String(appId) && iss !== clientId) throw new Refusal(404, 'Integration not found')
  }

  function asInstallation(authorization = ''): { text: string; token: Token } {
    const [, text] = /^(?:token|bearer) (\S+)$/i.exec(authorization) ?? []
    if (text === undefined) throw new Refusal(401, 'Requires authentication')
    const token = tokens.get(text)
    if (token === undefined || token.expiresAt <= now()) throw new Refusal(401, 'Bad credentials')
    return { text, token }
  }

  function installed(is: (one: FakeInstallation) => boolean): FakeInstallation {
    const found = installations.find(is)
    if (found === undefined) throw new Refusal(404, 'Not Found')
    return found
  }

  function theApp(): unknown {
    const owner = { login: 'acme', id: 1, type: 'Organization' }
    const [at, page] = [new Date(0).toISOString(), 'https://github.com/apps/fake']
    const about = { node_id: 'A_', name: 'Fake', description: '', external_url: page, html_url: page, created_at: at, updated_at: at, events: [] }
    return { id: appId, slug: 'fake', client_id: clientId, owner, ...about, permissions: installations[0]?.permissions ?? {} }
  }

  function shown({ id, account, permissions, suspended }: FakeInstallation): unknown {
    const [at, page] = [new Date(0).toISOString(), `https://github.com/settings/installations/${id}`]
    const urls = { access_tokens_url: page, html_url: page, repositories_url: page }
    const target = { app_id: appId, app_slug: 'fake', client_id: clientId, target_id: account.id, target_type: account.type }
    const gone = { suspended_at: suspended ? at : null, suspended_by: null }
    const rest = { single_file_name: null, repository_selection: 'selected', events: [], created_at: at, updated_at: at }
    return { id, account, permissions, ...target, ...urls, ...rest, ...gone }
  }

  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    host: HOST,
    port,
    apiUrl: `http://${HOST}:${port}`,
    asked,
    live: () => [...tokens].filter(([, { expiresAt }]) => expiresAt > now()).map(([text]) => text),
    setAhead(ms) {
      ahead = ms
    },
    limit(left) {
      remaining = left
    },
    next: (operation, answer) => void planned.set(operation, answer),
    log: () => lines.join('\n'),
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export function refusal(status: number, message: string, headers: OutgoingHttpHeaders = {}): Answer {
  return { status, headers, body: { message, documentation_url: DOCS, status: String(status) } }
}

/** On every answer of GitHub's own. */
function ofGitHub(): OutgoingHttpHeaders {
  const id = randomBytes(14).toString('hex').toUpperCase()
  return { server: 'github.com', 'x-github-media-type': 'github.v3; format=json', 'x-github-request-id': `${id.slice(0, 4)}:${id.slice(4)}` }
}

function shownRepository({ id, name }: FakeRepository, { account }: FakeInstallation) {
  return { id, name, full_name: `${account.login}/${name}`, private: true }
}

function isSame(one: string, other = ''): boolean {
  return one.toLowerCase() === other.toLowerCase()
}

function bodyOf({ isBody }: Operation, text: string): unknown {
  if (text === '') return undefined
  try {
    const body: unknown = JSON.parse(text)
    if (isBody?.(body) === false) throw new Refusal(422, 'Invalid request.')
    return body
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(400, 'Problems parsing JSON')
  }
}

interface Published {
  readonly paths: Record<string, Record<string, { parameters: Parameter[]; requestBody?: unknown; responses: Record<string, { schema?: unknown }> }>>
}
interface Parameter {
  readonly name: string
  readonly in: string
  readonly schema: { readonly type: string }
  readonly 'x-multi-segment'?: boolean
}

function publishedOperations(): Operation[] {
  const document = JSON.parse(readFileSync(join(import.meta.dirname, 'published', 'github.json'), 'utf8')) as Published
  const ajv = new Ajv({ strict: false })
  formats.default(ajv)
  ajv.addSchema({ ...document, $id: 'published:github' })
  const at = (...parts: string[]) =>
    ajv.compile({ $ref: `published:github#/${parts.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}` })
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters, requestBody, responses }]) => ({
      method: method.toUpperCase(),
      path,
      pattern: patternOf(path, parameters),
      isBody: requestBody ? at('paths', path, method, 'requestBody', 'content', 'application/json', 'schema') : undefined,
      isAnswer: new Map(
        Object.entries(responses).map(([status, { schema }]) => [
          status,
          schema === undefined ? ajv.compile({}) : at('paths', path, method, 'responses', status, 'schema'),
        ]),
      ),
    })),
  )
}

function patternOf(path: string, parameters: readonly Parameter[]): RegExp {
  const text = path.replace(/\{(\w+)\}/g, (_whole, name: string) => {
    const parameter = parameters.find((one) => one.name === name && one.in === 'path')
    return `(?<${name}>${parameter?.['x-multi-segment'] ? '.+' : parameter?.schema.type === 'integer' ? '\\d+' : '[^/]+'})`
  })
  return new RegExp(`^${text}$`)
}
