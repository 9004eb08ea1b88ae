export const KINDS = ['live', 'orphans', 'lost', 'falsely_reported'] as const
export type ViolationKind = (typeof KINDS)[number] | 'crashed'

/** One broken promise: what, about which task, lease or freeze, and why it is said. */
export interface Violation {
  readonly kind: ViolationKind
  readonly what: string
  readonly id: string
  readonly detail?: string
}

export function timeOf(ms: number | undefined): string {
  return ms === undefined ? 'never' : new Date(ms).toISOString().slice(11, 23)
}
