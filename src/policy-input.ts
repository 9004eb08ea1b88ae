import type { PolicyRequest } from './policy/policy.js'

type ObtainRequest = Extract<PolicyRequest, { role: unknown }>

/** A scope may be long, and its event is kept for ever: a request with more than this many characters of it is not kept to be asked again. */
const MOST_SCOPE = 2_048

/**
 * What an event keeps of a request for a credential beside the decision on it: all that policies can read, and nothing else, as the cases of
 * `mayfly policy test` are written. So other policies can be asked the same later. What has its default there is left out.
 */
export function inputOf({ action, principal, role, task, context }: ObtainRequest): { readonly input?: object } {
  if (lengthOf(context.scope) > MOST_SCOPE) return {}
  const { id, issuer, owner, autonomy, team } = principal
  const { name, provider, sensitivity, revocation } = role
  const { openedBy, orchestrator, intent, classified, confidence, classification, environment, human, depth, obtained, counts } = task
  const none = counts.read + counts.write + counts.escalate === 0
  return {
    input: {
      action,
      agent: { id, issuer, owner, autonomy, team, labels: some(principal.labels) },
      role: { name, provider, sensitivity, revocation, labels: some(role.labels) },
      task: {
        opened_by: { kind: openedBy.kind, id: openedBy.id, issuer: openedBy.issuer },
        orchestrator,
        intent,
        classified,
        confidence,
        classification,
        environment,
        human,
        depth: depth === 0 ? undefined : depth,
        obtained: some(obtained),
        counts: none ? undefined : counts,
      },
      context: {
        renewal: context.renewal || undefined,
        ttl: context.ttlSeconds,
        scope: Object.keys(context.scope).length === 0 ? undefined : context.scope,
        tool: context.tool?.name,
        destination: context.destination,
        external: context.external ? undefined : false,
      },
    },
  }
}

function some(list: readonly string[]): readonly string[] | undefined {
  return list.length === 0 ? undefined : list
}

function lengthOf(scope: ObtainRequest['context']['scope']): number {
  let length = 0
  for (const [key, value] of Object.entries(scope))
    length += typeof value === 'string' ? key.length + value.length : value.reduce((sum, one) => sum + one.length, key.length)
  return length
}
