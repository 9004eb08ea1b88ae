import type { ConfigurationOptions } from '@kubernetes/client-node'
import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import type { Way } from './config.js'
import { Refused, refusal, type Status } from './error.js'
import { type Limits, openTransport } from './transport.js'

/** The five calls of the Kubernetes API that Mayfly makes, by its client library over an HTTP library of ours. */
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
  status: z.object({ token: z.string().min(1), expirationTimestamp: z.date() }),
})
/** The Secret itself is answered where something, such as a finalizer, keeps it. */
const deleted = z.object({ kind: z.enum(['Status', 'Secret']) })
const secrets = z.object({
  metadata: z.object({ _continue: z.string().optional() }),
  items: z.array(z.object({ metadata: z.object({ name: z.string(), annotations: z.record(z.string(), z.string()).optional() }) })),
})
const review = z.object({ status: z.object({ allowed: z.boolean() }) })

const PAGE = 250
/** An unknown or doubled field is an error and not a warning: https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation */
const STRICT = { fieldValidation: 'Strict', fieldManager: 'mayfly' }

export async function openApi({ server, tls, authentication }: Way, limits: Limits): Promise<Api> {
  const { AuthorizationV1Api, CoreV1Api, createConfiguration, ServerConfiguration, wrapHttpLibrary } = await import('@kubernetes/client-node')
  const transport = await openTransport(tls, limits)
  const configuration = createConfiguration({
    baseServer: new ServerConfiguration(new URL(server).href.replace(/\/+$/, ''), {}),
    authMethods: { default: authentication },
  })
  const core = new CoreV1Api(configuration)
  const authorization = new AuthorizationV1Api(configuration)

  /** One attempt. @throws ProviderError for every refusal whose status is not among `expected` */
  const call = async <T>(time: Deadline, shape: z.ZodType<T>, expected: readonly number[], ask: Ask): Promise<Answer<T>> => {
    try {
      return await within(time, async (signal) => {
        const httpApi = wrapHttpLibrary({ send: (request) => transport.send(request, time, signal) })
        return { yes: shape.parse(await ask({ httpApi })) }
      })
    } catch (error) {
      if (error instanceof ProviderError) throw error
      // What the library, or the look through what it made of the answer, says may quote the answer.
      if (!(error instanceof Refused))
        throw new ProviderError('broken', 'the API server answered with what cannot be read', { cause: new Error(Object(error).name) })
      const { status, said } = error
      // Whoever else answers 404, such as a proxy before the API server, says nothing of what is there.
      if (said !== undefined && expected.includes(status)) return { status, said }
      throw refusal(status, said)
    }
  }

  return {
    async createSecret(time, namespace, { name, labels, annotations }) {
      const metadata = { name, namespace, labels: { ...labels }, annotations: { ...annotations } }
      const body = { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', immutable: true, metadata }
      const answer = await call(time, made, [409], (to) => core.createNamespacedSecret({ namespace, body, ...STRICT }, to))
      return 'yes' in answer ? answer.yes.metadata.uid : undefined
    },

    async requestToken(time, namespace, account, { secret, seconds, audiences = [] }) {
      const boundObjectRef = { apiVersion: 'v1', kind: 'Secret', ...secret }
      const spec = { expirationSeconds: seconds, boundObjectRef, audiences: [...audiences] }
      const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec }
      const answer = await call(time, token, [404, 409], (to) =>
        core.createNamespacedServiceAccountToken({ name: account, namespace, body, ...STRICT }, to),
      )
      if ('yes' in answer) return answer.yes.status
      if (answer.said.details?.name === secret.name) return undefined
      throw new ProviderError('refused', `there is no service account "${account}" in namespace "${namespace}"`)
    },

    async deleteSecret(time, namespace, name, uid) {
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', ...(uid !== undefined && { preconditions: { uid } }) }
      const answer = await call(time, deleted, [404, 409], (to) => core.deleteNamespacedSecret({ name, namespace, body }, to))
      if ('yes' in answer) return answer.yes.kind === 'Status' ? 'gone' : 'kept'
      if (answer.said.details?.name === name && (answer.status === 404 || uid !== undefined)) return 'absent'
      throw refusal(answer.status, answer.said)
    },

    async listSecrets(time, namespace, { labels: labelSelector, name, continue: _continue }) {
      const fieldSelector = name === undefined ? undefined : `metadata.name=${name}`
      const asked = { namespace, limit: PAGE, labelSelector, fieldSelector, _continue }
      const answer = await call(time, secrets, [410], (to) => core.listNamespacedSecret(asked, to))
      if ('yes' in answer) return { items: answer.yes.items, next: answer.yes.metadata._continue || undefined }
      // The 410 carries a token that goes on with what is there now, which is all that a look through it needs.
      const again = answer.said.metadata?.continue
      if (again === undefined || again === _continue) throw refusal(answer.status, answer.said)
      return { items: [], next: again }
    },

    async may(time, resourceAttributes) {
      const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } }
      const answer = await call(time, review, [], (to) => authorization.createSelfSubjectAccessReview({ body, ...STRICT }, to))
      return 'yes' in answer && answer.yes.status.allowed
    },

    close: transport.close,
  }
}

/** `to`: by which HTTP library. */
type Ask = (to: ConfigurationOptions) => Promise<unknown>
type Answer<T> = { readonly yes: T } | { readonly status: number; readonly said: Status }
