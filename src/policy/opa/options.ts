import type { PolicyOptions } from '../options.js'

/** An Open Policy Agent that decides: where it is, and how it is asked. */
export interface OpaOptions extends Pick<PolicyOptions, 'vocabulary'> {
  readonly engine: 'opa'
  readonly url: string
  /** Of the decision document, below `/v1/data/`: `mayfly/decision`. */
  readonly path: string
  /** For one question, waiting for its turn included. */
  readonly timeoutMs: number
  /** Questions at once. */
  readonly concurrency: number
  /** Sent as `Authorization: Bearer`. */
  readonly token?: string
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca?: string
  readonly allowHttpLoopback?: boolean
  readonly allowPrivateAddresses?: boolean
  /** Most answers remembered at once, of those that say for how long they may be. Absent or 0: none is. */
  readonly memoSize?: number
  /** How often it is asked which policies it has, where somebody wants to know. */
  readonly watchMs: number
  /** Operators of these groups may freeze and revoke also while it has no answer: a stop must not wait for anything. */
  readonly stop: readonly string[]
  /** Groups whose consent may be asked for: nobody of another could ever give it. */
  readonly known: Pick<PolicyOptions['known'], 'groups'>
}

export type EngineOptions = PolicyOptions | OpaOptions

export function isOpa(options: EngineOptions): options is OpaOptions {
  return 'engine' in options
}
