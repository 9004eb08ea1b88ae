import { ProviderError } from '../provider.js'

/**
 * The part of CEL that Google documents for Credential Access Boundaries: comparisons of the resource, and of what is listed, with text,
 * joined by `||`, `&&` and parentheses. https://docs.cloud.google.com/iam/docs/downscoping-short-lived-credentials
 *
 * A condition that a request's scope goes into is read into this form, filled there and written out anew: no value is ever put into the
 * text of an expression. Nothing in it negates, so that less scope never allows more.
 */
export type Condition =
  | { readonly any: readonly Condition[] }
  | { readonly all: readonly Condition[] }
  | { readonly subject: string; readonly test: 'startsWith' | '=='; readonly value: string }

/** @throws ProviderError `invalid` for whatever else CEL may be able to say */
export function readCondition(text: string): Condition {
  const tokens = tokensOf(text)
  let at = 0
  const next = (): string => tokens[at++] ?? ''
  const take = (...wanted: string[]): void => {
    for (const one of wanted) if (next() !== one) throw notUnderstood()
  }
  const list = (operator: string, item: () => Condition): Condition[] => {
    const items = [item()]
    while (tokens[at] === operator) {
      at++
      items.push(item())
    }
    return items
  }
  const any = (): Condition => one('any', list('||', all))
  const all = (): Condition => one('all', list('&&', term))
  const term = (): Condition => {
    if (tokens[at] !== '(') return comparison()
    at++
    const inner = any()
    take(')')
    return inner
  }
  const comparison = (): Condition => {
    const subject = subjectOf()
    if (next() === '==') return { subject, test: '==', value: stringOf(next()) }
    at--
    take('.', 'startsWith', '(')
    const value = stringOf(next())
    take(')')
    return { subject, test: 'startsWith', value }
  }
  const subjectOf = (): string => {
    const root = next()
    take('.')
    const member = next()
    if (root === 'resource' && ['name', 'type', 'service'].includes(member)) return `resource.${member}`
    if (root !== 'api' || member !== 'getAttribute') throw notUnderstood()
    take('(')
    const attribute = stringOf(next())
    take(',')
    const otherwise = stringOf(next())
    take(')')
    return `api.getAttribute(${literal(attribute)}, ${literal(otherwise)})`
  }
  const condition = any()
  if (at !== tokens.length) throw notUnderstood()
  return condition
}

/** The same condition, with each text replaced by those that `fill` makes of it; several mean any of them. */
export function fillCondition(condition: Condition, fill: (value: string) => readonly string[]): Condition {
  if ('any' in condition) return { any: condition.any.map((inner) => fillCondition(inner, fill)) }
  if ('all' in condition) return { all: condition.all.map((inner) => fillCondition(inner, fill)) }
  return one(
    'any',
    fill(condition.value).map((value) => ({ ...condition, value })),
  )
}

export function writeCondition(condition: Condition): string {
  if ('any' in condition) return `(${condition.any.map(writeCondition).join(' || ')})`
  if ('all' in condition) return `(${condition.all.map(writeCondition).join(' && ')})`
  const { subject, test, value } = condition
  return test === '==' ? `${subject} == ${literal(value)}` : `${subject}.startsWith(${literal(value)})`
}

/** Every text that something is compared with. */
export function comparisonsOf(condition: Condition): { readonly test: 'startsWith' | '=='; readonly value: string }[] {
  if ('any' in condition) return condition.any.flatMap(comparisonsOf)
  if ('all' in condition) return condition.all.flatMap(comparisonsOf)
  return [condition]
}

function one(kind: 'any' | 'all', items: readonly Condition[]): Condition {
  const [first] = items
  if (first !== undefined && items.length === 1) return first
  return kind === 'any' ? { any: items } : { all: items }
}

/** Words, operators and plain strings: a raw or triple-quoted string ends up as two tokens, which no rule takes. */
const TOKEN = /\s*(\|\||&&|==|[(),.]|[A-Za-z_]\w*|'(?:[^'\\\r\n]|\\.)*'|"(?:[^"\\\r\n]|\\.)*")/y

function tokensOf(text: string): string[] {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  const end = text.trimEnd().length
  while (TOKEN.lastIndex < end) {
    const token = TOKEN.exec(text)?.[1]
    if (token === undefined) throw notUnderstood()
    tokens.push(token)
  }
  return tokens
}

function stringOf(token: string): string {
  if (!/^['"]/.test(token)) throw notUnderstood()
  return token.slice(1, -1).replace(/\\(.)/g, (_, escaped: string) => {
    if (!`\\'"`.includes(escaped)) throw notUnderstood()
    return escaped
  })
}

/** https://github.com/google/cel-spec/blob/master/doc/langdef.md#string-and-bytes-values */
function literal(text: string): string {
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(text)) throw new ProviderError('invalid', 'a text in the access boundary has a control character')
  return `'${text.replace(/[\\']/g, '\\$&')}'`
}

function notUnderstood(): ProviderError {
  return new ProviderError(
    'invalid',
    'a condition with a placeholder may hold resource.name, resource.type, resource.service and api.getAttribute(…, …), each with .startsWith(…) or ==, joined by ||, && and parentheses',
  )
}
