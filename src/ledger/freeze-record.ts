import { randomUUID } from 'node:crypto'
import { MayflyError } from '../errors.js'
import type { Event, Freeze } from '../types.js'

/** A freeze in force, or the tombstone of one. */
export interface Held {
  readonly frozen: boolean
  readonly freeze: Freeze
  /** Whose it is, where that is kept. */
  readonly thaw?: Thaw
}
interface Thaw {
  readonly reason: string
  readonly by: string
}

/** Of one that was found, and is not told of where it should be. */
export function eventOf({ frozen, freeze, thaw }: Held): Event {
  const { selector, reason, kind, by } = freeze
  const detail = { selector, kind, ...(frozen ? { reason, by } : thaw) }
  return named({ id: randomUUID(), type: frozen ? 'freeze.set' : 'freeze.thawed', detail }, freeze)
}

/** Its event says which it is, and how new: what was frozen can be told from the record alone. */
export function named(event: Event, { id, generation }: Freeze): Event {
  return { ...event, detail: { ...event.detail, freeze: id, generation } }
}

/** What stands behind `<F or T><generation> `. */
export function jsonOf({ freeze, thaw }: Omit<Held, 'frozen'>): string {
  const { selector, reason, by, at, kind } = freeze
  return JSON.stringify({ selector, reason, by, at, kind, thaw })
}

/** `<F or T><generation> <json>` */
export function heldOf(id: string, text: string): Held {
  const [, kind, generation, json] = /^([FT])(\d+) (.*)$/s.exec(text) ?? []
  if (kind === undefined || json === undefined) throw new MayflyError('internal', 'the ledger holds a freeze that cannot be read', { internal: id })
  const { thaw, ...stored } = JSON.parse(json) as Pick<Freeze, 'selector' | 'reason' | 'by' | 'at' | 'kind'> & Pick<Held, 'thaw'>
  return { frozen: kind === 'F', freeze: { id, generation: Number(generation), ...stored }, thaw }
}
