/** Of one act, the arguments of the script that counts it. */
export type Row = readonly (string | number)[]

/** What is counted goes out at once where nothing did lately, and waits for so long at most, so that a busy broker counts many things in one step. */
const WAIT_MS = 250
const MOST_ROWS = 200

/** What waits for one partition, with those who wait for its answers. */
interface Waiting<Rules> {
  readonly rules: Rules
  readonly rows: Row[]
  readonly told: { resolve(answer: unknown): void; reject(error: unknown): void }[]
  readonly timer: NodeJS.Timeout
}

/** Rows of one partition that come within a moment of each other go out together, in their order, and each has its own answer. */
export function gather<Rules>(send: (partition: number, rules: Rules, rows: readonly Row[]) => Promise<readonly unknown[]>) {
  /** State: what waits, and when something went out last (`performance.now()`), by partition. */
  const waiting = new Map<number, Waiting<Rules>>()
  const sentAt = new Map<number, number>()
  const flush = (partition: number): void => {
    const due = waiting.get(partition)
    if (!due) return
    waiting.delete(partition)
    clearTimeout(due.timer)
    sentAt.set(partition, performance.now())
    send(partition, due.rules, due.rows).then(
      (answers) => {
        for (const [index, { resolve }] of due.told.entries()) resolve(answers[index])
      },
      (error: unknown) => {
        for (const { reject } of due.told) reject(error)
      },
    )
  }
  const begin = (partition: number, rules: Rules): Waiting<Rules> => {
    const left = Math.max(0, (sentAt.get(partition) ?? 0) + WAIT_MS - performance.now())
    const due = { rules, rows: [], told: [], timer: setTimeout(flush, left, partition) }
    waiting.set(partition, due)
    return due
  }
  return {
    add(partition: number, rules: Rules, row: Row): Promise<unknown> {
      const before = waiting.get(partition)
      if (before && (before.rules !== rules || before.rows.length >= MOST_ROWS)) flush(partition)
      return new Promise((resolve, reject) => {
        const due = waiting.get(partition) ?? begin(partition, rules)
        due.rows.push(row)
        due.told.push({ resolve, reject })
      })
    },
  }
}
