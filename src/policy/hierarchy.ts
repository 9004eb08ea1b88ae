import type { PolicyOptions } from './options.js'
import { PolicyProblems } from './problems.js'
import type { Ancestors } from './request.js'

/**
 * Everything above a team or group, itself included. An ancestor that is not sent makes a forbid on it not fire, without any error.
 * @throws PolicyProblems where one is inside itself, or is not in the configuration
 */
export function ancestorsIn({ inside = {}, known }: Pick<PolicyOptions, 'inside' | 'known'>): Ancestors {
  const closed = { teams: close('teams', inside.teams ?? {}, known.teams), groups: close('groups', inside.groups ?? {}, known.groups) }
  return (kind, names) => {
    const [only] = names
    if (names.length === 1 && only !== undefined) return closed[kind].get(only) ?? names
    return [...new Set(names.flatMap((name) => closed[kind].get(name) ?? [name]))]
  }
}

function close(kind: string, inside: Readonly<Record<string, readonly string[]>>, known: readonly string[]): Map<string, readonly string[]> {
  const above = new Map(Object.entries(inside))
  const path = `inside.${kind}`
  const closed = new Map<string, readonly string[]>()
  for (const [name, parents] of above) {
    for (const one of [name, ...parents]) {
      if (!known.includes(one)) throw new PolicyProblems([{ path, message: `"${one}" is not in the configuration` }])
    }
    const all = new Set([name])
    for (const one of all) {
      for (const parent of above.get(one) ?? []) {
        if (parent === name) throw new PolicyProblems([{ path, message: `"${name}" is inside itself` }])
        all.add(parent)
      }
    }
    closed.set(name, [...all])
  }
  return closed
}
