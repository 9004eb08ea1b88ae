/**
 * Part of the FAKE of Google: evaluates the conditions of access boundaries. A small interpreter of CEL, as its language definition has it:
 * strings of all kinds, `!`, `==`, `!=`, `&&`, `||`, and the string functions that IAM documents.
 * https://github.com/google/cel-spec/blob/master/doc/langdef.md
 */
export interface Facts {
  readonly resource: { readonly name: string; readonly type: string; readonly service: string }
  readonly attributes: Readonly<Record<string, string>>
}
type Value = string | boolean

/** @throws Error for what is no CEL, or more than is known here */
export function evaluate(expression: string, facts: Facts): boolean {
  const tokens = tokensOf(expression)
  let at = 0
  const peek = (): Token | undefined => tokens[at]
  const isNext = (symbol: string): boolean => peek()?.kind === 'symbol' && peek()?.text === symbol
  const take = (symbol: string): void => {
    if (!isNext(symbol)) throw new Error(`expected ${symbol}`)
    at++
  }
  const or = (): Value => {
    let left = and()
    while (isNext('||')) {
      at++
      const right = truth(and())
      left = truth(left) || right
    }
    return left
  }
  const and = (): Value => {
    let left = relation()
    while (isNext('&&')) {
      at++
      const right = truth(relation())
      left = truth(left) && right
    }
    return left
  }
  const relation = (): Value => {
    const left = unary()
    if (isNext('==') || isNext('!=')) {
      const equal = tokens[at++]?.text === '=='
      return (left === unary()) === equal
    }
    return left
  }
  const unary = (): Value => {
    if (!isNext('!')) return member()
    at++
    return !truth(unary())
  }
  const member = (): Value => {
    let value = primary()
    while (isNext('.')) {
      at++
      const name = word()
      const [argument] = call()
      const [text, other] = [texts(value), texts(argument)]
      if (name === 'startsWith') value = text.startsWith(other)
      else if (name === 'endsWith') value = text.endsWith(other)
      else if (name === 'contains') value = text.includes(other)
      else throw new Error(`no function ${name}`)
    }
    return value
  }
  const primary = (): Value => {
    const token = tokens[at++]
    if (token?.kind === 'string') return token.text
    if (token?.kind === 'symbol' && token.text === '(') {
      const inner = or()
      take(')')
      return inner
    }
    if (token?.kind !== 'word') throw new Error('expected a value')
    if (token.text === 'true' || token.text === 'false') return token.text === 'true'
    take('.')
    const name = word()
    if (token.text === 'resource' && (name === 'name' || name === 'type' || name === 'service')) return facts.resource[name]
    if (token.text !== 'api' || name !== 'getAttribute') throw new Error(`undeclared reference ${token.text}.${name}`)
    const [key, otherwise] = call()
    return facts.attributes[texts(key)] ?? texts(otherwise)
  }
  const word = (): string => {
    const token = tokens[at++]
    if (token?.kind !== 'word') throw new Error('expected a name')
    return token.text
  }
  const call = (): Value[] => {
    const values: Value[] = []
    take('(')
    while (!isNext(')')) {
      if (values.length > 0) take(',')
      values.push(or())
    }
    take(')')
    return values
  }
  const result = truth(or())
  if (at !== tokens.length) throw new Error('something is left over')
  return result
}

interface Token {
  readonly kind: 'string' | 'word' | 'symbol'
  readonly text: string
}
const STRING = /([rR]?)('''[\s\S]*?'''|"""[\s\S]*?"""|'(?:[^'\\\r\n]|\\[\s\S])*'|"(?:[^"\\\r\n]|\\[\s\S])*")/y
const RAW = /[rR](?:'''([\s\S]*?)'''|"""([\s\S]*?)"""|'([^'\r\n]*)'|"([^"\r\n]*)")/y
const REST = /(?<word>[A-Za-z_]\w*)|(?<symbol>\|\||&&|==|!=|[!().,])|(?<blank>\s+|\/\/[^\n]*)/y

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (found) at = pattern.lastIndex
    return found
  }
  while (at < text.length) {
    const raw = match(RAW)
    if (raw) {
      tokens.push({ kind: 'string', text: raw.slice(1).find((one) => one !== undefined) ?? '' })
      continue
    }
    const string = match(STRING)
    if (string?.[2] !== undefined) {
      const quotes = /^('''|""")/.test(string[2]) ? 3 : 1
      tokens.push({ kind: 'string', text: unescaped(string[2].slice(quotes, -quotes)) })
      continue
    }
    const rest = match(REST)
    if (!rest?.groups) throw new Error(`no token at ${at}`)
    if (rest.groups.word !== undefined) tokens.push({ kind: 'word', text: rest.groups.word })
    if (rest.groups.symbol !== undefined) tokens.push({ kind: 'symbol', text: rest.groups.symbol })
  }
  return tokens
}

const ESCAPES: Readonly<Record<string, string>> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }
function unescaped(text: string): string {
  return text.replace(/\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-3][0-7]{2}|[\s\S])/g, (_, code: string) => {
    if (/^[xXuU]./.test(code)) return String.fromCodePoint(Number.parseInt(code.slice(1), 16))
    if (/^[0-7]{3}$/.test(code)) return String.fromCodePoint(Number.parseInt(code, 8))
    if ('\\?"\'`'.includes(code)) return code
    const known = ESCAPES[code]
    if (known === undefined) throw new Error(`no escape ${code}`)
    return known
  })
}

function truth(value: Value): boolean {
  if (typeof value !== 'boolean') throw new Error('no matching overload')
  return value
}

function texts(value: Value | undefined): string {
  if (typeof value !== 'string') throw new Error('no matching overload')
  return value
}
