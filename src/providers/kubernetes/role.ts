import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { ProviderError } from '../provider.js'
import { label, type Options } from './access.js'

/** RFC 1123 subdomain: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ */
const account = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/, 'must be the name of a service account')
const oneOrMore = <T extends z.ZodType>(inner: T) => z.union([inner.transform((one) => [one]), z.array(inner).min(1).max(16)])

export const params = z.strictObject({
  /** Where the service account is. Several: the request's scope picks one. */
  namespace: oneOrMore(label),
  service_account: oneOrMore(account),
  /** Absent: the API server's own. */
  audiences: z
    .array(z.string().regex(/^[\x21-\x7e]{1,256}$/, 'must be an audience, as https://vault.example.com'))
    .min(1)
    .max(8)
    .optional(),
})
export type Params = z.infer<typeof params>
const KEYS = ['namespace', 'service_account'] as const

export function roleProblems(params: Params, scope: Readonly<Record<string, ScopeKind>>, { namespaces }: Options): string[] {
  return [
    ...params.namespace
      .filter((one) => !namespaces.includes(one))
      .map((one) => `params.namespace: "${one}" is not among the namespaces of the provider`),
    ...KEYS.filter((key) => params[key].length > 1 && scope[key] === undefined).map(
      (key) => `params.${key} has several: the role needs scope {${key}: equal}, by which a request picks one`,
    ),
    ...Object.entries(scope)
      .filter(([key, kind]) => !KEYS.some((known) => known === key) || kind !== 'equal')
      .map(
        ([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a kubernetes role may have scope {namespace: equal, service_account: equal}`,
      ),
  ]
}

export interface Picked {
  readonly namespace: string
  readonly account: string
}

/** The one service account that a request means: a token has all that its account may do, so that picking is all the narrowing there is. */
export function pick(params: Params, scope: Scope): Picked {
  if (Object.keys(scope).some((key) => !KEYS.some((known) => known === key)))
    throw new ProviderError('invalid', 'a kubernetes role can be narrowed by "namespace" and "service_account" only')
  return { namespace: oneOf('namespace', params.namespace, scope), account: oneOf('service_account', params.service_account, scope) }
}

function oneOf(key: (typeof KEYS)[number], listed: readonly string[], scope: Scope): string {
  const wanted = Object.hasOwn(scope, key) ? scope[key] : listed.length === 1 ? listed[0] : undefined
  if (typeof wanted === 'string' && listed.includes(wanted)) return wanted
  throw new ProviderError('invalid', `scope "${key}" must be one that the role lists`)
}
