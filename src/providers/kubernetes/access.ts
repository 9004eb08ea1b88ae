import { X509Certificate } from 'node:crypto'
import { isAbsolute } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import { isSafeUrl } from '../outbound.js'
import { ProviderError } from '../provider.js'

/** RFC 1123 label: what Kubernetes takes as the name of a namespace. */
export const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a name of at most 63 characters of a-z, 0-9 and -')
const address = z
  .string()
  .refine((text) => isSafeUrl(text, { allowHttpLoopback: true }), 'must be an https address without user, query and fragment (http on loopback)')

const shape = z.strictObject({
  /** The only namespaces in which roles of this provider may have their service accounts. */
  namespaces: z.array(label).min(1).max(64),
  /** A kubeconfig file's text, with everything in it. */
  kubeconfig: z.string().min(1).optional(),
  context: z.string().min(1).optional(),
  /** The broker runs in the cluster and is its own pod's service account. */
  in_cluster: z.literal(true).optional(),
  server: address.optional(),
  /** PEM of the authority that signed the API server's certificate. */
  ca: z.string().min(1).optional(),
  token: z
    .string()
    .regex(/^[\x21-\x7e]{1,16384}$/, 'must be one token')
    .optional(),
  /** Where agents reach the API server, if not where the broker does. */
  agent_server: address.optional(),
})
type Shape = z.infer<typeof shape>
export const options = shape.superRefine((value, context) => {
  try {
    accessOf(value)
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof ProviderError ? error.message : 'cannot be understood' })
  }
})
export type Options = z.infer<typeof options>

/** How the broker reaches the API server, and as whom. */
export interface Access {
  readonly server: string
  /** For the client library; without one the broker is a pod of the cluster. */
  readonly kubeconfig?: string
  /** Read anew for each call: whoever puts tokens there replaces them. */
  readonly tokenFile?: string
}

export function accessOf(options: Shape): Access {
  const { kubeconfig, context, in_cluster, server, ca, token } = options
  const ways = [kubeconfig, in_cluster, server].filter((way) => way !== undefined).length
  if (ways !== 1) throw invalid('give one of kubeconfig, in_cluster and server')
  if (context !== undefined && kubeconfig === undefined) throw invalid('context picks one of a kubeconfig: there is none')
  if (kubeconfig !== undefined && (ca ?? token) !== undefined) throw invalid('ca and token belong to server: a kubeconfig has its own')
  if (in_cluster && (ca ?? token) !== undefined) throw invalid('ca and token belong to server: a pod has its own')
  if (kubeconfig !== undefined) return fromKubeconfig(kubeconfig, context)
  // Not the address that the library takes from the environment: this name is the same for all pods, and the certificate has it.
  // https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
  if (server === undefined) return { server: 'https://kubernetes.default.svc' }
  if (token === undefined) throw invalid('server needs a token')
  certificate('ca', ca)
  return { server, kubeconfig: only({ server, 'certificate-authority-data': ca && Buffer.from(ca).toString('base64') }, { token }) }
}

const named = <T extends z.ZodType>(key: string, inner: T) => z.array(z.looseObject({ name: z.string(), [key]: inner })).default([])
/** Fields that are not named here are dropped: the library follows more than are documented, such as `token-file`. */
const cluster = z.object({
  server: address,
  'certificate-authority': z.never().optional(),
  'certificate-authority-data': z.base64().optional(),
  'insecure-skip-tls-verify': z.literal(false).optional(),
  'tls-server-name': z.string().optional(),
  'proxy-url': z.literal('').optional(),
})
const user = z.object({
  token: z.string().min(1).optional(),
  tokenFile: z.string().optional(),
  'client-certificate': z.never().optional(),
  'client-certificate-data': z.base64().optional(),
  'client-key': z.never().optional(),
  'client-key-data': z.base64().optional(),
  username: z.never().optional(),
  password: z.never().optional(),
  // A configuration must not run programs as the broker; https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
  exec: z.never().optional(),
  'auth-provider': z.never().optional(),
  as: z.never().optional(),
})
const file = z.looseObject({
  'current-context': z.string().optional(),
  contexts: named('context', z.looseObject({ cluster: z.string(), user: z.string() })),
  clusters: named('cluster', z.unknown()),
  users: named('user', z.unknown()),
})

function fromKubeconfig(text: string, wanted: string | undefined): Access {
  const config = understood('kubeconfig', file, yamlOf(text))
  const name = wanted ?? config['current-context']
  const picked = config.contexts.find((one) => one.name === name)
  if (picked === undefined) throw invalid('the kubeconfig has no such context, or no current one')
  const { cluster: clusterName, user: userName } = understood('context', z.looseObject({ cluster: z.string(), user: z.string() }), picked.context)
  const place = understood('cluster', cluster, config.clusters.find((one) => one.name === clusterName)?.cluster)
  const who = understood('user', user, config.users.find((one) => one.name === userName)?.user)
  const { token, tokenFile, 'client-certificate-data': cert, 'client-key-data': key } = who
  if ((cert === undefined) !== (key === undefined)) throw invalid('the kubeconfig has a client certificate without its key, or a key without one')
  if (token === undefined && tokenFile === undefined && cert === undefined)
    throw invalid('the user of the kubeconfig has neither a token nor a client certificate')
  if (tokenFile !== undefined && !isAbsolute(tokenFile)) throw invalid('tokenFile of the kubeconfig must be an absolute path')
  certificate('certificate-authority-data', decoded(place['certificate-authority-data']))
  certificate('client-certificate-data', decoded(cert))
  // The file goes before the token: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#AuthInfo
  const checked = { token: tokenFile === undefined ? token : undefined, 'client-certificate-data': cert, 'client-key-data': key }
  return { server: place.server, kubeconfig: only(place, checked), tokenFile }
}

/**
 * What was checked and nothing else, as the kubeconfig that the library reads. Never the text itself: its YAML knows keys, `<<` among them, that
 * bring in what the check did not see.
 */
function only(cluster: object, user: object): string {
  const name = 'mayfly'
  return JSON.stringify({
    'current-context': name,
    clusters: [{ name, cluster }],
    users: [{ name, user }],
    contexts: [{ name, context: { cluster: name, user: name } }],
  })
}

function yamlOf(text: string): unknown {
  try {
    return parse(text, { maxAliasCount: 0 })
  } catch {
    // What the parser says quotes the text.
    throw invalid('the kubeconfig is not YAML')
  }
}

function understood<T>(what: string, shape: z.ZodType<T>, value: unknown): T {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const [field] = parsed.error.issues[0]?.path ?? []
  const where = field === undefined ? what : `${what}.${String(field)}`
  throw invalid(
    `the kubeconfig's ${where} is missing or not supported: everything must be in the text (kubectl config view --raw --flatten), with a token or a client certificate, and no exec, auth-provider, proxy or skipped verification`,
  )
}

function decoded(base64: string | undefined): string | undefined {
  return base64 === undefined ? undefined : Buffer.from(base64, 'base64').toString()
}

function certificate(what: string, pem: string | undefined): void {
  try {
    if (pem !== undefined) void new X509Certificate(pem)
  } catch {
    throw invalid(`${what} is not a certificate in PEM`)
  }
}

function invalid(message: string): ProviderError {
  return new ProviderError('invalid', message)
}
