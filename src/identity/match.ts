import type { Match } from './options.js'
import { compilePattern, type Matcher } from './pattern.js'
import type { Claims } from './presets.js'

/** Claims with the patterns that they must match. */
export type Patterns = readonly { readonly claim: string; readonly matches: Matcher }[]

export function compileMatch(path: string, claims: Match['claims']): Patterns {
  return Object.entries(claims).map(([claim, pattern]) => ({ claim, matches: at(`${path}.${claim}`, () => compilePattern(pattern)) }))
}

/** A list-valued claim matches when one member does. */
export function allMatch(patterns: Patterns, claims: Claims): boolean {
  return patterns.every(({ claim, matches }) => {
    const value = claims.get(claim)
    if (value === undefined) return false
    return typeof value === 'string' ? matches(value) : value.some(matches)
  })
}

/** Says where, of what `compile` throws. */
export function at<T>(path: string, compile: () => T): T {
  try {
    return compile()
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : 'is wrong'}`, { cause: error })
  }
}
