import { isAfter } from '../stream-id.js'
import { listOf, textOf } from './reply.js'

/** How far a partition has come. */
export interface Standing {
  /** Stream id of the last event, `<ms>-<n>`; '' before the first. */
  readonly last: string
  /** Milliseconds up to which events are known to be written down outside Redis, rounded down; 0 before the first broker was there. */
  readonly mark: number
  /** Whether it is in quarantine, and by which freezes. */
  readonly quarantine: readonly string[]
}

/** What a broker remembers of the ledger where Redis cannot take it back: beside its audit log. Behind what is true is safe, ahead never is. */
export interface Outside {
  /** Of whoever remembers, unique. */
  readonly name: string
  kept(): Kept | undefined
  note(change: Partial<Omit<Kept, 'held'>>): Promise<void>
}
export interface Kept {
  /** Id of the ledger, made when it was. */
  readonly ledger: string
  /** Of the last quarantine for which this broker's log was read again; 1: there was none. */
  readonly generation: number
  /** When this broker last left its name in the ledger; 0: never. */
  readonly beat: number
  /** By partition, the last event that the log has. */
  readonly held: ReadonlyMap<number, string>
}

const NOTHING: Standing = { last: '', mark: 0, quarantine: [] }

/** What this broker knows of each partition, from every answer that says something of it. A Redis that says less is an older one, or an emptied one. */
export class Witness {
  /** State: the most that was seen. */
  private readonly most: Standing[]
  private readonly isKept: ((partition: number) => Promise<boolean>) | undefined

  /** `isKept`: whether what was answered in a partition up to now survives the loss of its primary. What may not is not remembered: its loss is no loss. */
  constructor(partitions: number, kept: Kept | undefined, isKept?: (partition: number) => Promise<boolean>) {
    this.isKept = isKept
    this.most = Array.from({ length: partitions }, (_, partition) => ({ ...NOTHING, last: kept?.held.get(partition) ?? '' }))
  }

  /** For the scripts that issue: they refuse where the partition's own mark is less. */
  mark(partition: number): number {
    return this.most[partition]?.mark ?? 0
  }

  saw(partition: number, last: string): void {
    this.onceKept(partition, () => this.remember(partition, last))
  }

  marked(partition: number, mark: number): void {
    this.onceKept(partition, () => this.rememberMark(partition, mark))
  }

  private onceKept(partition: number, remember: () => void): void {
    if (!this.isKept) remember()
    else
      void this.isKept(partition).then((isKept) => {
        if (isKept) remember()
      })
  }

  private remember(partition: number, last: string): void {
    const most = this.most[partition]
    if (most && isAfter(last, most.last)) this.most[partition] = { ...most, last }
  }

  private rememberMark(partition: number, mark: number): void {
    const most = this.most[partition]
    if (most && mark > most.mark) this.most[partition] = { ...most, mark }
  }

  /** As of now: an answer to what is asked afterwards cannot say less. */
  known(): readonly Standing[] {
    return [...this.most]
  }

  /** From now on, whatever was known before. */
  accept(partition: number, standing: Standing): void {
    this.most[partition] = standing
  }
}

export function isBehind(found: Standing, known: Standing | undefined): boolean {
  return known !== undefined && (isAfter(known.last, found.last) || found.mark < known.mark)
}

export function standingOf(reply: unknown): Standing {
  const [last, mark, quarantine] = listOf(reply).map(textOf)
  return { last: last ?? '', mark: Number(mark ?? 0), quarantine: (quarantine ?? '').split(' ').filter(Boolean) }
}
