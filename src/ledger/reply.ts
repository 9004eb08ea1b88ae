/** Answers of scripts, parsed: Redis sends strings, integers, nil and lists of these. */

export function listOf(reply: unknown): unknown[] {
  if (!Array.isArray(reply)) throw new TypeError(`the ledger's script answered ${typeof reply}, not a list`)
  return reply
}

export function textOf(reply: unknown): string {
  if (typeof reply === 'string') return reply
  if (typeof reply === 'number') return String(reply)
  return ''
}

export function numberOf(reply: unknown): number {
  const number = Number(reply)
  if (reply === null || reply === undefined || Number.isNaN(number))
    throw new TypeError(`the ledger's script answered ${String(reply)}, not a number`)
  return number
}

/** Field, value, field, value -> record. */
export function fieldsOf(reply: unknown): Record<string, string> {
  const list = listOf(reply)
  const fields: Record<string, string> = {}
  for (let i = 0; i < list.length; i += 2) fields[textOf(list[i])] = textOf(list[i + 1])
  return fields
}

/** A word that the script may have answered with. */
export function expected<Word extends string>(word: string, words: readonly Word[]): Word {
  const known = words.find((one) => one === word)
  if (known === undefined) throw new Error(`the ledger refused with "${word}", which is no refusal of this call`)
  return known
}
