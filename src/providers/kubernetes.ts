import { z } from 'zod'
import { type Deadline, deadline } from './deadline.js'
import { accessOf, type Options, options } from './kubernetes/access.js'
import { type Api, openApi } from './kubernetes/api.js'
import { openWay } from './kubernetes/config.js'
import { credentialOf, endOf, LEEWAY_SECONDS } from './kubernetes/credential.js'
import { type Params, params, pick, roleProblems } from './kubernetes/role.js'
import { leaseOfName, upstreamName } from './name.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const handleShape = z.object({ namespace: z.string(), secret: z.string() })

/** `MinTokenAgeSec` of the API server: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/ */
const LEAST_LIFE_SECONDS = 600
/**
 * The API server remembers for 10 s that a token was good, and looks bound Secrets up in a copy that follows etcd with a delay:
 * docs/providers/kubernetes.md has the sources.
 */
const RESIDUAL_SECONDS = 12
/** How long past its deadline a mint that failed may take to tidy up; its caller has been answered by then, and a revoke follows anyway. */
const TIDY_MS = 2000
const INSTANCE_LABEL = 'mayfly.dev/instance'
const LEASE_LABEL = 'mayfly.dev/lease'
const EXPIRY_ANNOTATION = 'mayfly.dev/expires-at'
const HUMAN_ANNOTATION = 'mayfly.dev/human'

/** A service account's token, bound to a Secret per lease whose deletion ends it. `docs/providers/kubernetes.md`. */
export const kubernetes: ProviderModule<Options, Params> = {
  type: 'kubernetes',
  options,
  params,
  secrets: ['kubeconfig', 'token'],
  checkRole: roleProblems,
  target: (options) => new URL(accessOf(options).server).host,

  async open(options, context) {
    // It is the value of a label: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(context.instance))
      throw new ProviderError('invalid', 'the instance name must begin and end with a letter or a digit for Kubernetes')
    const way = await openWay(options)
    const limits = { timeoutMs: context.timeoutMs, connections: context.concurrency }
    // Apart, so that revoking never waits for minting.
    const [minting, revoking] = await Promise.all([openApi(way, limits), openApi(way, limits)])
    const place = { server: options.agent_server ?? way.server, ca: way.tls.ca?.toString() }
    return provider(options, context, place, minting, revoking)
  },
}

function provider(
  { namespaces }: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
  place: { readonly server: string; readonly ca?: string },
  minting: Api,
  revoking: Api,
): Provider<Params> {
  return {
    type: 'kubernetes',
    revocation: 'immediate',
    residualSeconds: RESIDUAL_SECONDS,
    inProcess: false,
    handle: 'planned',
    shortestLifeSeconds: LEAST_LIFE_SECONDS + LEEWAY_SECONDS,
    // A watch or an exec that is open goes on.
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: false,

    plan: (lease, params) => ({ namespace: pick(params, lease.scope).namespace, secret: upstreamName(instance, lease.id) }),

    async mint({ lease, handle, params, issuedAt, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      const { namespace, secret: name } = handleShape.parse(handle)
      const picked = pick(params, lease.scope)
      const { audiences } = params
      inTime(until, now())
      const uid = await minting.createSecret(time, namespace, {
        name,
        labels: { [INSTANCE_LABEL]: instance, [LEASE_LABEL]: lease.id },
        annotations: {
          [EXPIRY_ANNOTATION]: new Date(expiresAt).toISOString(),
          ...(lease.human !== undefined && { [HUMAN_ANNOTATION]: lease.human.toWellFormed() }),
        },
      })
      if (uid === undefined) throw new ProviderError('refused', 'another mint of this lease is under way, or was')
      try {
        inTime(until, now())
        // The API server signs nothing for a Secret that is not there, or is another of the same name: a request that comes late, after a
        // revoke, makes nothing.
        const seconds = Math.max(LEAST_LIFE_SECONDS, Math.ceil((expiresAt - issuedAt) / 1000))
        const made = await minting.requestToken(time, namespace, picked.account, { secret: { name, uid }, seconds, audiences })
        if (made === undefined) throw new ProviderError('refused', 'the credential was taken back while it was made, so nothing was')
        const end = endOf(made)
        const credential = credentialOf({ ...place, ...picked, audiences }, made.token, Math.min(end, expiresAt))
        // --service-account-max-token-expiration makes it shorter, the least life longer.
        return { credential, ...(end < expiresAt && { expiresAt: end }), usableUntil: end + LEEWAY_SECONDS * 1000 }
      } catch (error) {
        // Nobody has its token. What stays if this fails is closed by the lease's revoke.
        await revoking.deleteSecret(deadline(TIDY_MS), namespace, name, uid).catch(() => undefined)
        throw error
      }
    },

    async revoke(handle, deadlineMs) {
      const { namespace, secret } = handleShape.parse(handle)
      const outcome = await revoking.deleteSecret(deadline(deadlineMs), namespace, secret)
      if (outcome === 'kept')
        throw new ProviderError('refused', `a finalizer keeps Secret ${namespace}/${secret}: take it off; see docs/providers/kubernetes.md`)
      return outcome === 'gone' ? 'revoked' : 'absent'
    },

    async verify(handle, deadlineMs) {
      const { namespace, secret } = handleShape.parse(handle)
      const { items } = await revoking.listSecrets(deadline(deadlineMs), namespace, { name: secret })
      return items.length === 0 ? 'dead' : 'alive'
    },

    async *list() {
      for (const namespace of namespaces) {
        let next: string | undefined
        do {
          const page = await revoking.listSecrets(deadline(timeoutMs), namespace, { labels: `${INSTANCE_LABEL}=${instance}`, continue: next })
          for (const { metadata } of page.items) {
            const lease = leaseOfName(instance, metadata.name)
            const expiresAt = Date.parse(metadata.annotations?.[EXPIRY_ANNOTATION] ?? '')
            if (lease !== undefined) yield { lease, handle: { namespace, secret: metadata.name }, ...(expiresAt > 0 && { expiresAt }) }
          }
          next = page.next
        } while (next !== undefined)
      }
    },

    async check(roles = []) {
      const missing = await missingRights(revoking, deadline(timeoutMs), namespaces, roles)
      if (missing.length > 0)
        throw new ProviderError('refused', `the broker may not ${missing.join(', nor ')}: give it the Role of docs/providers/kubernetes.md`)
    },

    async close() {
      await Promise.all([minting.close(), revoking.close()])
    },
  }
}

function inTime(until: number, now: number): void {
  if (until <= now) throw new ProviderError('timeout', 'the time for this mint was over before it began')
}

async function missingRights(
  api: Api,
  time: Deadline,
  namespaces: readonly string[],
  roles: readonly { readonly params: Params }[],
): Promise<string[]> {
  const accounts = roles.flatMap(({ params }) => params.namespace.flatMap((namespace) => params.service_account.map((name) => ({ namespace, name }))))
  const asked = [
    ...namespaces.flatMap((namespace) => ['create', 'delete', 'list'].map((verb) => ({ namespace, verb, resource: 'secrets' }))),
    ...accounts.map((account) => ({ ...account, verb: 'create', resource: 'serviceaccounts', subresource: 'token' })),
  ]
  const answers = await Promise.all(asked.map(async (action) => ({ action, allowed: await api.may(time, action) })))
  return answers
    .filter(({ allowed }) => !allowed)
    .map(({ action: { namespace, verb, resource, ...rest } }) =>
      'name' in rest ? `${verb} ${resource}/token of "${rest.name}" in "${namespace}"` : `${verb} ${resource} in "${namespace}"`,
    )
}
