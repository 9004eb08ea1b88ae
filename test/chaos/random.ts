import { createHash } from 'node:crypto'

/** Numbers that follow from a text alone, so that a run can be had again. Never for anything that has to be unguessable. */
export interface Random {
  /** 0 <= x < 1 */
  next(): number
  between(from: number, to: number): number
  pick<T>(from: readonly [T, ...T[]]): T
  shuffled<T>(list: readonly T[]): T[]
}

/** `name` tells streams of one seed apart: what is drawn for one part of a plan moves nothing in another. */
export function randomOf(seed: number, name: string): Random {
  let state = createHash('sha256').update(`${seed} ${name}`).digest().readUInt32LE(0)
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    between: (from, to) => from + next() * (to - from),
    pick: (from) => from[Math.floor(next() * from.length)] ?? from[0],
    shuffled: (list) => {
      const order = list.map((one) => ({ one, place: next() }))
      return order.sort((a, b) => a.place - b.place).map(({ one }) => one)
    },
  }
}
