import { readFile } from 'node:fs/promises'
import type { RequestOptions } from 'node:https'
import type { SecurityAuthentication } from '@kubernetes/client-node'
import { ProviderError } from '../provider.js'
import { accessOf, type Options } from './access.js'

/** The way to the API server, as the client library understands it. */
export interface Way {
  readonly server: string
  readonly tls: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'servername'>
  readonly authentication: SecurityAuthentication
}

export async function openWay(options: Options): Promise<Way> {
  const { KubeConfig } = await import('@kubernetes/client-node')
  const { server, kubeconfig, tokenFile } = accessOf(options)
  const config = new KubeConfig()
  if (kubeconfig === undefined) config.loadFromCluster()
  else config.loadFromString(kubeconfig)
  const cluster = config.getCurrentCluster()
  const user = config.getCurrentUser()
  if (cluster === null || user === null) throw new ProviderError('invalid', 'the kubeconfig has no cluster, or no user')
  // Only so does the library take plain http, which is for loopback alone. `rejectUnauthorized` is not among what is taken from it below.
  config.loadFromClusterAndUser({ ...cluster, server, skipTLSVerify: new URL(server).protocol === 'http:' }, user)

  const settings: RequestOptions = {}
  await config.applyToHTTPSOptions(settings).catch(asUnreadable)
  const { ca, cert, key, servername } = settings
  // After that, so that opening does not wait for the file. The library knows no `tokenFile`.
  if (tokenFile !== undefined)
    config.addAuthenticator({
      isAuthProvider: () => true,
      async applyAuthentication(_user, request) {
        request.headers = { ...request.headers, Authorization: `Bearer ${await tokenIn(tokenFile)}` }
      },
    })
  return {
    server,
    tls: { ca, cert, key, servername },
    authentication: {
      getName: () => config.getName(),
      applySecurityAuthentication: (request) => config.applySecurityAuthentication(request).catch(asUnreadable),
    },
  }
}

async function tokenIn(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => {
    throw new ProviderError('refused', `the broker's token in ${path} cannot be read`)
  })
  return text.trim()
}

/** The library reads files for `in_cluster` alone. */
function asUnreadable(error: unknown): never {
  if (error instanceof ProviderError) throw error
  const place = '/var/run/secrets/kubernetes.io/serviceaccount'
  throw new ProviderError('refused', `in_cluster: ${place} cannot be read: is the service account's token mounted?`)
}
