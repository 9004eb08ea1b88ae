import type { Scope, ScopeKind } from '../../types.js'
import { ProviderError } from '../provider.js'
import { leadsAstray, type Params, placeholderOf } from './options.js'

/** What is asked of OpenBao for one lease. */
export interface SecretRequest {
  /** Segments, not yet encoded. */
  readonly path: readonly string[]
  /** Undefined: a read. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** The role's path and data with the request's scope in their places: each value one of those that the role lists, letter by letter. */
export function requestOf({ path, method, data = {}, values }: Params, scope: Scope): SecretRequest {
  const used = new Set<string>()
  const fill = <T>(text: T): T | string => {
    const key = placeholderOf(text)
    if (key === undefined) return text
    used.add(key)
    const asked = Object.hasOwn(scope, key) ? scope[key] : undefined
    const known = Object.hasOwn(values, key) ? values[key]?.find((one) => one === asked) : undefined
    if (known === undefined) throw new ProviderError('invalid', `this role needs a scope: "${key}", one of those that the role lists`)
    return known
  }
  const filled = { path: path.split('/').map(fill), data: Object.fromEntries(Object.entries(data).map(([name, one]) => [name, fill(one)])) }
  if (Object.keys(scope).some((key) => !used.has(key))) throw new ProviderError('invalid', 'the scope has a key that the role does not use')
  return method === 'write' ? filled : { path: filled.path }
}

/** What is wrong between a role's placeholders, their values and its scope. */
export function placeholderProblems(params: Params, scope: Readonly<Record<string, ScopeKind>>): string[] {
  const { path, data = {}, values } = params
  const used = placeholdersOf(path, data)
  return [
    ...used.filter((key) => scope[key] !== 'equal').map((key) => `params use \${scope.${key}}: the role needs scope {${key}: equal}`),
    ...used.filter((key) => !Object.hasOwn(values, key)).map((key) => `params.values.${key}: list what \${scope.${key}} may stand for`),
    ...Object.keys(scope)
      .filter((key) => !used.includes(key))
      .map((key) => `scope.${key} narrows nothing: use \${scope.${key}} as a segment of params.path or a value of params.data`),
    ...Object.keys(values)
      .filter((key) => !used.includes(key))
      .map((key) => `params.values.${key}: nothing uses \${scope.${key}}`),
    ...pathsOf(params)
      .filter(leadsAstray)
      .map((one) => `params.values: they make the path ${one}, which leads where nothing is leased`),
    ...[path, ...Object.values(data).flat()]
      .filter((text) => typeof text === 'string' && text.includes('${') && text !== path && placeholderOf(text) === undefined)
      .map(() => 'params.data: a placeholder is a whole value, and none stands inside a text'),
    ...Object.values(data)
      .filter((one) => Array.isArray(one) && one.some((text) => placeholderOf(text) !== undefined))
      .map(() => 'params.data: a placeholder does not stand in a list'),
  ]
}

/** Every path that the role may ask for. */
export function pathsOf({ path, values }: Params): string[] {
  return path.split('/').reduce<string[]>(
    (paths, segment) => {
      const key = placeholderOf(segment)
      const segments = key === undefined ? [segment] : (values[key] ?? [])
      return paths.flatMap((before) => segments.map((one) => (before === '' ? one : `${before}/${one}`)))
    },
    [''],
  )
}

function placeholdersOf(path: string, data: Readonly<Record<string, unknown>>): string[] {
  return [...new Set([...path.split('/'), ...Object.values(data)].map(placeholderOf).filter((key) => key !== undefined))]
}
