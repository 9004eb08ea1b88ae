import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import type { Access } from './access.js'
import { asProviderError, refusal, type Status, statusOf } from './error.js'

/**
 * The five calls of the Kubernetes API that Mayfly makes, over undici. Not `@kubernetes/client-node`: its 2.x does not load on Node 20, and
 * its errors carry whole answers, tokens included.
 */
export interface Api {
  /** @returns the new Secret's uid; undefined: there is one of that name already */
  createSecret(time: Deadline, namespace: string, secret: NewSecret): Promise<string | undefined>
  /** A token that lives no longer than this very Secret does. `undefined`: the Secret is gone, or is another. */
  requestToken(time: Deadline, namespace: string, account: string, ask: TokenAsk): Promise<Token | undefined>
  deleteSecret(time: Deadline, namespace: string, name: string, uid?: string): Promise<'gone' | 'absent' | 'kept'>
  /** One page; `next` where there is another. */
  listSecrets(time: Deadline, namespace: string, query: ListQuery): Promise<Page>
  may(time: Deadline, action: Action): Promise<boolean>
  close(): Promise<void>
}
export interface NewSecret {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}
export interface TokenAsk {
  readonly secret: { readonly name: string; readonly uid: string }
  readonly seconds: number
  readonly audiences?: readonly string[]
}
export type Token = z.infer<typeof token>['status']
export interface ListQuery {
  readonly labels?: string
  readonly name?: string
  readonly continue?: string
}
export interface Page {
  readonly items: z.infer<typeof secrets>['items']
  readonly next?: string
}
export interface Action {
  readonly namespace: string
  readonly verb: string
  readonly resource: string
  readonly subresource?: string
  readonly name?: string
}

const made = z.object({ kind: z.literal('Secret'), metadata: z.object({ uid: z.string().min(1) }) })
const token = z.object({
  kind: z.literal('TokenRequest'),
  status: z.object({ token: z.string().min(1), expirationTimestamp: z.iso.datetime({ offset: true }) }),
})
/** The Secret itself is answered where something, such as a finalizer, keeps it. */
const deleted = z.object({ kind: z.enum(['Status', 'Secret']) })
const secrets = z.object({
  metadata: z.object({ continue: z.string().optional() }),
  items: z.array(z.object({ metadata: z.object({ name: z.string(), annotations: z.record(z.string(), z.string()).optional() }) })),
})
const review = z.object({ status: z.object({ allowed: z.boolean() }) })

const PAGE = 250
const LARGEST_ANSWER = 8_388_608
/** An unknown or doubled field is an error and not a warning: https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation */
const STRICT = { fieldValidation: 'Strict', fieldManager: 'mayfly' }

export async function openApi(access: Access, limits: { timeoutMs: number; connections: number }): Promise<Api> {
  const { Agent, request } = await import('undici')
  const { timeoutMs, connections } = limits
  const { ca, cert, key, servername } = access
  const dispatcher = new Agent({
    connections,
    connect: { ca, cert, key, servername, timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: LARGEST_ANSWER,
  })
  const base = access.server.replace(/\/+$/, '')

  /** One attempt, no redirects. @throws ProviderError for every answer whose status is not among `expected` */
  const call = async <T>(time: Deadline, ask: Ask<T>): Promise<Answer<T>> => {
    const url = new URL(`${base}/${ask.path.map(encodeURIComponent).join('/')}`)
    for (const [name, value] of Object.entries(ask.query ?? {})) if (value !== undefined) url.searchParams.set(name, value)
    try {
      return await within(time, async (signal) => {
        const bearer = await access.token?.()
        const headers = {
          accept: 'application/json',
          'user-agent': 'mayfly',
          ...(ask.body !== undefined && { 'content-type': 'application/json' }),
          ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
        }
        const body = ask.body === undefined ? undefined : JSON.stringify(ask.body)
        // The server's own end of it, from its arrival: what waits in the server's queues is not carried out later.
        url.searchParams.set('timeout', `${time.left()}ms`)
        const answer = await request(url, { method: ask.method, headers, body, dispatcher, signal })
        const text = await answer.body.text()
        const parsed = jsonOf(text)
        const status = answer.statusCode
        if (status >= 200 && status < 300) return { yes: shaped(ask.shape, parsed) }
        const said = statusOf(parsed)
        // Whoever else answers 404, such as a proxy before the API server, says nothing of what is there.
        if (said !== undefined && ask.expected?.includes(status)) return { status, said }
        throw refusal(status, said)
      })
    } catch (error) {
      throw asProviderError(error)
    }
  }
  const core = (namespace: string, ...rest: string[]) => ['api', 'v1', 'namespaces', namespace, ...rest]

  return {
    async createSecret(time, namespace, { name, labels, annotations }) {
      const body = { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', immutable: true, metadata: { name, namespace, labels, annotations } }
      const answer = await call(time, { method: 'POST', path: core(namespace, 'secrets'), query: STRICT, body, shape: made, expected: [409] })
      return 'yes' in answer ? answer.yes.metadata.uid : undefined
    },

    async requestToken(time, namespace, account, { secret, seconds, audiences }) {
      const boundObjectRef = { apiVersion: 'v1', kind: 'Secret', ...secret }
      const spec = { expirationSeconds: seconds, boundObjectRef, audiences: audiences ?? [] }
      const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec }
      const path = core(namespace, 'serviceaccounts', account, 'token')
      const answer = await call(time, { method: 'POST', path, query: STRICT, body, shape: token, expected: [404, 409] })
      if ('yes' in answer) return answer.yes.status
      if (answer.said.details?.name === secret.name) return undefined
      throw new ProviderError('refused', `there is no service account "${account}" in namespace "${namespace}"`)
    },

    async deleteSecret(time, namespace, name, uid) {
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', ...(uid !== undefined && { preconditions: { uid } }) }
      const answer = await call(time, { method: 'DELETE', path: core(namespace, 'secrets', name), body, shape: deleted, expected: [404, 409] })
      if ('yes' in answer) return answer.yes.kind === 'Status' ? 'gone' : 'kept'
      if (answer.said.details?.name === name && (answer.status === 404 || uid !== undefined)) return 'absent'
      throw refusal(answer.status, answer.said)
    },

    async listSecrets(time, namespace, query) {
      const asked = {
        limit: String(PAGE),
        labelSelector: query.labels,
        fieldSelector: query.name === undefined ? undefined : `metadata.name=${query.name}`,
        continue: query.continue,
      }
      const answer = await call(time, { method: 'GET', path: core(namespace, 'secrets'), query: asked, shape: secrets, expected: [410] })
      if ('yes' in answer) return { items: answer.yes.items, next: answer.yes.metadata.continue || undefined }
      // The 410 carries a token that goes on with what is there now, which is all that a look through it needs.
      const again = answer.said.metadata?.continue
      if (again === undefined || again === query.continue) throw refusal(answer.status, answer.said)
      return { items: [], next: again }
    },

    async may(time, { namespace, verb, resource, subresource, name }) {
      const resourceAttributes = { namespace, verb, resource, subresource, name }
      const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } }
      const path = ['apis', 'authorization.k8s.io', 'v1', 'selfsubjectaccessreviews']
      const answer = await call(time, { method: 'POST', path, query: STRICT, body, shape: review })
      return 'yes' in answer && answer.yes.status.allowed
    },

    close: () => dispatcher.destroy(),
  }
}

interface Ask<T> {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: readonly string[]
  readonly query?: Readonly<Record<string, string | undefined>>
  readonly body?: object
  readonly shape: z.ZodType<T>
  /** Refusals that are an answer. */
  readonly expected?: readonly number[]
}
type Answer<T> = { readonly yes: T } | { readonly status: number; readonly said: Status }

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function shaped<T>(shape: z.ZodType<T>, value: unknown): T {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  throw new ProviderError('broken', 'the API server answered with what cannot be read')
}
