import { documentOf } from './policy/document.js'
import type { PolicyRequest } from './policy/policy.js'

/** A scope may be long, and its event is kept for ever: a request with more than this many characters of it is not kept to be asked again. */
const MOST_SCOPE = 2_048

/** What `case.ts` takes what is left out for: the value that most requests have. Everything else stays, so that an event reads by itself. */
const LEFT_OUT: Readonly<Record<string, (value: unknown) => boolean>> = {
  labels: isEmpty,
  roles: isEmpty,
  obtained: isEmpty,
  scope: isEmpty,
  counts: isZero,
  recent: isZero,
  risk: (value) => value === 0,
  depth: (value) => value === 0,
  renewal: (value) => value === false,
  external: (value) => value === true,
  enforced: (value) => value === false,
}

/**
 * What an event keeps of a request beside the decision on it: all that policies can read, and nothing else, as the cases of
 * `mayfly policy test` are written. So other policies can be asked the same later.
 */
export function inputOf(request: PolicyRequest): { readonly input?: object } {
  if ('context' in request && lengthOf(request.context.scope) > MOST_SCOPE) return {}
  if ('role' in request) return { input: obtainInput(request) }
  const input: Record<string, unknown> = {}
  // Here, too, without a consent.
  const alone = 'resource' in request ? { ...request, consent: undefined } : request
  for (const [name, part] of Object.entries(documentOf(alone))) if (part !== undefined) input[name] = lean(part)
  return { input }
}

function lean(part: unknown): unknown {
  if (typeof part !== 'object' || part === null) return part
  const kept: Record<string, unknown> = {}
  for (const name of Object.keys(part)) {
    const value: unknown = part[name as keyof typeof part]
    if (value !== undefined && LEFT_OUT[name]?.(value) !== true) kept[name] = value
  }
  return kept
}

/** The same for what is asked most, written out: it is a part of every credential, and JSON leaves out what is undefined. Without a consent: humans are asked anew. */
function obtainInput({ action, principal, role, task, context }: Extract<PolicyRequest, { role: unknown }>): object {
  const { id, issuer, labels, team, owner, autonomy, conduct } = principal
  const { openedBy, orchestrator, intent, classified, confidence, classification, environment, human, humanProof, depth, obtained, counts } = task
  return {
    action,
    agent: {
      id,
      issuer,
      labels: labels.length > 0 ? labels : undefined,
      team,
      owner,
      autonomy,
      risk: conduct && conduct.risk > 0 ? conduct.risk : undefined,
      recent: conduct && !isZero(conduct.recent) ? conduct.recent : undefined,
    },
    role: {
      name: role.name,
      provider: role.provider,
      sensitivity: role.sensitivity,
      revocation: role.revocation,
      labels: role.labels.length > 0 ? role.labels : undefined,
    },
    task: {
      opened_by: { kind: openedBy.kind, id: openedBy.id, issuer: openedBy.issuer },
      orchestrator,
      intent,
      classified,
      confidence,
      classification,
      environment,
      human,
      depth: depth > 0 ? depth : undefined,
      human_proof: humanProof && { team: humanProof.team, groups: humanProof.groups },
      obtained: obtained.length > 0 ? obtained : undefined,
      counts: isZero(counts) ? undefined : counts,
    },
    context: {
      renewal: context.renewal || undefined,
      ttl: context.ttlSeconds,
      scope: isEmpty(context.scope) ? undefined : context.scope,
      tool: context.tool?.name,
      destination: context.destination,
      external: context.external ? undefined : false,
    },
  }
}

function isZero(value: unknown): boolean {
  for (const name in value as object) if (value?.[name as keyof typeof value] !== 0) return false
  return true
}

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0
  for (const _ in value as object) return false
  return true
}

function lengthOf(scope: Extract<PolicyRequest, { role: unknown }>['context']['scope']): number {
  let length = 0
  for (const [key, value] of Object.entries(scope))
    length += typeof value === 'string' ? key.length + value.length : value.reduce((sum, one) => sum + one.length, key.length)
  return length
}
