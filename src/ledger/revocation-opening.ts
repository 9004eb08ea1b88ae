import { randomInt } from 'node:crypto'
import type { EmergencyRevocation, Event, Selector, Verify } from '../types.js'
import { newId, partitionOf } from './keys.js'
import { matcherOf } from './selectors.js'
import type { StoreOptions } from './store.js'

/** What the home record of an emergency begins with. */
export interface Opening {
  readonly id: string
  readonly partition: number
  readonly selector: Selector
  readonly reason: string
  readonly by: string
  readonly freeze?: string
  readonly verify: Verify
  /** `revocation.started`, which says which it is. */
  readonly event: Event
}

export function openingOf(
  ask: { selector: Selector; reason: string; by: string; freeze?: string; verify?: Verify; id?: string },
  event: Event,
  { options }: { readonly options: StoreOptions },
): Opening {
  const { selector, reason, by, freeze, verify = 'none' } = ask
  matcherOf(selector)
  const id = ask.id ?? (freeze === undefined ? newId('revocation', randomInt(options.partitions)) : revocationOf(freeze))
  const partition = partitionOf(id, 'revocation', options.partitions)
  if (partition === undefined) throw new RangeError(`"${freeze}" is no id of a freeze`)
  return { id, partition, selector, reason, by, freeze, verify, event: { ...event, detail: { ...event.detail, revocation: id, freeze } } }
}

export function justOpened({ id, selector, reason, by, freeze, verify }: Opening, startedAt: number): EmergencyRevocation {
  const counts = { matched: 0, revoked: 0, expired: 0, pending: 0, failed: 0, providers: [] }
  return { id, selector, reason, by, startedAt, state: 'running', freeze, verify, ...counts }
}

/** The revocation that goes with a freeze: whoever sees the one finds the other. In the same partition. */
export function revocationOf(freeze: string): string {
  return freeze.replace(/^freeze_/, 'revocation_')
}
