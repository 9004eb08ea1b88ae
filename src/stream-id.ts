/** Ids of Redis streams, `<ms>-<n>`: the order of events in one partition, and the time on the ledger's clock. '' is before all. */

export function isAfter(a: string, b: string): boolean {
  if (a === b || a === '') return false
  const [ms, n] = partsOf(a)
  const [otherMs, otherN] = partsOf(b)
  return ms > otherMs || (ms === otherMs && n > otherN)
}

export function partsOf(id: string): readonly [ms: number, n: number] {
  const at = id.indexOf('-')
  return at < 0 ? [0, 0] : [Number(id.slice(0, at)), Number(id.slice(at + 1))]
}
