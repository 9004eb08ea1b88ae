/** What audit needs of the ledger's outbox, and may not import. */
export interface EventSource {
  hold(reader: string, ttlMs: number): Promise<number[]>
  read(partition: number, count: number): Promise<SourceEntry[]>
  confirm(partition: number, reader: string, streamId: string): Promise<boolean>
}
export interface SourceEntry {
  readonly partition: number
  /** `<ms>-<n>`: order within the partition, and the time on the ledger's clock. */
  readonly streamId: string
  /** The event as JSON text. */
  readonly json: string
}

/** Where events go for good. `write` answers only when they are there. */
export interface Sink {
  readonly name: string
  write(entries: readonly SourceEntry[]): Promise<void>
}

export interface Audit {
  /** Hands over what is in the outbox now; for shutdown and tests. */
  flush(): Promise<void>
  /** Partitions whose events this broker hands over now; those of the others, other brokers do. */
  held(): number
  stop(): Promise<void>
}

export interface AuditOptions {
  /** Names this reader, uniquely among brokers. */
  readonly reader: string
  readonly sinks: readonly Sink[]
  readonly pollMs?: number
  /** Before they are confirmed: whatever is trimmed has been there. */
  readonly beforeConfirmed?: (last: ReadonlyMap<number, string>) => void
  readonly onWritten: (sink: string, count: number) => void
  readonly onFailed: (sink: string, error: unknown) => void
}

const POLL_MS = 250
const HOLD_MS = 10_000
const BATCH = 500

/**
 * Moves events from the outbox to every sink, then trims the outbox. At least once: a broker that dies between the write and the
 * confirmation leaves entries that are written again, with the same partition and stream id. A sink that is down stops the trimming,
 * never the writing of new events, until the outbox's limit stops issuing.
 */
export function startAudit(source: EventSource, options: AuditOptions): Audit {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let wake: () => void = () => {}
  let held: { partitions: number[]; askAgainAt: number } | undefined

  /** One at a time: two would write the same entries. */
  let last: Promise<unknown> = Promise.resolve()
  const pump = (): Promise<boolean> => {
    const turn = last.then(handOver)
    last = turn.catch(() => undefined)
    return turn
  }
  const handOver = async (): Promise<boolean> => {
    if (!held || performance.now() >= held.askAgainAt) {
      const askAgainAt = performance.now() + HOLD_MS / 4
      held = { partitions: await source.hold(options.reader, HOLD_MS), askAgainAt }
    }
    const { partitions } = held
    const batches = await Promise.all(partitions.map((partition) => source.read(partition, BATCH)))
    const entries = batches.flat()
    if (entries.length === 0) return false
    for (const sink of options.sinks) {
      try {
        await sink.write(entries)
        options.onWritten(sink.name, entries.length)
      } catch (error) {
        options.onFailed(sink.name, error)
        return false
      }
    }
    const lasts = batches.flatMap((batch) => batch.at(-1) ?? [])
    options.beforeConfirmed?.(new Map(lasts.map(({ partition, streamId }) => [partition, streamId])))
    const confirmed = await Promise.all(batches.map((batch) => confirmLast(source, options.reader, batch)))
    if (confirmed.includes(false)) held = undefined
    return batches.some((batch) => batch.length === BATCH)
  }
  const loop = async (): Promise<void> => {
    while (!stopped) {
      // A ledger that cannot be reached is the ledger's to tell; here it only means: later.
      const more = await pump().catch(() => false)
      if (more || stopped) continue
      await new Promise<void>((resolve) => {
        wake = resolve
        timer = setTimeout(resolve, options.pollMs ?? POLL_MS)
      })
    }
  }
  const running = loop()
  return {
    flush: async () => {
      while (await pump());
    },
    held: () => held?.partitions.length ?? 0,
    stop: async () => {
      stopped = true
      clearTimeout(timer)
      wake()
      await running
    },
  }
}

/** @returns false when another reader holds the partition by now: what was written here, it writes again */
async function confirmLast(source: EventSource, reader: string, batch: readonly SourceEntry[]): Promise<boolean> {
  const last = batch.at(-1)
  return last === undefined || source.confirm(last.partition, reader, last.streamId)
}
