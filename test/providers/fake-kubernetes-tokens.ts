import { generateKeyPairSync, randomUUID, sign, verify } from 'node:crypto'

/**
 * Part of the FAKE of Kubernetes: service account tokens. Signed and looked through as `pkg/serviceaccount/claims.go` of Kubernetes 1.36 does:
 * RS256, the private claim `kubernetes.io`, a leeway of a minute; what was good is remembered for 10 s (`TokenSuccessCacheTTL` of
 * `pkg/kubeapiserver/options/authentication.go`).
 */
export interface Bound {
  readonly namespace: string
  readonly account: { readonly name: string; readonly uid: string }
  readonly secret?: { readonly name: string; readonly uid: string }
}
export interface User {
  readonly username: string
  readonly uid: string
  readonly groups: readonly string[]
}
export interface Tokens {
  issue(bound: Bound, audiences: readonly string[], seconds: number): { token: string; end: number }
  /** Whom the token stands for at one of the audiences, and which of them; undefined: nobody. */
  authenticate(token: string, audiences: readonly string[]): { user: User; audiences: string[] } | undefined
}
export interface Clock {
  /** ms. */
  now(): number
  /** Of the cache alone. */
  cacheNow(): number
}

const ISSUER = 'https://kubernetes.default.svc.cluster.local'
const LEEWAY_MS = 60_000
const SUCCESS_CACHE_MS = 10_000

/** One for all fakes of a process: making it takes a while. */
const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })

export function createTokens(clock: Clock, exists: (bound: Bound) => boolean): Tokens {
  const kid = randomUUID()
  const cache = new Map<string, { until: number; user: User; audiences: string[] }>()

  const look = (token: string, audiences: readonly string[]): { user: User; audiences: string[] } | undefined => {
    const [head, body, signature, ...rest] = token.split('.')
    if (!head || !body || !signature || rest.length > 0) return undefined
    if (part(head).alg !== 'RS256' || part(head).kid !== kid) return undefined
    if (!verify('sha256', Buffer.from(`${head}.${body}`), keys.publicKey, Buffer.from(signature, 'base64url'))) return undefined
    const claims = part(body)
    const now = clock.now()
    if (now - LEEWAY_MS > claims.exp * 1000 || now + LEEWAY_MS < claims.nbf * 1000) return undefined
    const meant = audiences.filter((one) => claims.aud.includes(one))
    const { namespace, serviceaccount: account, secret } = claims['kubernetes.io']
    if (meant.length === 0 || !exists({ namespace, account, secret })) return undefined
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated']
    return { user: { username: claims.sub, uid: account.uid, groups }, audiences: meant }
  }

  return {
    issue({ namespace, account, secret }, audiences, seconds) {
      const iat = Math.floor(clock.now() / 1000)
      const claims = {
        aud: audiences,
        exp: iat + seconds,
        iat,
        iss: ISSUER,
        jti: randomUUID(),
        'kubernetes.io': { namespace, secret, serviceaccount: account },
        nbf: iat,
        sub: `system:serviceaccount:${namespace}:${account.name}`,
      }
      const text = [{ alg: 'RS256', kid }, claims].map((one) => Buffer.from(JSON.stringify(one)).toString('base64url')).join('.')
      return { token: `${text}.${sign('sha256', Buffer.from(text), keys.privateKey).toString('base64url')}`, end: (iat + seconds) * 1000 }
    },
    authenticate(token, audiences) {
      const place = JSON.stringify([token, audiences])
      const known = cache.get(place)
      if (known && known.until > clock.cacheNow()) return known
      const found = look(token, audiences)
      if (found) cache.set(place, { ...found, until: clock.cacheNow() + SUCCESS_CACHE_MS })
      return found
    },
  }
}

interface Claims {
  readonly alg: string
  readonly kid: string
  readonly exp: number
  readonly nbf: number
  readonly aud: readonly string[]
  readonly sub: string
  readonly 'kubernetes.io': { namespace: string; serviceaccount: Bound['account']; secret?: Bound['secret'] }
}
function part(text: string): Claims {
  return JSON.parse(Buffer.from(text, 'base64url').toString())
}
