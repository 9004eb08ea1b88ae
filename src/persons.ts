import type { Operator } from './types.js'

/** Every name by which the broker knows an operator, as names are compared: two accounts that share one are one person's. */
export function namesOfOperator({ id, subject, persons = [] }: Operator): Set<string> {
  return new Set([id, subject, ...persons].flatMap(namesOf))
}

/** `sso/ann` is ann too, on either side: the issuer's name before the person's is common in ids, and in what owners are called. */
export function namesOf(name: string): string[] {
  const whole = folded(name)
  return [whole, whole.slice(whole.lastIndexOf('/') + 1)].filter((one) => one !== '')
}

/** One text for what reads the same: case, compatible forms, and what is not seen at all, tell no two people apart. */
export function folded(name: string): string {
  const visible = name.normalize('NFKC').replace(/[\p{Cc}\p{Cf}\p{Z}]/gu, '')
  return visible.toUpperCase().toLowerCase().normalize('NFKC')
}
