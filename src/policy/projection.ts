import { type Action, familyOf } from './actions.js'
import { type Attributes, COUNTS, knownPaths } from './attributes.js'
import { conditionsOf, literalsOf, type Node, pathOf } from './expression.js'
import type { LoadedPolicy } from './load.js'

/** All that answers to one action can depend on. */
export interface Projection {
  /** `context.accumulated` and `context.accumulated.obtained`, `principal.autonomy`, … */
  readonly reads: ReadonlySet<string>
  /** `principal` and `resource`, where some policy asks what they are in. */
  readonly ancestorsOf: ReadonlySet<string>
  /** Entity types of which some policy names a member. */
  readonly names: ReadonlySet<string>
  readonly readsCounts: boolean
}

/** Reads it off the policies that cover the action. That nothing is missing is proved at load, by validating them against what is left. */
export function projectionOf(action: Action, policies: readonly LoadedPolicy[], table: Attributes): Projection {
  const known = knownPaths(table, familyOf(action))
  const reads = new Set<string>()
  const ancestorsOf = new Set<string>()
  const read = (path: readonly string[]): void => {
    // A record as a whole is all of its attributes.
    const below = path[0] === 'context' ? known.filter((one) => one.startsWith(`${path.join('.')}.`)) : []
    for (const one of [path, ...below.map((it) => it.split('.'))]) {
      // What is not known in this action stays out, so that a policy which reads it here is not valid here.
      if (!known.some((it) => it === one.join('.') || it.startsWith(`${one.join('.')}.`))) continue
      for (let length = 2; length <= one.length; length++) reads.add(one.slice(0, length).join('.'))
    }
  }
  const visit = (node: Node): void => {
    const left = node.args[0] && pathOf(node.args[0])
    const path = node.op === 'has' && left ? [...left, ...node.attrs] : pathOf(node)
    if (path) {
      read(path)
      return
    }
    if ((node.op === 'in' || node.op === 'is') && node.args.length > 1 && left?.[0]) ancestorsOf.add(left[0])
    for (const arg of node.args) visit(arg)
  }
  for (const { json } of policies) {
    for (const side of ['principal', 'resource'] as const) {
      if (json[side].op === 'in' || (json[side].op === 'is' && json[side].in)) ancestorsOf.add(side)
    }
    for (const { body } of conditionsOf(json)) visit(body)
  }
  const names = new Set(policies.flatMap(({ json }) => literalsOf(json).map(({ type }) => type)))
  return { reads, ancestorsOf, names, readsCounts: COUNTS.some((path) => reads.has(path)) }
}
