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
  // Without a consent: humans are asked anew.
  const document = documentOf('consent' in request ? { ...request, consent: undefined } : request)
  const kept = Object.entries(document).filter(([, part]) => part !== undefined)
  return { input: Object.fromEntries(kept.map(([name, part]) => [name, lean(part)])) }
}

function lean(part: unknown): unknown {
  if (typeof part !== 'object' || part === null) return part
  return Object.fromEntries(Object.entries(part).filter(([name, value]) => value !== undefined && LEFT_OUT[name]?.(value) !== true))
}

function isZero(value: unknown): boolean {
  return Object.values(value ?? {}).every((count) => count === 0)
}

function isEmpty(value: unknown): boolean {
  return Object.keys(value ?? {}).length === 0
}

function lengthOf(scope: Extract<PolicyRequest, { role: unknown }>['context']['scope']): number {
  let length = 0
  for (const [key, value] of Object.entries(scope))
    length += typeof value === 'string' ? key.length + value.length : value.reduce((sum, one) => sum + one.length, key.length)
  return length
}
