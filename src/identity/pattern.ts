const DELIMITER = /([/:])/

export type Matcher = (value: string) => boolean

/**
 * Compiles a claim pattern: exact text in which `*` stands for one or more characters other than `/` and `:`. Linear in the value, without
 * regular expressions, so that no configuration makes matching slow. Throws an `Error` on a pattern that has no meaning.
 */
export function compilePattern(pattern: string): Matcher {
  if (pattern === '') throw new Error('must not be empty')
  if (pattern.includes('**')) throw new Error('"**" has no meaning: "*" never crosses "/" or ":"')
  if (!pattern.includes('*')) return (value) => value === pattern
  // `*` can't hold a delimiter, so the delimiters of pattern and value correspond one by one, and so do the parts between them.
  const parts = pattern.split(DELIMITER).map((part) => part.split('*'))
  return (value) => {
    const values = value.split(DELIMITER)
    return values.length === parts.length && parts.every((literals, index) => matchesPart(literals, values[index] ?? ''))
  }
}

/** `literals` are what stands around the stars; each star takes as little as it can, but at least one character. */
function matchesPart(literals: readonly string[], value: string): boolean {
  const [first = '', ...rest] = literals
  const last = rest.pop()
  if (last === undefined) return value === first
  if (!value.startsWith(first)) return false
  let at = first.length
  for (const literal of rest) {
    const found = value.indexOf(literal, at + 1)
    if (found === -1) return false
    at = found + literal.length
  }
  return value.length - last.length > at && value.endsWith(last)
}
