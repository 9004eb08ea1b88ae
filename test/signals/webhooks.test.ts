import { createHmac, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const key = randomBytes(32)
/** What a receiver was sent, and what it answers next: a status, a redirect, or never. */
interface Got {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}
type Reply = number | 'redirect' | 'never'

let redis: TestRedis
let receiver: Server
let test: TestBroker
let got: Got[]
let replies: Reply[]

beforeAll(async () => {
  receiver = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += chunk))
    request.on('end', () => {
      got.push({ path: request.url ?? '', headers: request.headers, body })
      const reply = replies.shift() ?? 204
      if (reply === 'never') return
      if (reply === 'redirect') response.setHeader('location', '/elsewhere')
      response.writeHead(reply === 'redirect' ? 307 : reply).end()
    })
  })
  await new Promise<void>((done) => receiver.listen(0, '127.0.0.1', done))
  redis = await startRedis()
  const { port } = receiver.address() as AddressInfo
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    more: `approvals: {webhooks: [{url: env:HOOK, secret: env:HOOK_SECRET, allow_http_loopback: true}, {url: "https://127.0.0.1:${port}/private", secret: env:HOOK_SECRET}]}`,
    env: { HOOK: `http://127.0.0.1:${port}/hook/T0KEN`, HOOK_SECRET: `whsec_${key.toString('base64')}` },
    roles:
      '  api-write: {provider: tokens, access: write, sensitivity: restricted, max_ttl: 5m, scope: {table: equal, rows: set}, params: {audience: "https://reports.example"}}',
  })
}, 60_000)
beforeEach(() => {
  got = []
  replies = []
})
afterAll(async () => {
  await test?.stop()
  receiver?.closeAllConnections()
  receiver?.close()
  await redis?.stop()
})

const ask = async (more: object = {}) => {
  const task = await test.openTask({ envelope: [{ role: 'api-write' }] })
  const { status, body } = await test.call('POST', '/v1/leases', await test.token('triage'), { task, role: 'api-write', ...more })
  expect(status).toBe(202)
  return body.approval
}
const oneGot = (count = 1) => waitFor(`${count} requests`, () => (got.length >= count ? got : undefined))

describe('humans are told', () => {
  it('by a signed POST that Slack shows too, and again of what was decided', async () => {
    const approval = await ask()
    const [first] = await oneGot()
    if (!first) throw new Error('nothing came')
    const { headers, body, path } = first
    expect(path).toBe('/hook/T0KEN')
    const [id, timestamp] = [headers['webhook-id'], headers['webhook-timestamp']]
    expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`)
    expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(30)
    const told = JSON.parse(body)
    expect(told).toMatchObject({
      type: 'approval.asked',
      data: { approval: approval.id, agent: 'triage', role: 'api-write', owner: 'sre@example.com' },
    })
    expect(told.text).toContain(`mayfly approve ${approval.id}`)

    await test.call('POST', `/v1/approvals/${approval.id}/approve`, await test.token('oncall'), {})
    const [, second] = await oneGot(2)
    expect(JSON.parse(second?.body ?? '')).toMatchObject({ type: 'approval.granted', data: { decided_by: 'oncall' } })
    expect(second?.headers['webhook-id']).not.toBe(id)
  })

  it('and whatever the agent says is marked as its own, and neither markup, link nor a line of its own', async () => {
    await ask({ reason: '<!channel> see <https://evil.example|the runbook> & http://evil.example \u202eevorppa' })
    const [first] = await oneGot()
    const text: string = JSON.parse(first?.body ?? '').text
    const line = text.split('\n').find((one) => one.includes('runbook'))
    expect(line).toMatch(/^The agent says \(nobody has checked it\): "/)
    expect(text).not.toMatch(/[<>\u202e]|:\/\//)
    expect(line).toContain('&lt;!channel&gt;')
  })

  it('of what they would consent to: its limits, which the agent chose, and for whom', async () => {
    const scope = { table: 'orders\u202efor 1 s <!here>', rows: ['a', 'b'] }
    await ask({ scope, tool: 'psql', destination: 'https://evil.example' })
    const [first] = await oneGot()
    const lines: string[] = JSON.parse(first?.body ?? '').text.split('\n')
    expect(lines).toContain('Limited to: table = orders for 1 s &lt;!here&gt;; rows = a, b')
    expect(lines).toContain('The agent says (nobody has checked it): "tool: psql; to: https[:]//evil.example"')
    await ask({ scope: { rows: Array.from({ length: 64 }, (_, n) => `some-row-${n}`) } })
    const [, second] = await oneGot(2)
    expect(JSON.parse(second?.body ?? '').text).toMatch(/^Limited to: rows = some-row-0, .*… \(all of it: mayfly approvals\)$/m)
  })

  it('again under the same id until the receiver takes it, and no redirect is followed', async () => {
    replies = [500, 'redirect']
    await ask()
    const all = await oneGot(3)
    expect(new Set(all.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(all.map(({ path }) => path)).toEqual(['/hook/T0KEN', '/hook/T0KEN', '/hook/T0KEN'])
  })

  it('without anybody waiting for it, and without its address in a log', async () => {
    replies = ['never', 'never', 'never', 'never']
    const started = performance.now()
    await Promise.all(Array.from({ length: 8 }, () => ask()))
    expect(performance.now() - started).toBeLessThan(4_000)
    await oneGot(4)
    expect(test.logs.join('\n')).not.toMatch(/T0KEN|whsec_/)
  })

  it('at no address that was not meant: loopback only where the configuration allows it', async () => {
    await waitFor(
      'the other one to be given up',
      () => test.logs.some((line) => line.includes('a webhook was failed') && line.includes('"hook":1')),
      60_000,
    )
    expect(got.filter(({ path }) => path === '/private')).toEqual([])
  }, 70_000)
})
