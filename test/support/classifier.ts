import { createHmac, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What the service of a test was asked, as it came. */
export interface Asked {
  readonly headers: IncomingMessage['headers']
  readonly body: string
  // biome-ignore lint/suspicious/noExplicitAny: tests read questions as any service would
  readonly data: any
}
/** An answer of 200 with this JSON, or with this text; another status; never; or undefined, where it answered by itself. */
type Answer = (data: Asked['data'], response: ServerResponse) => object | string | number | 'never' | undefined

/** A classifier that the test runs itself, and that answers as the test says: a real HTTP server, which believes nobody without a signature. */
export interface TestClassifier {
  /** YAML of `classifier:`, with more options if any. */
  yaml(more?: string): string
  readonly env: Record<string, string>
  /** Every question so far, the first one first. */
  readonly asked: Asked[]
  /** What it answers from now on. */
  answer: Answer
  stop(): Promise<void>
}

export async function startClassifier(): Promise<TestClassifier> {
  const key = randomBytes(32)
  const asked: Asked[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += chunk))
    request.on('end', () => {
      if (!isSigned(request.headers, body, key)) return void response.writeHead(401).end()
      const { data } = JSON.parse(body)
      asked.push({ headers: request.headers, body, data })
      const answer = classifier.answer(data, response)
      if (answer === undefined || answer === 'never') return
      if (typeof answer === 'number') return void response.writeHead(answer).end('{"intent":"incident-triage","confidence":1}')
      response.writeHead(200, { 'content-type': 'application/json' }).end(typeof answer === 'string' ? answer : JSON.stringify(answer))
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const classifier: TestClassifier = {
    yaml: (more) => {
      const options = ['url: env:CLASSIFIER_URL', 'secret: env:CLASSIFIER_SECRET', 'allow_http_loopback: true', ...(more ? [more] : [])]
      return `classifier: {${options.join(', ')}}`
    },
    env: {
      CLASSIFIER_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/classify`,
      CLASSIFIER_SECRET: `whsec_${key.toString('base64')}`,
    },
    asked,
    answer: () => ({ intent: 'unclassified', confidence: 0 }),
    async stop() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
  return classifier
}

/** Standard Webhooks, written down here once more: what the broker signs is not checked by the broker's own code. */
function isSigned(headers: IncomingMessage['headers'], body: string, key: Buffer): boolean {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature } = headers
  if (Math.abs(Number(timestamp) - Date.now() / 1000) > 60) return false
  return signature === `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
}
