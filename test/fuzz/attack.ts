import { connect } from 'node:net'
import fc from 'fast-check'
import { Problem } from '../../src/api.js'
import { ERRORS } from '../../src/errors.js'
import { checkAnswer, routeOf } from '../support/answers.js'
import { type TestBroker, taskRequest } from '../support/broker.js'
import { type Description, type Request, requestsOf } from './request.js'

export interface Attacked {
  readonly requests: number
  /** By status. */
  readonly answers: Readonly<Record<string, number>>
  /** `METHOD /path` that was answered as its route declares, by how many were. */
  readonly routes: Readonly<Record<string, number>>
  readonly slowest_ms: number
  /** Answers that are none of those that the broker documents, each with its request; the first of each kind. */
  readonly problems: readonly string[]
}

/** No request of any kind may take longer; those that ask to wait do, as long as they may. */
const MOST_MS = 15_000
const AT_ONCE = 8
const MOST_PROBLEMS = 20

/** Sends requests of every kind, by callers of every kind, to a broker. */
export async function attack(
  test: TestBroker,
  options: { readonly seed: number; readonly runs: number; readonly until?: number },
): Promise<Attacked> {
  const description = (await (await fetch(`${test.url}/openapi.json`)).json()) as Description
  const words = await wordsOf(test)
  const callers = await callersOf(test)
  const answers: Record<string, number> = {}
  const routes: Record<string, number> = {}
  const problems = new Map<string, string>()
  let requests = 0
  let slowest = 0
  const one = async ({ request, pick }: { request: Request; pick: number }): Promise<void> => {
    const token = callerOf(callers, request, pick)
    const started = performance.now()
    const received = await send(test.url, request, token)
    const ms = performance.now() - started
    slowest = Math.max(slowest, ms)
    requests++
    const status = received.slice(9, 12)
    answers[status] = (answers[status] ?? 0) + 1
    try {
      const served = judge(request, token, received, ms)
      if (served) routes[served] = (routes[served] ?? 0) + 1
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error)
      const said = `${request.method} ${request.path} ${JSON.stringify(request.headers)} ${request.body.toString().slice(0, 2_000)} -> ${received.slice(0, 2_000)}`
      const kind = `${request.method} ${request.path.slice(0, 12)} ${what.slice(0, 60)}`
      if (problems.size < MOST_PROBLEMS && !problems.has(kind)) problems.set(kind, `${what}: ${said}`)
    }
  }
  const some = fc.array(fc.record({ request: requestsOf(description, words), pick: fc.nat(10_000) }), {
    minLength: AT_ONCE,
    maxLength: AT_ONCE,
  })
  await fc.assert(
    fc.asyncProperty(some, async (batch) => {
      await Promise.all(batch.map(one))
    }),
    {
      ...{ seed: options.seed, numRuns: Math.ceil(options.runs / AT_ONCE), endOnFailure: true },
      ...(options.until !== undefined && { interruptAfterTimeLimit: Math.max(1, options.until - Date.now()) }),
    },
  )
  return { requests, answers, routes, slowest_ms: Math.round(slowest), problems: [...problems.values()] }
}

/** Throws where an answer is not one of those documented; answers the route that it is of. */
function judge(request: Request, token: string, received: string, ms: number): string | undefined {
  if (ms > MOST_MS) throw new Error(`it took ${Math.round(ms)} ms`)
  const [head = '', ...rest] = received.split('\r\n\r\n')
  const text = rest.join('\r\n\r\n')
  const status = Number(received.slice(9, 12))
  const headers = new Headers(
    head
      .split('\r\n')
      .slice(1)
      .flatMap((line) =>
        line.includes(':') ? [[line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as [string, string]] : [],
      ),
  )
  if (!(status >= 200 && status < 600) || status === 500) throw new Error(`an accident`)
  const signature = token.split('.')[2] ?? ''
  if ((signature.length > 20 && received.includes(signature)) || /\n\s+at \S+ \(|node_modules|\/src\/|ReplyError|user_script/.test(received))
    throw new Error(`it tells too much`)
  // No content, and where the parser refused it there was no request to speak of.
  if (request.method === 'HEAD' || status === 304) return undefined
  const isOfParser = headers.get('connection') === 'close' && headers.get('x-request-id') === null
  if (isOfParser && [400, 408, 417, 431].includes(status)) return undefined
  const content = headers.get('transfer-encoding') === 'chunked' ? wholeOf(text) : text
  const isJson = /^application\/(?:problem\+)?json$/.test(headers.get('content-type') ?? '')
  const body: unknown = content === '' ? undefined : isJson ? JSON.parse(content) : Buffer.from(content)
  const route = routeFor(request)
  // An id that holds slashes may make one path look like another of other methods.
  if (!route || status === 405) {
    const { code } = Problem.parse(body)
    if (!(code in ERRORS) || !['not_found', 'method_not_allowed', 'malformed'].includes(code)) throw new Error(`of no route`)
    return undefined
  }
  checkAnswer(route, { status, headers, body })
  return `${route.method} ${route.path} ${status}`
}

/** What was sent in chunks. */
function wholeOf(text: string): string {
  const size = Number.parseInt(text, 16)
  const from = text.indexOf('\r\n') + 2
  return size > 0 ? text.slice(from, from + size) + wholeOf(text.slice(from + size + 2)) : ''
}

function routeFor({ method, path }: Request) {
  try {
    return routeOf(method, path)
  } catch {
    return undefined
  }
}

function send(url: string, { method, path, headers, body }: Request, token: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const isChunked = headers.some(([name]) => name === 'transfer-encoding')
  const lines = [
    `${method} ${path} HTTP/1.1`,
    'host: x',
    'connection: close',
    ...(token === '' ? [] : [`authorization: ${token}`]),
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...(isChunked || (body.length === 0 && method === 'GET') ? [] : [`content-length: ${body.length}`]),
  ]
  const content = isChunked
    ? Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from(body.length > 0 ? '\r\n0\r\n\r\n' : '\r\n')])
    : body
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect(Number(port), hostname, () => {
      socket.write(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`))
      socket.write(content)
    })
    const done = () => {
      const received = Buffer.concat(chunks).toString()
      // `100 Continue` is no answer.
      const answer = received.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '')
      if (answer === '') reject(new Error(`no answer to ${method} ${path}`))
      else resolve(answer)
    }
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('error', done)
    socket.on('close', done)
  })
}

/** Names that the configuration knows, and ids of things that exist. */
async function wordsOf(test: TestBroker): Promise<string[]> {
  const agent = await test.token('triage')
  const tasks = await Promise.all(Array.from({ length: 4 }, () => test.openTask({ tools: [{ tool: 'tickets/get' }, { tool: 'tickets/create' }] })))
  const leases = await Promise.all(
    tasks.map(async (task) => (await test.call('POST', '/v1/leases', agent, { task, role: 'api-token' })).body.lease.id),
  )
  const oncall = await test.token('oncall')
  const { body } = await test.call('POST', '/v1/freezes', oncall, { selector: { agent: 'nobody' }, reason: 'fuzz' })
  const revoked = await test.call('POST', '/v1/emergency/revoke', oncall, { selector: { agent: 'nobody' }, reason: 'fuzz' })
  const { assignees: _assignees, ...request } = taskRequest()
  const opened = await test.call('POST', '/v1/tasks', agent, { ...request, envelope: [{ role: 'api-token', max_ttl: 30 }] })
  return [
    ...['triage', 'reporter', 'copy-1', 'flows', 'oncall', 'nobody', 'sre@example.com', 'test', 'tokens', 'signed', 'api-token', 'api-signed'],
    ...['incident-triage', 'deploy', 'production', 'tickets/get', 'tickets/create', 'vault/read', 'get', 'create', 'acme/app', 'internal', 'reason'],
    ...[...tasks, ...leases, opened.body.task?.id, body.freeze.id, revoked.body.revocation.id].filter((one) => typeof one === 'string'),
  ]
}

interface Caller {
  /** Its kind of principal; absent: somebody who is nobody. */
  readonly kind?: string
  /** The whole header. */
  readonly authorization: string
}

async function callersOf(test: TestBroker): Promise<Caller[]> {
  const subjects = {
    agent: ['triage', 'triage', 'copy-1'],
    orchestrator: ['flows', 'flows', 'other-flows'],
    operator: ['oncall', 'oncall', 'oncall', 'visitor'],
    gateway: ['reports-api', 'mcp-proxy'],
  }
  const known = Object.entries(subjects).flatMap(([kind, subs]) =>
    subs.map(async (sub) => ({ kind, authorization: `Bearer ${await test.token(sub, sub === 'copy-1' ? { run: 'run-1' } : {})}` })),
  )
  const token = await test.token('triage')
  const nobody = ['', 'Bearer x.y.z', `Basic ${Buffer.from('a:b').toString('base64')}`, `Bearer ${token.slice(0, -8)}AAAAAAAA`, `bearer  ${token}`]
  return [...(await Promise.all(known)), ...nobody.map((authorization) => ({ authorization }))]
}

/** Most of the time somebody who may. */
function callerOf(callers: readonly Caller[], { callers: kinds }: Request, pick: number): string {
  const may = callers.filter(({ kind }) => kind !== undefined && kinds.includes(kind))
  const from = may.length > 0 && pick % 5 > 0 ? may : callers
  return from[pick % from.length]?.authorization ?? ''
}
