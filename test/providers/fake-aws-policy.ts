/**
 * Part of a FAKE of AWS: reads and evaluates policies. Imports nothing of the project. What it cannot evaluate it refuses, by an error of
 * its own, so that no test passes because a rule was overlooked.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 */
export interface Statement {
  readonly Effect: 'Allow' | 'Deny'
  readonly Action: Choice
  readonly Resource: Choice
  readonly Condition: readonly Test[]
}
interface Choice {
  readonly isNegated: boolean
  readonly patterns: readonly string[]
}
interface Test {
  readonly operator: Operator
  readonly ifExists: boolean
  readonly key: string
  readonly wanted: readonly string[]
}
export interface Asked {
  readonly action: string
  readonly resource: string
  /** Condition keys of the request, lower case, such as `aws:currenttime`. */
  readonly context: Readonly<Record<string, string>>
}
export type Verdict = 'allow' | 'explicit deny' | 'implicit deny'

/** Something that this fake does not know, so that a test which needs it fails. */
export class FakeCannot extends Error {
  override readonly name = 'FakeCannot'
}
/** Something that AWS does not take. */
export class Malformed extends Error {}

interface Operator {
  readonly name: string
  /** Negated ones hold where none of the values matches, and where the key is missing. */
  readonly isNegated?: true
  holds(has: string, wanted: string, context: Asked['context']): boolean
}
const equal = (has: string, wanted: string, context: Asked['context']) => has === filled(wanted, context)
const likeIt = (has: string, wanted: string, context: Asked['context']) => like(wanted, has, context)
const date = (compare: (has: number, wanted: number) => boolean) => (has: string, wanted: string) => compare(timeOf(has), timeOf(wanted))
const OPERATORS: readonly Operator[] = [
  { name: 'StringEquals', holds: equal },
  { name: 'StringNotEquals', isNegated: true, holds: equal },
  { name: 'StringEqualsIgnoreCase', holds: (has, wanted, context) => equal(has.toLowerCase(), wanted.toLowerCase(), context) },
  { name: 'StringLike', holds: likeIt },
  { name: 'StringNotLike', isNegated: true, holds: likeIt },
  { name: 'DateEquals', holds: date((has, wanted) => has === wanted) },
  { name: 'DateLessThan', holds: date((has, wanted) => has < wanted) },
  { name: 'DateLessThanEquals', holds: date((has, wanted) => has <= wanted) },
  { name: 'DateGreaterThan', holds: date((has, wanted) => has > wanted) },
  { name: 'DateGreaterThanEquals', holds: date((has, wanted) => has >= wanted) },
  { name: 'Bool', holds: (has, wanted) => has.toLowerCase() === wanted.toLowerCase() },
]
/** Condition keys that a session or a role may or may not have: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html */
const KEYS =
  /^iam:permissionsboundary$|^aws:(currenttime|tokenissuetime|sourceidentity|userid|username|principalarn|principalaccount|principaltag\/.+|requesttag\/.+)$/

/** @throws Malformed, FakeCannot */
export function parsePolicy(text: string): Statement[] {
  const policy = record(json(text), 'the document')
  onlyKeys(policy, ['Version', 'Statement'])
  if (policy.Version !== '2012-10-17') throw new Malformed('Version must be 2012-10-17')
  const statements = [policy.Statement].flat().map((raw) => record(raw, 'a statement'))
  if (statements.length === 0) throw new Malformed('no Statement')
  const sids = statements.flatMap(({ Sid }) => (Sid === undefined ? [] : [String(Sid)]))
  if (sids.some((sid) => !/^[A-Za-z0-9]*$/.test(sid))) throw new Malformed('Statement IDs (SID) must be alpha-numeric')
  if (new Set(sids).size < sids.length) throw new Malformed('Statement IDs (SID) in a single policy must be unique')
  return statements.map((one) => {
    onlyKeys(one, ['Sid', 'Effect', 'Action', 'NotAction', 'Resource', 'NotResource', 'Condition'])
    if (one.Effect !== 'Allow' && one.Effect !== 'Deny') throw new Malformed('Effect must be Allow or Deny')
    return {
      Effect: one.Effect,
      Action: choice(one, 'Action', /^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$/),
      Resource: choice(one, 'Resource', /^(\*|arn:[^:]+:[^:]*:[^:]*:[^:]*:.+)$/s),
      Condition: Object.entries(record(one.Condition ?? {}, 'Condition')).flatMap(([operator, values]) => tests(operator, values)),
    }
  })
}

/** What one set of policies says by itself: an explicit deny wins, and nothing is allowed that no statement allows. */
export function evaluate(statements: readonly Statement[], asked: Asked): Verdict {
  const matching = statements.filter((one) => matches(one, asked))
  if (matching.some(({ Effect }) => Effect === 'Deny')) return 'explicit deny'
  return matching.some(({ Effect }) => Effect === 'Allow') ? 'allow' : 'implicit deny'
}

/** A request needs an allow of each kind of policy that there is: those of the role, its boundary, those of the session. */
export function allows(kinds: readonly (readonly Statement[] | undefined)[], asked: Asked): boolean {
  return kinds.every((statements) => statements === undefined || evaluate(statements, asked) === 'allow')
}

function matches(statement: Statement, asked: Asked): boolean {
  const { action, resource, context } = asked
  const isAction = statement.Action.patterns.some((pattern) => like(pattern.toLowerCase(), action.toLowerCase(), context))
  const isResource = statement.Resource.patterns.some((pattern) => like(pattern, resource, context))
  if (isAction === statement.Action.isNegated || isResource === statement.Resource.isNegated) return false
  // Each is looked at, so that a key which this fake does not know is told of even where another decides.
  return statement.Condition.map((one) => holds(one, context)).every(Boolean)
}

function holds({ operator, ifExists, key, wanted }: Test, context: Asked['context']): boolean {
  const has = context[key]
  if (has === undefined && !KEYS.test(key)) throw new FakeCannot(`this fake does not know the condition key ${key}`)
  if (operator.name === 'Null') return wanted.some((one) => (one === 'true') === (has === undefined))
  if (has === undefined) return ifExists || operator.isNegated === true
  const some = wanted.some((one) => operator.holds(has, one, context))
  return operator.isNegated ? !some : some
}

function tests(text: string, values: unknown): Test[] {
  const ifExists = text.endsWith('IfExists')
  const name = ifExists ? text.slice(0, -'IfExists'.length) : text
  const operator = name === 'Null' ? { name, holds: () => false } : OPERATORS.find((one) => one.name === name)
  if (operator === undefined) throw new FakeCannot(`this fake does not know the operator ${text}`)
  return Object.entries(record(values, text)).map(([key, wanted]) => {
    const texts = textsOf(wanted, key, /^/)
    if (name.startsWith('Date') && texts.some((one) => Number.isNaN(timeOf(one)))) throw new Malformed(`${key}: not a date`)
    return { operator, ifExists, key: key.toLowerCase(), wanted: texts }
  })
}

/** Wildcards, and policy variables: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html */
function like(pattern: string, text: string, context: Asked['context']): boolean {
  const source = pattern.replace(/\$\{[^}]*\}|[\s\S]/g, (part) => {
    if (part === '*') return '[\\s\\S]*'
    if (part === '?') return '[\\s\\S]'
    return escaped(part.startsWith('$'.concat('{')) ? variable(part, context) : part)
  })
  return new RegExp(`^${source}$`).test(text)
}

function filled(text: string, context: Asked['context']): string {
  return text.replace(/\$\{[^}]*\}/g, (part) => variable(part, context))
}

function variable(part: string, context: Asked['context']): string {
  const name = part.slice(2, -1)
  if (['*', '?', '$'].includes(name)) return name
  const value = context[name.toLowerCase()]
  if (value === undefined) throw new FakeCannot(`this fake does not know the variable ${name}`)
  return value
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
}

function timeOf(text: string): number {
  return /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text)
}

function choice(statement: Record<string, unknown>, name: string, pattern: RegExp): Choice {
  const [plain, negated] = [statement[name], statement[`Not${name}`]]
  if ((plain === undefined) === (negated === undefined)) throw new Malformed(`one of ${name} and Not${name}`)
  return { isNegated: plain === undefined, patterns: textsOf(plain ?? negated, name, pattern) }
}

function textsOf(value: unknown, what: string, pattern: RegExp): string[] {
  const values = [value].flat()
  if (values.length === 0) throw new Malformed(`${what} is empty`)
  return values.map((one) => {
    if (typeof one !== 'string' || !pattern.test(one)) throw new Malformed(`${what} is not well-formed`)
    return one
  })
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Malformed('Syntax errors in policy.')
  }
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Malformed(`${what} is no object`)
  return { ...value }
}

function onlyKeys(value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) if (!known.includes(key)) throw new Malformed(`unknown element ${key}`)
}
