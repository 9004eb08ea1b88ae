const MAX_DEPTH = 16
const FORBIDDEN_NAMES = new Set(['__proto__', 'constructor', 'prototype'])
const LONE_SURROGATE = /\p{Surrogate}/u
/** Every string literal of a JSON text that is known to be valid, and the colon that makes it a member name. */
const STRING_LITERAL = /"[^"\\]*(?:\\.[^"\\]*)*"\s*(:)?/g

export type JsonObject = Readonly<Record<string, unknown>>

/**
 * Parses an object as two parsers that disagree would not: no duplicate member names (RFC 7515 §4, RFC 7519 §4: `JSON.parse` keeps the last,
 * others the first), no names that reach a prototype, well-formed strings, bounded depth. Throws an `Error` whose message is our own words.
 */
export function parseStrictObject(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Error('is not JSON')
  }
  if (!isObject(value)) throw new Error('is not a JSON object')
  // Parsing drops duplicates, so a text without any names exactly as many members as the tree has.
  let named = 0
  for (const literal of text.matchAll(STRING_LITERAL)) if (literal[1] !== undefined) named++
  if (inspect(value, 0) !== named) throw new Error('names a member twice')
  return value
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isWellFormed(text: string): boolean {
  return !LONE_SURROGATE.test(text)
}

/** Checks the tree and counts its members. */
function inspect(value: unknown, depth: number): number {
  if (typeof value === 'string' && !isWellFormed(value)) throw new Error('holds malformed Unicode')
  if (typeof value !== 'object' || value === null) return 0
  if (depth === MAX_DEPTH) throw new Error('is nested too deep')
  let members = 0
  if (Array.isArray(value)) {
    for (const item of value) members += inspect(item, depth + 1)
    return members
  }
  for (const [name, member] of Object.entries(value)) {
    if (FORBIDDEN_NAMES.has(name)) throw new Error('holds a forbidden member name')
    if (!isWellFormed(name)) throw new Error('holds malformed Unicode')
    members += 1 + inspect(member, depth + 1)
  }
  return members
}
