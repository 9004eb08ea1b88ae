import { MayflyError } from '../errors.js'

const MAX_DEPTH = 16
const REFUSED_KEYS = new Set(['__proto__', 'constructor', 'prototype'])
const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])

/**
 * JSON that reads the same to everybody: no duplicate keys (RFC 8259 §4 leaves their meaning open), none that touch an object's prototype,
 * not deeper than 16. `JSON.parse` keeps the last of duplicate keys, so a text with more colons outside of its strings than the value has
 * keys held one.
 * @throws MayflyError `malformed`
 */
export function parseJson(text: string): unknown {
  const members = countMembers(text)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new MayflyError('malformed', 'the body is not valid JSON')
  }
  if (countKeys(value) !== members) throw new MayflyError('malformed', 'the body holds a duplicate key')
  return value
}

/** Members of all objects in the text; measures the depth before anything recurses. */
function countMembers(text: string): number {
  let members = 0
  let depth = 0
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === QUOTE) index = endOfString(text, index)
    else if (code === COLON) members++
    else if (OPEN.has(code) && ++depth > MAX_DEPTH) throw new MayflyError('malformed', `the body is nested more than ${MAX_DEPTH} deep`)
    else if (CLOSE.has(code)) depth--
  }
  return members
}

function endOfString(text: string, start: number): number {
  for (let index = start + 1; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === QUOTE) return index
    if (code === BACKSLASH) index++
  }
  return text.length
}

function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  let keys = 0
  if (Array.isArray(value)) {
    for (const item of value) keys += countKeys(item)
    return keys
  }
  for (const [key, item] of Object.entries(value)) {
    if (REFUSED_KEYS.has(key)) throw new MayflyError('malformed', 'the body holds a key that is not allowed')
    keys += 1 + countKeys(item)
  }
  return keys
}
