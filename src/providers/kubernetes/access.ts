import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
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
  readonly ca?: string
  readonly servername?: string
  readonly cert?: string
  readonly key?: string
  /** Read anew each time where it is in a file: the kubelet replaces it. */
  token?(): Promise<string>
}

/** https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/ */
const POD_FILES = '/var/run/secrets/kubernetes.io/serviceaccount'
const POD_SERVER = 'https://kubernetes.default.svc'

export function accessOf(options: Shape): Access {
  const { kubeconfig, context, in_cluster, server, ca, token } = options
  const ways = [kubeconfig, in_cluster, server].filter((way) => way !== undefined).length
  if (ways !== 1) throw invalid('give one of kubeconfig, in_cluster and server')
  if (context !== undefined && kubeconfig === undefined) throw invalid('context picks one of a kubeconfig: there is none')
  if (kubeconfig !== undefined && (ca ?? token) !== undefined) throw invalid('ca and token belong to server: a kubeconfig has its own')
  if (in_cluster && (ca ?? token) !== undefined) throw invalid('ca and token belong to server: a pod has its own')
  if (kubeconfig !== undefined) return fromKubeconfig(kubeconfig, context)
  if (server === undefined) return { server: POD_SERVER, token: () => tokenFile(join(POD_FILES, 'token')) }
  if (token === undefined) throw invalid('server needs a token')
  return { server, ca: certificate('ca', ca), token: async () => token }
}

/** What is only to be had once the provider is opened. */
export async function openAccess(options: Options): Promise<Access> {
  const access = accessOf(options)
  if (!options.in_cluster) return access
  const ca = await readFile(join(POD_FILES, 'ca.crt'), 'utf8').catch(() => {
    throw new ProviderError('refused', `in_cluster: ${POD_FILES}/ca.crt cannot be read: is the service account's token mounted?`)
  })
  return { ...access, ca }
}

const named = <T extends z.ZodType>(key: string, inner: T) => z.array(z.looseObject({ name: z.string(), [key]: inner })).default([])
const base64 = z.base64().transform((text) => Buffer.from(text, 'base64').toString())
const cluster = z.looseObject({
  server: address,
  'certificate-authority': z.never().optional(),
  'certificate-authority-data': base64.optional(),
  'insecure-skip-tls-verify': z.literal(false).optional(),
  'tls-server-name': z.string().optional(),
  'proxy-url': z.literal('').optional(),
})
const user = z.looseObject({
  token: z.string().min(1).optional(),
  tokenFile: z.string().optional(),
  'client-certificate': z.never().optional(),
  'client-certificate-data': base64.optional(),
  'client-key': z.never().optional(),
  'client-key-data': base64.optional(),
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
  const { token, tokenFile: path, 'client-certificate-data': cert, 'client-key-data': key } = who
  if ((cert === undefined) !== (key === undefined)) throw invalid('the kubeconfig has a client certificate without its key, or a key without one')
  if (token === undefined && path === undefined && cert === undefined)
    throw invalid('the user of the kubeconfig has neither a token nor a client certificate')
  if (path !== undefined && !isAbsolute(path)) throw invalid('tokenFile of the kubeconfig must be an absolute path')
  return {
    server: place.server,
    ca: certificate('certificate-authority-data', place['certificate-authority-data']),
    servername: place['tls-server-name'],
    cert: certificate('client-certificate-data', cert),
    key,
    ...(token !== undefined && path === undefined && { token: async () => token }),
    ...(path !== undefined && { token: () => tokenFile(path) }),
  }
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

function certificate(what: string, pem: string | undefined): string | undefined {
  if (pem === undefined) return undefined
  try {
    void new X509Certificate(pem)
    return pem
  } catch {
    throw invalid(`${what} is not a certificate in PEM`)
  }
}

async function tokenFile(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => {
    throw new ProviderError('refused', `the broker's token in ${path} cannot be read`)
  })
  return text.trim()
}

function invalid(message: string): ProviderError {
  return new ProviderError('invalid', message)
}
