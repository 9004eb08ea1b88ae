import type { Claims } from './presets.js'

const PLACEHOLDER = /\{([^{}]*)\}/g
const MAX_ID_LENGTH = 256
/** What would let a value pass for a part of the template, of a pattern or of a key. */
const UNSAFE_IN_VALUE = /[/:*{}"'`\\\p{C}\p{Z}]/u
const UNSAFE_IN_TEXT = /[*{}"'`\\\p{C}\p{Z}]/u

export type Filled = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string }

export interface Template {
  readonly claims: readonly string[]
  fill(claims: Claims): Filled
}

/** `"triage/{namespace}"`. Throws an `Error` on a template that two different tokens could fill alike. */
export function compileTemplate(template: string): Template {
  const text = template.replace(PLACEHOLDER, '')
  if (template === '' || template.length > MAX_ID_LENGTH || UNSAFE_IN_TEXT.test(text)) {
    throw new Error(`must be 1 to ${MAX_ID_LENGTH} printable characters without spaces, quotes, "*" and stray braces`)
  }
  const claims = [...template.matchAll(PLACEHOLDER)].map(([, claim = '']) => claim)
  if (claims.includes('')) throw new Error('"{}" names no claim')
  if (template.split('/').some((segment) => [...segment.matchAll(PLACEHOLDER)].length > 1)) {
    throw new Error('may have one {claim} between two "/", or two tokens could be given the same id')
  }
  return { claims, fill: (values) => fill(template, claims, values) }
}

/** A single claim as a value of an id: present, one string, and of harmless characters. */
export function idValue(claim: string, claims: Claims): Filled {
  const value = claims.get(claim)
  if (typeof value !== 'string' || value === '') return { ok: false, reason: `the token has no single "${claim}"` }
  if (value.length > MAX_ID_LENGTH || UNSAFE_IN_VALUE.test(value)) {
    return { ok: false, reason: `"${claim}" holds what an id may not: "/", ":", "*", a brace, a quote, a space or a control character` }
  }
  return { ok: true, text: value }
}

function fill(template: string, names: readonly string[], claims: Claims): Filled {
  const values = new Map<string, string>()
  for (const name of names) {
    const value = idValue(name, claims)
    if (!value.ok) return value
    values.set(name, value.text)
  }
  const text = template.replace(PLACEHOLDER, (_, name: string) => values.get(name) ?? '')
  return text.length <= MAX_ID_LENGTH ? { ok: true, text } : { ok: false, reason: `the id would be longer than ${MAX_ID_LENGTH} characters` }
}
