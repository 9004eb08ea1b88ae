import { partitionOfLease, type Store } from './store.js'

/** Leases by the partition that they are in, at most so many together, each once. Those that this ledger cannot have made are left out. */
export function leasesByPartition(store: Store, leases: Iterable<string>, most: number): [partition: number, leases: readonly string[]][] {
  const homes = new Map<number, string[]>()
  for (const id of new Set(leases)) {
    const home = partitionOfLease(store, id)
    if (home === undefined) continue
    const there = homes.get(home)
    if (there) there.push(id)
    else homes.set(home, [id])
  }
  return [...homes].flatMap(([partition, all]) =>
    Array.from({ length: Math.ceil(all.length / most) }, (_, n): [number, string[]] => [partition, all.slice(n * most, (n + 1) * most)]),
  )
}
