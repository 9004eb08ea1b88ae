import type { EnvelopeEntry, Role, Scope, ScopeKind } from './types.js'

/** What a request may become: never more than role ∩ envelope ∩ request. */
export interface Narrowed {
  readonly scope: Scope
  /** The least of request, role and envelope; no clamp that depends on the clock. */
  readonly ttlSeconds: number
  readonly maxLeases?: number
}

/**
 * Narrows a request by the role and the task's envelope. A scope key that the request leaves out takes the envelope's value, so that
 * asking for less detail never yields more. Answers why not, in words for the caller.
 */
export function narrow(role: Role, entry: EnvelopeEntry, asked: { ttl?: number; scope?: Scope }): Narrowed | { outside: string } {
  const limit = entry.scope ?? {}
  const outside = scopeOutside(role.scope, limit, asked.scope ?? {})
  if (outside) return { outside }
  return {
    scope: { ...limit, ...asked.scope },
    ttlSeconds: Math.min(asked.ttl ?? role.maxTtlSeconds, role.maxTtlSeconds, entry.maxTtlSeconds ?? role.maxTtlSeconds),
    maxLeases: entry.maxLeases,
  }
}

/** Why `scope` is not within `limit`, or undefined. Keys absent from `limit` may take any value the role's kinds allow. */
export function scopeOutside(kinds: Readonly<Record<string, ScopeKind>>, limit: Scope, scope: Scope): string | undefined {
  for (const [key, value] of Object.entries(scope)) {
    const kind = Object.hasOwn(kinds, key) ? kinds[key] : undefined
    if (!kind) return `the role has no scope key "${key}"`
    if ((kind === 'set') !== Array.isArray(value)) return `scope key "${key}" takes ${kind === 'set' ? 'a list' : 'one string'}`
    const bound = Object.hasOwn(limit, key) ? limit[key] : undefined
    if (bound !== undefined && !isWithin(kind, bound, value)) return `scope key "${key}" is wider than the task's envelope`
  }
  return undefined
}

/** Whether every entry of `inner` is within some entry of `outer`; with the reason when not. */
export function envelopeOutside(
  roles: ReadonlyMap<string, Role>,
  outer: readonly EnvelopeEntry[],
  inner: readonly EnvelopeEntry[],
): string | undefined {
  for (const entry of inner) {
    const role = roles.get(entry.role)
    const bound = outer.find((candidate) => candidate.role === entry.role)
    if (!role || !bound) return `role "${entry.role}" is not in the envelope`
    // A key that the outer entry limits must be limited in the inner one too: leaving it out would widen.
    for (const key of Object.keys(bound.scope ?? {}))
      if (!Object.hasOwn(entry.scope ?? {}, key)) return `role "${entry.role}" must keep the scope key "${key}" of the envelope`
    const outside = scopeOutside(role.scope, bound.scope ?? {}, entry.scope ?? {})
    if (outside) return outside
    if (bound.maxTtlSeconds !== undefined && (entry.maxTtlSeconds ?? Number.POSITIVE_INFINITY) > bound.maxTtlSeconds)
      return `role "${entry.role}" may have a TTL of at most ${bound.maxTtlSeconds} s`
    if (bound.maxLeases !== undefined && (entry.maxLeases ?? Number.POSITIVE_INFINITY) > bound.maxLeases)
      return `role "${entry.role}" may have at most ${bound.maxLeases} leases`
  }
  return undefined
}

function isWithin(kind: ScopeKind, outer: string | readonly string[], inner: string | readonly string[]): boolean {
  if (kind === 'set') {
    const allowed = new Set(typeof outer === 'string' ? [outer] : outer)
    return typeof inner !== 'string' && inner.every((value) => allowed.has(value))
  }
  if (typeof outer !== 'string' || typeof inner !== 'string') return false
  return inner === outer || (kind === 'path' && isPathBelow(outer, inner))
}

/** `a/b` is below `a` and `a/`; never `ab`, and nothing with a segment that is not plain is below anything. */
function isPathBelow(outer: string, inner: string): boolean {
  const prefix = outer.endsWith('/') ? outer : `${outer}/`
  if (!inner.startsWith(prefix)) return false
  const rest = inner.slice(prefix.length).replace(/\/$/, '')
  return rest === '' || rest.split('/').every(isPlainSegment)
}

/**
 * Not empty, `.` or `..`, nor what an upstream could read as one that decodes, that takes `\` for `/`, that cuts off at `;`, `?` or `#`, that trims
 * spaces, or that folds look-alikes (NFKC): `%2e%2e`, `x\..`, `..;x`, `..?`, `.. `, `\uff0e\uff0e`.
 */
export function isPlainSegment(segment: string): boolean {
  const folded = segment.normalize('NFKC')
  const name = folded.replace(/[;?#].*$/s, '')
  return /[^.\s\p{C}]/u.test(name) && !/\\|%(?:2e|2f|5c|25)/i.test(folded) && !folded.includes('/')
}
