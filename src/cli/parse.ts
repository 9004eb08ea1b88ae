import { InvalidArgumentError } from 'commander'

const UNIT_SECONDS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3_600, d: 86_400 }

/** `90`, `90s`, `15m`, `1h`, `7d` -> seconds. */
export function seconds(text: string): number {
  const [, count, unit = ''] = /^(\d{1,8})(s|m|h|d)?$/.exec(text) ?? []
  const value = Number(count) * (UNIT_SECONDS[unit] ?? 1)
  if (!(value >= 1)) throw new InvalidArgumentError('give seconds, or a number with a unit: 90, 90s, 15m, 1h, 7d')
  return value
}

/** A duration from now, or an RFC 3339 time -> RFC 3339. */
export function deadline(text: string, now = Date.now()): string {
  if (/^\d{4}-/.test(text)) {
    const at = Date.parse(text)
    if (Number.isNaN(at)) throw new InvalidArgumentError('give a duration (15m) or a time (2030-01-31T12:00:00Z)')
    return new Date(at).toISOString()
  }
  return new Date(now + seconds(text) * 1000).toISOString()
}

/** An RFC 3339 time, or how long ago -> RFC 3339. */
export function past(text: string, now = Date.now()): string {
  if (!/^\d{4}-/.test(text)) return new Date(now - seconds(text) * 1000).toISOString()
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new InvalidArgumentError('give a time (2030-01-31T12:00:00Z) or how long ago (2h)')
  return new Date(at).toISOString()
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value]
}

/** `k=v`, several times; the same key again makes a list. */
export function pairs(text: string, before: Readonly<Record<string, string | string[]>> = {}): Record<string, string | string[]> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('give it as key=value')
  const key = text.slice(0, at)
  const value = text.slice(at + 1)
  const had = Object.hasOwn(before, key) ? before[key] : undefined
  return { ...before, [key]: had === undefined ? value : [had, value].flat() }
}

export function percent(text: string): number {
  if (!/^(100|\d{1,2})$/.test(text)) throw new InvalidArgumentError('give a whole number from 0 to 100')
  return Number(text)
}

export function fraction(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0 && value <= 1)) throw new InvalidArgumentError('give a number from 0 to 1')
  return value
}
