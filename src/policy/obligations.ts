import type { OnDeny } from '../types.js'

/** What a policy's annotations oblige to. */
export interface Obligations {
  readonly maxTtlSeconds?: number
  readonly maxLive?: number
  readonly stepUp?: StepUp
  readonly onDeny?: OnDeny
  readonly reason?: string
}
export interface StepUp {
  readonly group: string
  readonly approvals: number
}

/** @throws RangeError for what is not a whole number of at least 1, or nothing that can follow from a denial */
export function obligationsOf(annotations: Readonly<Record<string, string | null>>): Obligations {
  const { maxTtl, maxLive, stepUp, approvals, reason, onDeny } = annotations
  return {
    maxTtlSeconds: maxTtl == null ? undefined : count(maxTtl, '@maxTtl (seconds)'),
    maxLive: maxLive == null ? undefined : count(maxLive, '@maxLive'),
    stepUp: stepUp == null ? undefined : { group: stepUp, approvals: approvals == null ? 1 : count(approvals, '@approvals') },
    onDeny: onDeny == null ? undefined : onDenyOf(onDeny),
    reason: reason ?? undefined,
  }
}

/** The least, where any is given. */
export function least(values: readonly (number | undefined)[]): number | undefined {
  const given = values.filter((value) => value !== undefined)
  return given.length > 0 ? Math.min(...given) : undefined
}

/** Each group once, with the most of it that any asks for, sorted. */
export function unite(needs: readonly StepUp[]): StepUp[] {
  const most = new Map<string, number>()
  for (const { group, approvals } of needs) most.set(group, Math.max(approvals, most.get(group) ?? 0))
  return [...most].sort(([a], [b]) => (a < b ? -1 : 1)).map(([group, approvals]) => ({ group, approvals }))
}

function onDenyOf(text: string): OnDeny {
  if (text !== 'close-task' && text !== 'suspend-agent') throw new RangeError(`@onDeny is "close-task" or "suspend-agent", not "${text}"`)
  return text
}

function count(text: string, what: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new RangeError(`${what} is a whole number of at least 1, not "${text}"`)
  return Number(text)
}
