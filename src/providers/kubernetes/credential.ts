import { z } from 'zod'
import type { Credential } from '../provider.js'
import type { Token } from './api.js'
import type { Picked } from './role.js'

/** Go's JWT library lets a token pass this long after its `exp`, and the API server uses its default: `DefaultLeeway` of go-jose. */
export const LEEWAY_SECONDS = 60

/** When the API server takes the token last, ms: the later of what it says and what stands in the token. */
export function endOf({ token, expirationTimestamp }: Token): number {
  return Math.max(expirationTimestamp.getTime(), claimedEnd(token) ?? 0)
}

const claims = z.object({ exp: z.number().positive() })
function claimedEnd(token: string): number | undefined {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    return claims.parse(payload).exp * 1000
  } catch {
    return undefined
  }
}

export interface Place extends Picked {
  readonly server: string
  readonly ca?: string
  readonly audiences?: readonly string[]
}

/** For the API server, all that kubectl needs; for other audiences the token alone. */
export function credentialOf(place: Place, token: string, end: number): Credential {
  const { server, ca, namespace, account: service_account, audiences } = place
  const expires_at = new Date(end).toISOString()
  const common = { token, namespace, service_account, expires_at }
  if (audiences) return { type: 'kubernetes', fields: { ...common, audiences }, env: { KUBERNETES_TOKEN: token } }
  const data = ca === undefined ? undefined : Buffer.from(ca).toString('base64')
  const kubeconfig = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'mayfly',
    clusters: [{ name: 'mayfly', cluster: { server, 'certificate-authority-data': data } }],
    users: [{ name: 'mayfly', user: { token } }],
    contexts: [{ name: 'mayfly', context: { cluster: 'mayfly', user: 'mayfly', namespace } }],
  })
  return {
    type: 'kubernetes',
    fields: { ...common, server, ...(ca !== undefined && { certificate_authority: ca }), kubeconfig },
    // What Terraform's and Helm's Kubernetes clients read; kubectl reads only a file: write `kubeconfig` into one.
    env: {
      KUBE_HOST: server,
      KUBE_TOKEN: token,
      ...(ca !== undefined && { KUBE_CLUSTER_CA_CERT_DATA: ca }),
      HELM_KUBEAPISERVER: server,
      HELM_KUBETOKEN: token,
      HELM_NAMESPACE: namespace,
    },
  }
}
