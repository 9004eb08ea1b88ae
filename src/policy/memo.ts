import { LRUCache } from 'lru-cache'
import type { Decision } from '../types.js'

/** Longer questions, as a caller may pose them, are answered and not remembered. */
const MAX_KEY = 8_192
/** A key is about 150 characters; this bounds the memory whatever callers ask. */
const MEAN_KEY = 512

/** Answers by question. The engine is a pure function, so they stay true for as long as the policies do. */
export class Memo {
  hits = 0
  misses = 0
  readonly #answers: LRUCache<string, Decision>

  constructor(size: number) {
    this.#answers = new LRUCache({ max: size, maxSize: size * MEAN_KEY, maxEntrySize: MAX_KEY, sizeCalculation: (_, key) => key.length })
  }

  get(key: string): Decision | undefined {
    const known = this.#answers.get(key)
    if (known) this.hits++
    else this.misses++
    return known
  }

  /** An answer that rests on an error is none to keep. */
  set(key: string, decision: Decision): void {
    if (decision.error === undefined) this.#answers.set(key, decision)
  }

  clear(): void {
    this.#answers.clear()
  }
}
