import Table from 'cli-table3'
import type { Out } from './shell.js'

/** What came over the wire must not steer the terminal. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => (character === '\t' ? ' ' : `\\u${codeOf(character)}`))
}
function codeOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')
}

export function json(out: Out, value: unknown): void {
  out.write(`${JSON.stringify(value, null, 2)}\n`)
}

export function line(out: Out, text: string): void {
  out.write(`${plain(text)}\n`)
}

export function table(out: Out, head: readonly string[], rows: readonly (readonly (string | number | undefined)[])[]): void {
  const shown = new Table({ head: [...head], style: { head: [], border: [], compact: true } })
  for (const row of rows) shown.push(row.map((cell) => plain(String(cell ?? ''))))
  out.write(`${shown.toString()}\n`)
}

/** `4m 10s`, `-` when past. */
export function until(time: string, now = Date.now()): string {
  const left = Math.round((Date.parse(time) - now) / 1000)
  if (left <= 0) return '-'
  if (left < 60) return `${left}s`
  if (left < 3_600) return `${Math.floor(left / 60)}m ${left % 60}s`
  return `${Math.floor(left / 3_600)}h ${Math.floor((left % 3_600) / 60)}m`
}
