import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { z } from 'zod'
import { Lease, Problem, Task } from '../../src/api.js'

/** A server that says what it is told to, in the words of `src/api.ts`, and remembers what it was asked. */
export interface Wire {
  readonly url: string
  readonly asked: Asked[]
  /** What comes next, in order; the last one stays. */
  answers(...answers: Answer[]): void
  stop(): Promise<void>
}
export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}
/** `cut`: the connection is closed without an answer. `silent`: nothing ever comes. */
export type Answer = Said | 'cut' | 'silent'
interface Said {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Record<string, string>
}

export async function startWire(): Promise<Wire> {
  const asked: Asked[] = []
  let answers: Answer[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString()
    const { method = '', url: path = '', headers } = request
    asked.push({ method, path, headers, body: text === '' ? undefined : JSON.parse(text) })
    const answer = answers.length > 1 ? answers.shift() : answers[0]
    if (answer === 'silent') return
    if (answer === undefined || answer === 'cut') {
      request.socket.destroy()
      return
    }
    const type = answer.status >= 400 ? 'application/problem+json' : 'application/json'
    response.writeHead(answer.status, { 'content-type': type, ...answer.headers })
    response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    answers(...next) {
      answers = next
    },
    stop: () =>
      new Promise((done) => {
        server.close(() => done())
        server.closeAllConnections()
      }),
  }
}

const SOON = '2030-01-01T00:00:00.000Z'
export const TASK_ID = `task_07${'a'.repeat(26)}`
export const LEASE_ID = `lease_07${'b'.repeat(26)}`

/** What is said is checked by the same schemas that the broker's answers are made by. */
export const lease = (more: Partial<z.input<typeof Lease>> = {}) =>
  Lease.parse({
    id: LEASE_ID,
    task: TASK_ID,
    agent: 'triage',
    role: 'api-token',
    provider: 'tokens',
    access: 'read',
    state: 'active',
    issued_at: SOON,
    expires_at: SOON,
    renewable_until: SOON,
    revocation: { mode: 'immediate', residual_seconds: 0 },
    scope: {},
    ...more,
  })
export const issued = (env: Record<string, string> = {}) => ({ lease: lease(), credential: { type: 'jwt', env, expires_at: SOON } })
export const task = (more: Partial<z.input<typeof Task>> = {}) =>
  Task.parse({
    id: TASK_ID,
    state: 'active',
    opened_by: { kind: 'orchestrator', id: 'flows' },
    intent: 'deploy',
    classified: true,
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: [{ agent: 'triage' }],
    envelope: [{ role: 'api-token' }],
    tools: [],
    check: 'every_call',
    labels: {},
    opened_at: SOON,
    deadline_at: SOON,
    obtained: [],
    ...more,
  })
export const problem = (status: number, code: string, more: Partial<z.input<typeof Problem>> = {}): Said => ({
  status,
  body: Problem.parse({ type: `urn:mayfly:error:${code}`, title: code, status, detail: `it is ${code}`, code, ...more }),
})
