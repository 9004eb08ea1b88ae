import type { PolicyJson } from './cedar.js'

/** One node of a policy's condition, in one shape for all operators of Cedar's JSON policy format. */
export interface Node {
  readonly op: string
  readonly args: readonly Node[]
  /** Of `.` (one) and `has` (one or more). */
  readonly attrs: readonly string[]
  /** Of `Var`: its name. Of `Value`: the literal. Of `is`: the entity type. */
  readonly value?: unknown
}
export interface Literal {
  readonly type: string
  readonly id: string
}
export interface Condition {
  readonly kind: 'when' | 'unless'
  readonly body: Node
}

/** https://docs.cedarpolicy.com/policies/json-format.html#JsonExpr-objects: an object of one key, the operator. */
export function parse(expr: unknown): Node {
  const entry = Object.entries(isObject(expr) ? expr : {})
  const [op, body] = entry[0] ?? ['', undefined]
  if (entry.length !== 1) throw new Error('a condition is not in the JSON policy format')
  if (op === 'Value' || op === 'Var' || op === 'Slot') return { op, args: [], attrs: [], value: body }
  if (Array.isArray(body)) return { op, args: body.map(parse), attrs: [] }
  const fields = isObject(body) ? body : {}
  if (op === 'Record') return { op, args: Object.values(fields).map(parse), attrs: [] }
  const { attr, pattern, entity_type, ...operands } = fields
  const attrs = Array.isArray(attr) ? attr.map(String) : attr === undefined ? [] : [String(attr)]
  return { op, args: Object.values(operands).map(parse), attrs, value: entity_type ?? pattern }
}

export function conditionsOf(json: PolicyJson): readonly Condition[] {
  return json.conditions.map(({ kind, body }) => ({ kind, body: parse(body) }))
}

export function* walk(node: Node): Generator<Node> {
  yield node
  for (const arg of node.args) yield* walk(arg)
}

/** `["context", "tool", "access"]` for `context.tool.access`; undefined for what does not start at a variable. */
export function pathOf(node: Node): readonly string[] | undefined {
  if (node.op === 'Var') return [String(node.value)]
  if (node.op !== '.') return undefined
  const left = node.args[0] && pathOf(node.args[0])
  return left && [...left, ...node.attrs]
}

/** The entity literal that a value is. */
export function literalOf(value: unknown): Literal | undefined {
  const entity = isObject(value) ? (isObject(value.__entity) ? value.__entity : value) : undefined
  return typeof entity?.type === 'string' && typeof entity.id === 'string' ? { type: entity.type, id: entity.id } : undefined
}

/** Each entity that the policy names, in its scope and in its conditions. */
export function literalsOf(json: PolicyJson): Literal[] {
  const scope = [json.principal, json.action, json.resource].flatMap((constraint) => [
    'entity' in constraint ? constraint.entity : undefined,
    ...('entities' in constraint ? constraint.entities : []),
    'in' in constraint && constraint.in && 'entity' in constraint.in ? constraint.in.entity : undefined,
  ])
  const values = conditionsOf(json).flatMap(({ body }) => [...walk(body)].map((node) => (node.op === 'Value' ? node.value : undefined)))
  return [...scope, ...values].flatMap((value) => literalOf(value) ?? [])
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
