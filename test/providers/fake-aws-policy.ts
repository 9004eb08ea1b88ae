/**
 * Part of a fake of AWS: reads and evaluates identity policies as far as session policies of one lease need it. Imports nothing of the
 * project. What it cannot evaluate it refuses, so that no test passes because a rule was overlooked.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
 */
export interface Statement {
  readonly Effect: 'Allow' | 'Deny'
  readonly Action: readonly string[]
  readonly Resource: readonly string[]
  readonly Condition: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>
}
export interface Asked {
  readonly action: string
  readonly resource: string
  /** Condition keys, lower case, such as `aws:currenttime`. */
  readonly context: Readonly<Record<string, string>>
}

const OPERATORS: Readonly<Record<string, (has: string, wanted: string) => boolean>> = {
  StringEquals: (has, wanted) => has === wanted,
  StringLike: (has, wanted) => like(wanted, has, false),
  DateGreaterThan: (has, wanted) => Date.parse(has) > Date.parse(wanted),
  DateLessThan: (has, wanted) => Date.parse(has) < Date.parse(wanted),
}

/** @throws Error with what is malformed */
export function parsePolicy(text: string): Statement[] {
  const policy = record(JSON.parse(text), 'the document')
  onlyKeys(policy, ['Version', 'Id', 'Statement'])
  if (policy.Version !== '2012-10-17') throw new Error('Version must be 2012-10-17')
  const statements = [policy.Statement].flat()
  if (statements.length === 0) throw new Error('no Statement')
  return statements.map((raw) => {
    const one = record(raw, 'a statement')
    onlyKeys(one, ['Sid', 'Effect', 'Action', 'Resource', 'Condition'])
    if (one.Effect !== 'Allow' && one.Effect !== 'Deny') throw new Error('Effect must be Allow or Deny')
    const condition = record(one.Condition ?? {}, 'Condition')
    return {
      Effect: one.Effect,
      Action: texts(one.Action, 'Action', /^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$/),
      Resource: texts(one.Resource, 'Resource', /^(\*|arn:[^:]+:[^:]*:[^:]*:[^:]*:.+)$/s),
      Condition: Object.fromEntries(
        Object.entries(condition).map(([operator, values]) => {
          if (!Object.hasOwn(OPERATORS, operator)) throw new Error(`this fake does not know the operator ${operator}`)
          const keys = Object.entries(record(values, operator))
          return [operator, Object.fromEntries(keys.map(([key, wanted]) => [key.toLowerCase(), texts(wanted, key, /^/)]))]
        }),
      ),
    }
  })
}

/** Deny by default; an explicit deny wins. */
export function allows(statements: readonly Statement[], asked: Asked): boolean {
  const matching = statements.filter((one) => matches(one, asked))
  return matching.some(({ Effect }) => Effect === 'Allow') && !matching.some(({ Effect }) => Effect === 'Deny')
}

function matches(statement: Statement, { action, resource, context }: Asked): boolean {
  return (
    statement.Action.some((pattern) => like(pattern, action, true)) &&
    statement.Resource.some((pattern) => like(pattern, resource, false)) &&
    Object.entries(statement.Condition).every(([operator, keys]) =>
      Object.entries(keys).every(([key, wanted]) => {
        const has = context[key]
        return has !== undefined && wanted.some((one) => OPERATORS[operator]?.(has, one))
      }),
    )
  )
}

function like(pattern: string, text: string, anyCase: boolean): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`, anyCase ? 'is' : 's').test(text)
}

function texts(value: unknown, what: string, pattern: RegExp): string[] {
  const values = [value].flat()
  if (values.length === 0) throw new Error(`${what} is empty`)
  return values.map((one) => {
    if (typeof one !== 'string' || !pattern.test(one)) throw new Error(`${what} is not well-formed`)
    return one
  })
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${what} is no object`)
  return { ...value }
}

function onlyKeys(value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) if (!known.includes(key)) throw new Error(`unknown element ${key}`)
}
