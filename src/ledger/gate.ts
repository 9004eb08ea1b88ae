import { MayflyError } from '../errors.js'
import { asLedgerError, type Log, messageOf, RETRY_AFTER_SECONDS } from './connection.js'
import type { Store } from './store.js'

/** A ledger that came back and cannot be used, or not all of it, is looked at again this much later. */
const AGAIN_MS = 1_000

export interface Gate {
  /** Undefined: nothing is in the way. Rejects while the partition, or the ledger, cannot be used. */
  readonly wait: Store['readyToIssue']
  /** What a start found. */
  began(unreachable: readonly number[]): void
  /** Something came back: nothing is issued until it is as the others are. */
  close(): void
  stop(): void
}
export interface GateOptions {
  /** Makes what came back fit to be issued on; answers the partitions that it could not do that for. */
  open(): Promise<readonly number[]>
  opened(): void
  /** After it could not be opened at all. */
  again(): void
  readonly log: Log
}

/** Whether something may be issued: not before freezes are in every partition that issues. */
export function createGate({ open, opened, again, log }: GateOptions): Gate {
  /** State: what all wait for, and the partitions that are not open. */
  let opening: Promise<void> | undefined
  let shut: ReadonlySet<number> = new Set()
  let timer: NodeJS.Timeout | undefined
  let isOver = false

  const leave = (unreachable: readonly number[]): void => {
    shut = new Set(unreachable)
    if (shut.size > 0 && !isOver) timer = setTimeout(openRest, AGAIN_MS).unref()
  }
  /** The others go on meanwhile. */
  const openRest = (): void => {
    open().then(
      (unreachable) => {
        if (!opening) leave(unreachable)
      },
      () => {
        if (!opening) leave([...shut])
      },
    )
  }
  const refuseShut = (partition: number): Promise<void> | undefined => (shut.has(partition) ? Promise.reject(notOpen(partition)) : undefined)
  const close = (): void => {
    clearTimeout(timer)
    const mine: Promise<void> = open().then(
      (unreachable) => {
        if (opening !== mine) return
        opening = undefined
        leave(unreachable)
        opened()
      },
      (error: unknown) => {
        if (opening === mine && !isOver) {
          log('error', 'the ledger cannot be used as it came back; issuing waits for the next connection', { error: messageOf(error) })
          timer = setTimeout(again, AGAIN_MS).unref()
        }
        throw asLedgerError(error)
      },
    )
    mine.catch(() => undefined)
    opening = mine
  }
  return {
    wait: (partition) => {
      if (opening) return opening.then(() => refuseShut(partition))
      return shut.size === 0 ? undefined : refuseShut(partition)
    },
    began: leave,
    close,
    stop: () => {
      isOver = true
      clearTimeout(timer)
    },
  }
}

function notOpen(partition: number): MayflyError {
  return new MayflyError('ledger_unavailable', 'a part of the ledger is unavailable', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    internal: `partition ${partition} could not be brought up to the freezes of the others`,
  })
}
