import { isObject, type JsonObject } from './json.js'
import type { Preset } from './options.js'
import { refuse } from './refuse.js'
import { parseSpiffeId, type SpiffeId } from './spiffe/id.js'

/** The issuer's url where a preset has one of its own. */
export const PRESET_URLS: Readonly<Record<Preset, string | undefined>> = {
  kubernetes: undefined,
  'github-actions': 'https://token.actions.githubusercontent.com',
  spiffe: undefined,
}

/** What patterns and templates see. A Map: claim names come from outside. */
export type Claims = ReadonlyMap<string, string | readonly string[]>

const KUBERNETES_CLAIMS = ['namespace', 'service_account', 'service_account_uid', 'pod', 'pod_uid', 'node', 'node_uid']
const GITHUB_REQUIRED = ['repository_id', 'repository_owner_id', 'run_id']

/** Claims by the name under which rules speak of them. Refuses a token that isn't of the kind its issuer's preset says. */
export function exposeClaims(payload: JsonObject, preset: Preset | undefined): Claims {
  const claims = plainClaims(payload)
  if (preset === 'kubernetes') return kubernetesClaims(payload, claims)
  if (preset === 'spiffe') return jwtSvidClaims(claims)
  if (preset === 'github-actions') {
    for (const claim of GITHUB_REQUIRED) if (!claims.has(claim)) refuse('token_invalid', `a GitHub Actions token has "${claim}"`)
  }
  return claims
}

function plainClaims(payload: JsonObject): Map<string, string | readonly string[]> {
  const claims = new Map<string, string | readonly string[]>()
  for (const [name, value] of Object.entries(payload)) {
    if (typeof value === 'string') claims.set(name, value)
    else if (typeof value === 'boolean' || Number.isSafeInteger(value)) claims.set(name, String(value))
    else if (Array.isArray(value) && value.every((member) => typeof member === 'string')) claims.set(name, value)
  }
  return claims
}

/** https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens */
function kubernetesClaims(payload: JsonObject, claims: Map<string, string | readonly string[]>): Claims {
  for (const name of KUBERNETES_CLAIMS) claims.delete(name)
  const bound = payload['kubernetes.io']
  if (!isObject(bound)) refuse('token_invalid', 'a Kubernetes service account token has "kubernetes.io"')
  const set = (claim: string, value: unknown) => {
    if (typeof value === 'string' && value !== '') claims.set(claim, value)
  }
  const member = (object: string, field: string) => {
    const value = bound[object]
    return isObject(value) ? value[field] : undefined
  }
  set('namespace', bound.namespace)
  set('service_account', member('serviceaccount', 'name'))
  set('service_account_uid', member('serviceaccount', 'uid'))
  set('pod', member('pod', 'name'))
  set('pod_uid', member('pod', 'uid'))
  set('node', member('node', 'name'))
  set('node_uid', member('node', 'uid'))
  const subject = `system:serviceaccount:${claims.get('namespace')}:${claims.get('service_account')}`
  const isNamed = ['namespace', 'service_account', 'service_account_uid'].every((name) => claims.has(name))
  if (payload.sub !== subject || !isNamed) {
    refuse('token_invalid', '"sub" and "kubernetes.io" do not name one service account with its uid')
  }
  return claims
}

/** So many segments of a path are claims of their own. */
const MAX_SEGMENTS = 16
const SPIFFE_CLAIM = /^(?:spiffe_id|trust_domain|path|path_\d+|svid)$/

function jwtSvidClaims(claims: Map<string, string | readonly string[]>): Claims {
  // What the token itself says under these names is not what they mean here.
  for (const name of claims.keys()) if (SPIFFE_CLAIM.test(name)) claims.delete(name)
  const id = parseSpiffeId(String(claims.get('sub')))
  if ('refused' in id) refuse('token_invalid', `"sub" is no SPIFFE ID of a workload: it ${id.refused}`)
  for (const [name, value] of spiffeClaims(id, 'jwt')) claims.set(name, value)
  return claims
}

/** `spiffe://prod.example/ns/team-a/sa/triage` -> path, and path_1 to path_4. `svid` says what showed it. */
export function spiffeClaims({ trustDomain, path, segments }: SpiffeId, svid: 'jwt' | 'x509'): Map<string, string> {
  const spiffeId = `spiffe://${trustDomain}${path}`
  const named = segments.slice(0, MAX_SEGMENTS).map((segment, index): [string, string] => [`path_${index + 1}`, segment])
  return new Map([['sub', spiffeId], ['spiffe_id', spiffeId], ['trust_domain', trustDomain], ['path', path], ['svid', svid], ...named])
}
