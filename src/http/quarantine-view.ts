import type * as api from '../api.js'
import type { Quarantine, QuarantineReport } from '../types.js'
import { timeView } from './view.js'

/** As an operator sees it. */
export function quarantineView(quarantine: Quarantine | 'lost' | undefined): api.Quarantine {
  if (quarantine === undefined) return { state: 'none' }
  if (quarantine === 'lost') return { state: 'lost' }
  const { generation, reason, at, since, by, behind, reads = [], lifted } = quarantine
  return {
    state: lifted ? 'lifted' : 'quarantined',
    generation,
    reason,
    entered_at: timeView(at),
    by: by || undefined,
    since: since > 0 ? timeView(since) : undefined,
    behind: behind.map(({ partition, found, known }) => ({ partition, found, known })),
    logs: reads.filter((one) => one.generation === generation).map(logView),
    lifted: lifted && { by: lifted.by, reason: lifted.reason, at: timeView(lifted.at) },
  }
}

function logView({ broker, at, from, to, gaps, applied, unknown, examples }: QuarantineReport) {
  const until = <T extends { readonly until?: number }>(one: T) => ({ ...one, until: one.until === undefined ? undefined : timeView(one.until) })
  return {
    broker,
    at: timeView(at),
    from: from === undefined ? undefined : timeView(from),
    to: to === undefined ? undefined : timeView(to),
    gaps: [...gaps],
    applied,
    unknown: unknown.map(until),
    examples: examples.map(until),
  }
}
