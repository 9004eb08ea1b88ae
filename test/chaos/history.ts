import { createWriteStream } from 'node:fs'
import type { OperationKind } from './plan.js'

/** What somebody asked of a broker, and what they know of it. Times are milliseconds since 1970 that never go back. */
export interface Operation {
  readonly id: number
  readonly kind: OperationKind | 'introspect'
  readonly broker: number
  readonly from: number
  readonly about: About
  until?: number
  /** `unknown`: no answer, so that it may have happened, or happen yet. */
  outcome: 'ok' | 'refused' | 'unknown'
  status?: number
  /** Of the answer, by which its events know it. */
  request?: string
  /** Of a refusal: the code, and the event that it points at. */
  code?: string
  event?: string
  answer?: Known
}
export interface About {
  readonly task?: string
  readonly agent?: string
  readonly role?: string
  readonly lease?: string
  readonly freeze?: string
  readonly key?: string
  readonly selector?: Readonly<Record<string, readonly string[]>>
}
/** What of an answer matters afterwards; never a secret. */
export interface Known {
  readonly task?: string
  readonly state?: string
  readonly lease?: { readonly id: string; readonly state: string; readonly expiresAt: number }
  readonly leases?: readonly { readonly id: string; readonly state: string }[]
  readonly freeze?: string
  readonly revocation?: string
  readonly unreachable?: number
}
/** A credential was tried. */
export interface Trial {
  readonly lease: string
  readonly from: number
  readonly until: number
  /** `unknown`: the upstream did not say. */
  readonly result: 'works' | 'refused' | 'unknown'
  /** `mended`: nothing is broken any more, and what was closing has settled. `last`: every task has ended besides. */
  readonly phase?: 'mended' | 'last'
}

export interface History {
  readonly operations: Operation[]
  readonly trials: Trial[]
  invoke(kind: Operation['kind'], broker: number, about: About): Operation
  returned(operation: Operation, what: Pick<Operation, 'outcome' | 'status' | 'request' | 'code' | 'event' | 'answer'>): void
  tried(trial: Trial): void
  /** What is broken when, and what else helps to read the rest. */
  note(line: object): void
  close(): Promise<void>
}

export function now(): number {
  return performance.timeOrigin + performance.now()
}

/** Appended to a file as it happens: a line when something is asked, and one when it is answered or given up. */
export function startHistory(path: string): History {
  const file = createWriteStream(path, { flags: 'a', mode: 0o600 })
  const line = (what: object) => file.write(`${JSON.stringify(what)}\n`)
  const operations: Operation[] = []
  const trials: Trial[] = []
  return {
    operations,
    trials,
    invoke(kind, broker, about) {
      const operation: Operation = { id: operations.length, kind, broker, from: now(), about, outcome: 'unknown' }
      operations.push(operation)
      line({ asked: operation.id, kind, broker, at: operation.from, about })
      return operation
    },
    returned(operation, what) {
      Object.assign(operation, { until: now() }, what)
      line({ answered: operation.id, at: operation.until, ...what })
    },
    tried(trial) {
      trials.push(trial)
      line({ trial })
    },
    note: line,
    close: () => new Promise((resolve) => file.end(() => resolve())),
  }
}
