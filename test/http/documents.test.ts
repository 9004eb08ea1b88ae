import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { pino } from 'pino'
import { MayflyError } from '../../src/errors.js'
import { createApp } from '../../src/http/app.js'
import { type Listening, listen } from '../../src/http/listen.js'
import { describe as describeRoutes } from '../../src/http/openapi.js'
import { ROUTES } from '../../src/http/routes/index.js'
import type { AppOptions } from '../../src/http/surroundings.js'
import { type Provider, ProviderError, type PublishedDocument } from '../../src/providers/provider.js'
import { createUpstream } from '../../src/upstream.js'
import { checkAnswer, routeOf } from '../support/answers.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** What providers publish, read by whoever checks their credentials: strangers, who must cost next to nothing. */

const TIMEOUT_MS = 400
const ALL_OCTETS = Buffer.from(Array.from({ length: 256 }, (_, octet) => octet))

let redis: TestRedis
let test: TestBroker
let crl: Source
let listening: Listening[]
let logged: string[]

/** A document whose every read is counted, and can be held, or fail. */
interface Source extends PublishedDocument {
  reads: number
  content: Buffer
  answer: () => Promise<void>
}
function source(name: string, contentType: string, content: Buffer): Source {
  return {
    name,
    contentType,
    reads: 0,
    content,
    answer: () => Promise.resolve(),
    async read() {
      this.reads++
      await this.answer()
      return this.content
    },
  }
}

function authority(documents: readonly PublishedDocument[] | undefined): Provider {
  return {
    type: 'authority',
    revocation: 'deny-policy',
    residualSeconds: 10,
    inProcess: false,
    handle: 'planned',
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,
    documents,
    plan: () => ({}),
    mint: () => Promise.reject(new ProviderError('invalid', 'this provider mints nothing')),
    revoke: () => Promise.resolve('absent'),
    check: () => Promise.resolve(),
    close: () => Promise.resolve(),
  }
}

/** The real app, on a house whose upstreams are these. */
async function start(upstreams: Readonly<Record<string, Provider>>, surface: AppOptions['surface'] = 'public'): Promise<string> {
  const opened = Object.entries(upstreams).map(
    ([name, provider]) => [name, createUpstream(provider, { name, concurrency: 1, timeoutMs: TIMEOUT_MS })] as const,
  )
  const house = { ...test.broker.house(), upstreams: new Map(opened) }
  const app = createApp({
    house: () => house,
    identity: test.broker.identity,
    signer: () => undefined,
    agents: () => [],
    simulate: () => Promise.reject(new Error('nothing is simulated here')),
    history: () => Promise.reject(new Error('nothing is recorded here')),
    log: pino({ level: 'info' }, { write: (line: string) => logged.push(line) }),
    surface,
    trustProxy: [],
    requestsPerSecond: 1,
    isDraining: () => false,
    isReady: () => true,
  })
  const started = await listen(app, { host: '127.0.0.1', port: 0 })
  listening.push(started)
  return started.url
}

async function get(url: string, headers: Record<string, string> = {}, method = 'GET') {
  const answer = await fetch(url, { method, headers })
  const body = Buffer.from(await answer.arrayBuffer())
  return { status: answer.status, headers: answer.headers, body }
}

/** A refusal, checked against what OpenAPI says of it. */
async function refusal(url: string) {
  const { status, headers, body } = await get(url)
  const problem = JSON.parse(body.toString())
  checkAnswer(routeOf('GET', '/v1/providers/any/thing'), { status, headers, body: problem })
  return { status, code: problem.code, headers, text: body.toString() }
}

beforeAll(async () => {
  redis = await startRedis()
  test = await startTestBroker({ redisSocket: redis.socketPath })
})
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})
beforeEach(() => {
  crl = source('crl.der', 'application/pkix-crl', ALL_OCTETS)
  listening = []
  logged = []
})
afterEach(() => Promise.all(listening.map((one) => one.close(0))))

describe('a published document', () => {
  it('is served to anybody, octet for octet, as what it is', async () => {
    const url = await start({ ca: authority([source('ca.pub', 'text/plain; charset=utf-8', Buffer.from('ssh-ed25519 ü\n')), crl]) })
    const answer = await get(`${url}/v1/providers/ca/crl.der`)
    expect(answer.status).toBe(200)
    expect(answer.body.equals(ALL_OCTETS)).toBe(true)
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'application/pkix-crl',
      'content-length': '256',
      'cache-control': 'max-age=5',
      'x-content-type-options': 'nosniff',
      'x-request-id': expect.any(String),
    })
    const other = await get(`${url}/v1/providers/ca/ca.pub`)
    expect(other.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(other.body.toString()).toBe('ssh-ed25519 ü\n')
    expect(JSON.stringify(logged)).not.toContain('crl.der')
  })

  it('may be empty', async () => {
    crl.content = Buffer.alloc(0)
    const answer = await get(`${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`)
    expect({ status: answer.status, length: answer.headers.get('content-length'), body: answer.body.length }).toEqual({
      status: 200,
      length: '0',
      body: 0,
    })
  })

  it('has only its head told when only that is asked for', async () => {
    const answer = await get(`${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`, {}, 'HEAD')
    expect(answer).toMatchObject({ status: 200, body: Buffer.alloc(0) })
    expect(answer.headers.get('content-length')).toBe('256')
    expect(answer.headers.get('etag')).toMatch(/^"[\w-]{43}"$/)
  })

  it('is not sent again to who has it, until it changes', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    const etag = (await get(url)).headers.get('etag') ?? ''
    for (const known of [etag, `W/${etag}`, `"another", ${etag}`, '*']) {
      const answer = await get(url, { 'if-none-match': known })
      expect({ known, status: answer.status, length: answer.body.length }).toEqual({ known, status: 304, length: 0 })
      expect(answer.headers.get('etag')).toBe(etag)
      expect(answer.headers.get('cache-control')).toBe('max-age=5')
      expect(answer.headers.has('content-length')).toBe(false)
    }
    for (const other of ['"another"', etag.slice(1, -1), '']) expect((await get(url, { 'if-none-match': other })).status).toBe(200)

    crl.content = Buffer.from('another')
    const changed = await waitFor('the change to be seen', async () => {
      const answer = await get(url, { 'if-none-match': etag })
      return answer.status === 200 ? answer : undefined
    })
    expect(changed.body.toString()).toBe('another')
    expect(changed.headers.get('etag')).not.toBe(etag)
  })

  it('is read once, however many ask while it is read, and once a second', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    let release: () => void = () => {}
    crl.answer = () => new Promise((resolve) => (release = resolve))
    const asking = Array.from({ length: 50 }, () => get(url))
    await waitFor('the read to begin', () => crl.reads > 0)
    release()
    expect((await Promise.all(asking)).map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200))
    expect(crl.reads).toBe(1)
    crl.answer = () => Promise.resolve()
    const begun = performance.now()
    for (let n = 0; n < 50; n++) await get(url)
    expect(crl.reads).toBeLessThanOrEqual(1 + Math.ceil((performance.now() - begun) / 1_000))
    await waitFor('another look', async () => (await get(url)) && crl.reads > 1)
  })

  it('is of its own provider, and of each by itself', async () => {
    const other = source('crl.der', 'application/pkix-crl', Buffer.from('of another'))
    const url = await start({ one: authority([crl]), two: authority([other]) })
    expect((await get(`${url}/v1/providers/one/crl.der`)).body.length).toBe(256)
    expect((await get(`${url}/v1/providers/two/crl.der`)).body.toString()).toBe('of another')
  })
})

describe('what is not published', () => {
  it('is not there, and no provider is asked for it', async () => {
    const url = await start({ ca: authority([crl]), none: authority(undefined), '../x': authority([crl]) })
    for (const path of [
      'ca/other',
      'ca/CRL.DER',
      'ca/__proto__',
      'ca/crl.der%00',
      'ca/..%2fca%2fcrl.der',
      'none/crl.der',
      'nobody/crl.der',
      'constructor/name',
      `ca/${'x'.repeat(4_000)}`,
    ])
      expect({ path, ...(await refusal(`${url}/v1/providers/${path}`)) }).toMatchObject({ path, status: 404, code: 'not_found' })
    for (const path of ['ca', 'ca/', 'ca/crl.der/', 'ca/crl.der/more', '']) {
      const { status, body } = await get(`${url}/v1/providers/${path}`)
      expect({ path, status, code: JSON.parse(body.toString()).code }).toEqual({ path, status: 404, code: 'not_found' })
    }
    expect(crl.reads).toBe(0)
  })

  it('takes no query, no body and no other method', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    expect(await refusal(`${url}?x=1`)).toMatchObject({ status: 422 })
    for (const method of ['POST', 'PUT', 'DELETE']) expect((await get(url, {}, method)).status).toBe(405)
    expect(crl.reads).toBe(0)
  })

  it('is not on the operators’ and the metrics’ listeners', async () => {
    for (const surface of ['operator', 'metrics'] as const)
      expect((await get(`${await start({ ca: authority([crl]) }, surface)}/v1/providers/ca/crl.der`)).status).toBe(404)
    expect((await get(`${await start({ ca: authority([crl]) }, 'all')}/v1/providers/ca/crl.der`)).status).toBe(200)
  })
})

describe('a document that cannot be read', () => {
  it('is a 503 that says nothing of why, for a second; then it is looked at again', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    crl.answer = () => Promise.reject(new TypeError('s3cret-canary'))
    const begun = performance.now()
    for (let n = 0; n < 20; n++) {
      const answer = await refusal(url)
      expect(answer).toMatchObject({ status: 503, code: 'document_unavailable' })
      expect(answer.headers.get('retry-after')).toBe('1')
      expect(answer.text).not.toContain('s3cret')
    }
    expect(crl.reads).toBeLessThanOrEqual(1 + Math.floor((performance.now() - begun) / 1_000))
    expect(logged.join()).not.toContain('s3cret')
    crl.answer = () => Promise.resolve()
    await waitFor('it to be served again', async () => (await get(url)).status === 200)
  })

  it('tells the provider’s own words to the log alone', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    crl.answer = () => Promise.reject(new ProviderError('unreachable', 'the register cannot be read'))
    expect((await refusal(url)).text).not.toContain('register')
    expect(logged.join()).toContain('the register cannot be read')
  })

  it('says that it is the ledger where it is', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    crl.answer = () => Promise.reject(new MayflyError('ledger_unavailable', 'the ledger is unavailable'))
    expect(await refusal(url)).toMatchObject({ status: 503, code: 'ledger_unavailable' })
  })

  it('keeps nobody waiting longer than a call to its upstream may take', async () => {
    const url = `${await start({ ca: authority([crl]) })}/v1/providers/ca/crl.der`
    crl.answer = () => new Promise(() => {})
    const answers = await Promise.all(Array.from({ length: 10 }, () => refusal(url)))
    for (const answer of answers) expect(answer).toMatchObject({ status: 503, code: 'document_unavailable' })
    expect(crl.reads).toBe(1)
  })
})

it('is in the description as what it is', () => {
  const { get: operation } = JSON.parse(JSON.stringify(describeRoutes(ROUTES))).paths['/v1/providers/{provider}/{document}']
  expect(operation.security).toEqual([])
  expect(operation.parameters).toEqual([
    { name: 'provider', in: 'path', required: true, schema: { type: 'string' } },
    { name: 'document', in: 'path', required: true, schema: { type: 'string' } },
  ])
  expect(operation.responses[200]).toEqual({ description: 'Done.', content: { '*/*': {} } })
  expect(operation.responses[304]).toEqual({ description: expect.any(String) })
  expect(operation.responses[404].description).toContain('`not_found`')
  expect(operation.responses[503].description).toContain('`document_unavailable`')
})
