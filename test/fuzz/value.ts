import fc from 'fast-check'

/** As much of JSON Schema as our own description uses. */
export interface Schema {
  readonly $ref?: string
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly format?: string
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly propertyNames?: Schema
}
export type Schemas = Readonly<Record<string, Schema>>

const MOST_TEXT = 40
const MOST_ITEMS = 3

/**
 * Values that a schema allows. `words` are texts that mean something to the broker (names of roles and tools, ids that exist): a text of any content is one of
 * them most of the time, so that requests get further than the first look-up.
 */
export function allowedBy(schema: Schema, schemas: Schemas, words: readonly string[]): fc.Arbitrary<unknown> {
  const again = (inner: Schema) => allowedBy(inner, schemas, words)
  if (schema.$ref !== undefined) return again(schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {})
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return fc.oneof(...choices.map(again))
  switch (schema.type) {
    case 'string':
      return textOf(schema, words)
    case 'integer':
      return fc.integer({ min: Math.max(schema.minimum ?? -1_000, -(2 ** 31)), max: Math.min(schema.maximum ?? 1_000, 2 ** 31 - 1) })
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true })
    case 'boolean':
      return fc.boolean()
    case 'array': {
      const minLength = schema.minItems ?? 0
      return fc.array(again(schema.items ?? {}), { minLength, maxLength: Math.max(minLength, Math.min(schema.maxItems ?? MOST_ITEMS, MOST_ITEMS)) })
    }
    case 'object':
      return objectOf(schema, again)
    default:
      return fc.jsonValue({ maxDepth: 2 })
  }
}

function objectOf({ properties, required = [], additionalProperties, propertyNames }: Schema, again: (schema: Schema) => fc.Arbitrary<unknown>) {
  if (!properties && typeof additionalProperties === 'object') {
    const names = propertyNames ? again(propertyNames).map(String) : fc.string({ minLength: 1, maxLength: 10 })
    return fc.dictionary(names, again(additionalProperties), { maxKeys: MOST_ITEMS })
  }
  const model = Object.fromEntries(Object.entries(properties ?? {}).map(([name, schema]) => [name, again(schema)]))
  return fc.record(model, { requiredKeys: required.filter((name) => name in model) })
}

function textOf({ format, pattern, minLength = 0, maxLength = MOST_TEXT }: Schema, words: readonly string[]): fc.Arbitrary<string> {
  if (format === 'date-time')
    return fc.oneof(
      fc.integer({ min: 1, max: 7_200 }).map(fromNow),
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((date) => date.toISOString()),
    )
  const any = pattern === undefined ? fc.string({ minLength, maxLength: Math.min(maxLength, MOST_TEXT), unit: 'grapheme' }) : matching(pattern)
  const fits = words.filter(
    (word) => word.length >= minLength && word.length <= maxLength && (pattern === undefined || new RegExp(pattern, 'u').test(word)),
  )
  return fits.length === 0 ? any : fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...fits) }, { weight: 1, arbitrary: any })
}

const fromNow = (seconds: number) => new Date(Date.now() + seconds * 1_000).toISOString()

function matching(pattern: string): fc.Arbitrary<string> {
  // What `stringMatching` cannot read is a text without control characters.
  return pattern.includes('\\p{') ? fc.string({ minLength: 1, maxLength: MOST_TEXT, unit: 'grapheme' }) : fc.stringMatching(new RegExp(pattern))
}
