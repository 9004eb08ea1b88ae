import { readFileSync } from 'node:fs'

/**
 * Part of a FAKE of AWS: the query protocol, held to the service models that AWS publishes (`published/sts.json`, `published/iam.json`). A
 * parameter that the model does not have, or a value that it does not take, is refused.
 * https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
 */
export interface Model {
  readonly metadata: { readonly apiVersion: string; readonly xmlNamespace: string }
  readonly operations: Readonly<Record<string, { readonly input?: { readonly shape: string }; readonly errors: readonly { shape: string }[] }>>
  readonly shapes: Readonly<Record<string, Shape>>
}
interface Shape {
  readonly type: string
  readonly required?: readonly string[]
  readonly members?: Readonly<Record<string, { readonly shape: string }>>
  readonly member?: { readonly shape: string }
  readonly min?: number
  readonly max?: number
  readonly pattern?: string
  readonly error?: { readonly code: string; readonly httpStatusCode: number }
}
export type Value = string | number | readonly Value[] | { readonly [name: string]: Value }
export type Fields = Readonly<Record<string, Value>>

/** An error as AWS answers it. */
export class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 400,
  ) {
    super(message)
  }
}

export function modelOf(service: 'sts' | 'iam'): Model {
  return JSON.parse(readFileSync(new URL(`./published/${service}.json`, import.meta.url), 'utf8'))
}

/** @throws Refusal as for a request that does not fit its operation */
export function read(model: Model, action: string, form: URLSearchParams): Fields {
  const operation = Object.hasOwn(model.operations, action) ? model.operations[action] : undefined
  if (operation === undefined) throw new Refusal('InvalidAction', `Could not find operation ${action} for version ${model.metadata.apiVersion}`)
  const unread = new Set([...form.keys()].filter((name) => name !== 'Action' && name !== 'Version'))
  const fields: Fields | undefined = operation.input === undefined ? {} : structure(model, shapeOf(model, operation.input.shape), '', form, unread)
  for (const name of unread) throw invalid(name, 'is no parameter of this operation')
  return fields ?? {}
}

function shapeOf(model: Model, name: string): Shape {
  const shape = model.shapes[name]
  if (shape === undefined) throw new Error(`the model has no shape ${name}`)
  return shape
}

/** One of the errors that the model gives the operation. */
export function refusal(model: Model, action: string, code: string, message: string): Refusal {
  const errors = (model.operations[action]?.errors ?? []).flatMap(({ shape }) => model.shapes[shape]?.error ?? [])
  const error = errors.find((one) => one.code === code)
  if (error === undefined) throw new Error(`${action} has no error ${code}`)
  return new Refusal(code, message, error.httpStatusCode)
}

function take(model: Model, name: string, path: string, form: URLSearchParams, unread: Set<string>): Value | undefined {
  const shape = shapeOf(model, name)
  if (shape.type === 'structure') return structure(model, shape, path, form, unread)
  if (shape.type === 'list') return list(model, shape, path, form, unread)
  const text = form.get(path)
  if (text === null) return undefined
  unread.delete(path)
  const value = shape.type === 'integer' ? Number(text) : text
  if (shape.type === 'integer' && !/^-?\d+$/.test(text)) throw invalid(path, 'must be an integer')
  within(shape, typeof value === 'number' ? value : value.length, path)
  if (shape.pattern !== undefined && !new RegExp(`^(?:${shape.pattern})$`, shape.pattern.includes('\\p{') ? 'u' : '').test(text))
    throw invalid(path, `must satisfy regular expression pattern: ${shape.pattern}`)
  return value
}

function structure(
  model: Model,
  { members = {}, required = [] }: Shape,
  path: string,
  form: URLSearchParams,
  unread: Set<string>,
): Fields | undefined {
  if (path !== '' && ![...form.keys()].some((key) => key.startsWith(`${path}.`))) return undefined
  const read: Record<string, Value> = {}
  for (const [name, { shape }] of Object.entries(members)) {
    const value = take(model, shape, path === '' ? name : `${path}.${name}`, form, unread)
    if (value !== undefined) read[name] = value
    else if (required.includes(name)) throw invalid(path === '' ? name : `${path}.${name}`, 'must not be null')
  }
  return read
}

function list(model: Model, shape: Shape, path: string, form: URLSearchParams, unread: Set<string>): Value | undefined {
  const values: Value[] = []
  for (;;) {
    const value = take(model, shape.member?.shape ?? '', `${path}.member.${values.length + 1}`, form, unread)
    if (value === undefined) break
    values.push(value)
  }
  if (values.length === 0) return undefined
  within(shape, values.length, path)
  return values
}

function within({ min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }: Shape, size: number, path: string): void {
  if (size < min || size > max) throw invalid(path, `must be between ${min} and ${max}`)
}

function invalid(path: string, rule: string): Refusal {
  return new Refusal('ValidationError', `1 validation error detected: Value at '${path}' failed to satisfy constraint: Member ${rule}`)
}
