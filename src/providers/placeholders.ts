import type { Scope } from '../types.js'
import { ProviderError } from './provider.js'

/** `${scope.<key>}`, in a document of the vendor's that a role has and a request's scope fills. */
export const PLACEHOLDER = /\$\{scope\.([A-Za-z][A-Za-z0-9_-]*)\}/g

/** Keys of the scope that stand anywhere in a document. */
export function placeholdersOf(value: unknown): Set<string> {
  return new Set([...JSON.stringify(value ?? '').matchAll(PLACEHOLDER)].map(([, key = '']) => key))
}

/** One text for each value that the scope has for what stands in it. `check` throws for a value that could end what it stands in. */
export function expand(text: string, scope: Scope, check: (value: string, key: string) => void): string[] {
  return [...new Set(text.match(PLACEHOLDER) ?? [])].reduce<string[]>(
    (texts, placeholder) => {
      const key = placeholder.slice('${scope.'.length, -1)
      const values = Object.hasOwn(scope, key) ? [scope[key] ?? []].flat() : []
      if (values.length === 0) throw new ProviderError('invalid', `this role needs a scope: "${key}"`)
      for (const value of values) check(value, key)
      return texts.flatMap((one) => values.map((value) => one.replaceAll(placeholder, () => value)))
    },
    [text],
  )
}
